"""`enecg store plot` and `enecg store neighbors`: maps and nearest neighbors of embeddings."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from flows import parameters as p
from flows.output import log_to_stderr, print_text
from flows.progress import progress_bar
from flows.tables import format_table

if TYPE_CHECKING:
    import pandas as pd

Url = Annotated[str, Parameter(help="Folder or URL of a root of stores, or of one store.")]
LabelSource = Annotated[
    str | None,
    Parameter(
        group=p.DATA,
        help="Data set as SOURCE:FOLDER, which selects its stores and provides labels.",
    ),
]
Experts = Annotated[
    tuple[str, ...],
    Parameter(
        group=p.STORES,
        help="Experts to use, comma-separated; by default all that have a store.",
    ),
]


def plot(
    url: Url,
    /,
    *,
    out: Annotated[Path, Parameter(group=p.OUTPUT, help="HTML file to write.")],
    dataset: LabelSource = None,
    color: Annotated[
        str | None,
        Parameter(group=p.DATA, help="Label that colors the points, such as age or diagnosis."),
    ] = None,
    experts: Experts = (),
    sample: Annotated[
        int, *p.number("Maximum number of records, drawn at random.", p.DATA, ge=10, le=20_000)
    ] = 2000,
    method: Annotated[
        Literal["pca", "umap"],
        Parameter(
            group=p.EXECUTION, help="pca (principal components), or umap (requires umap-learn)."
        ),
    ] = "pca",
    seed: p.Seed = 0,
) -> None:
    """Write a page with a map of each expert's embeddings and the similarity of the experts."""
    # Imported here because `--help` should not wait for scikit-learn and matplotlib.
    from pipeline.browse import MapOptions, plot_stores
    from pipeline.report.formats import to_markdown

    options = MapOptions(p.split(experts), color, sample, method, seed)
    with progress_bar("plot", "stores", log_to_stderr) as progress:
        table = plot_stores(url, out, dataset=dataset, options=options, progress=progress)
    print_text(to_markdown([table]), end="")
    print_text(f"\nPage: {out}")


def neighbors(
    url: Url,
    record: Annotated[str, Parameter(help="Id of a record.")],
    /,
    *,
    dataset: LabelSource = None,
    experts: Experts = (),
    count: Annotated[int, *p.number("Number of neighbors.", p.DATA, ge=1, le=10_000)] = 5,
) -> None:
    """Print the records whose embeddings are nearest to that of a record, for each expert."""
    from pipeline.embedding_maps.neighbors import find_neighbors
    from pipeline.embedding_maps.selection import select_stores, store_names

    namespace = None
    labels = None
    if dataset is not None:
        from pipeline.datasets.registry import open_dataset
        from pipeline.embedding_maps.class_names import name_classes

        source = open_dataset(dataset)
        namespace, labels = source.namespace, source.labels().apply(name_classes)
    stores = select_stores(url, namespace, p.split(experts))
    rows: list[tuple[object, ...]] = []
    for name, store in zip(store_names(stores), stores, strict=True):
        with progress_bar(name, "rows", log_to_stderr) as progress:
            nearest = find_neighbors(store, record, count=count, progress=progress)
        for rank, neighbor in enumerate(nearest, start=1):
            cells = () if labels is None else _labels(labels, neighbor.record_id)
            rows.append((name, rank, str(neighbor.record_id), f"{neighbor.distance:.3f}", *cells))
    head = ["expert", "rank", "record", "distance"]
    head += [] if labels is None else [str(column) for column in labels.columns]
    print_text("\n".join(format_table(head, rows)))


def _labels(labels: "pd.DataFrame", record: int | str) -> tuple[str, ...]:
    # A store can contain records that are no longer in the data set.
    if record not in labels.index:
        return ("-",) * labels.shape[1]
    values = labels.loc[record]
    return tuple("-" if value != value else _short(value) for value in values)


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)[:30]
