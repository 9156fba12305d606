"""Maps of stored embeddings, colored by a label, and similarity of experts."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from enecg.errors import UserError
from pipeline.datasets.registry import open_dataset
from pipeline.embedding_maps.class_names import name_classes
from pipeline.embedding_maps.projection import Method, project
from pipeline.embedding_maps.sample import draw_records, read_standardized
from pipeline.embedding_maps.selection import select_stores, store_names
from pipeline.embedding_maps.similarity import linear_cka
from pipeline.report.table import Table


@dataclass(frozen=True)
class MapOptions:
    """Options of `plot_stores`.

    Attributes:
        experts: Experts to map; all if empty.
        color: Column of the data set's label table; None for no color.
        sample: Maximum number of records to read, drawn at random.
        method: ``pca`` or ``umap``.
        seed: Seed of the sample and of the method.
    """

    experts: tuple[str, ...] = ()
    color: str | None = None
    sample: int = 2000
    method: Method = "pca"
    seed: int = 0


def plot_stores(
    url: str | Path,
    out: str | Path,
    *,
    dataset: str | None = None,
    options: MapOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Table:
    """Write a page with a map of each expert's embeddings and the similarity of the experts.

    Only the embeddings of a sample of records are read. Labels are read from the data set, because
    stores do not contain them.

    Args:
        url: Root of the stores, or one store.
        out: HTML file to write.
        dataset: Spec of the data set of the stores and labels. Required for a color. Default: the
            only data set of the stores.
        options: Experts, label, sample and method. Default: `MapOptions()`.
        progress: Called as ``progress(done, total)`` with counts of stores.

    Returns:
        Table of the linear CKA of each pair of stores.

    Raises:
        UserError: No store matches, the stores belong to several data sets or share too few
            records, the data set, label or method is unavailable, or the file is not writable.
        StoreError: There is no store at `url`, or a store cannot be opened or read.
    """
    # Imported here because a search for neighbors does not need matplotlib.
    from pipeline.report.embedding_map_page import EmbeddingMap, render_map_page, similarity_table
    from pipeline.report.formats import write_html

    options = options or MapOptions()
    path = Path(out).expanduser()
    if not path.parent.is_dir():
        raise UserError(f"{path} cannot be written: {path.parent} is not a folder; change --out.")
    if options.color is not None and dataset is None:
        raise UserError("--color requires --dataset, because the stores contain no labels.")
    source = None if dataset is None else open_dataset(dataset)
    stores = select_stores(url, None if source is None else source.namespace, options.experts)
    record_id, is_sample = draw_records(stores, options.sample, options.seed)
    color = None
    if options.color is not None and source is not None:
        labels = source.labels()
        if options.color not in labels:
            raise UserError(
                f"{source.namespace} has no label {options.color!r}; available: "
                f"{', '.join(map(str, labels.columns))}."
            )
        color = name_classes(labels[options.color].reindex(pd.Index(record_id)))
    maps, embeddings = [], []
    for number, (name, store) in enumerate(zip(store_names(stores), stores, strict=True)):
        embedding = read_standardized(store, record_id)
        maps.append(
            EmbeddingMap(
                name,
                store.provenance["weights"],
                *project(embedding, options.method, options.seed),
            )
        )
        embeddings.append(embedding)
        if progress is not None:
            progress(number + 1, len(stores))
    namespace = stores[0].provenance["dataset"]
    table = similarity_table([embedding_map.name for embedding_map in maps], linear_cka(embeddings))
    drawn = (
        f"drawn at random (seed {options.seed})"
        if is_sample
        else "all that have embeddings in every store"
    )
    summary = f"{len(record_id):,} records of {namespace}, {drawn}; features standardized."
    write_html(render_map_page(namespace, maps, table, summary, color), path, private=False)
    return table
