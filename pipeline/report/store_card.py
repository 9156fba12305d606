"""Card and Croissant metadata of a store root, to share it as a data set on a hub."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.report.formats import to_markdown
from pipeline.report.notes import NOT_A_DEVICE
from pipeline.report.table import Table
from pipeline.runs.escaping import escape_markdown

CARD = "README.md"
CROISSANT = "croissant.json"
DESCRIPTION = (
    "Embeddings of 12-lead ECGs by frozen models, as Zarr v3 stores: one row per record, with "
    "record ids and status. Stores in folders named leads contain three leads at 50 Hz instead of "
    "embeddings. No store has labels."
)

_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "fileSet": "cr:fileSet",
    "includes": "cr:includes",
    "citeAs": "cr:citeAs",
    "isLiveDataset": "cr:isLiveDataset",
}


@dataclass(frozen=True)
class SharedStore:
    """Data of a store for the card.

    Attributes:
        path: Path below the root, such as ``ludb/1.0.1/moment/8f8aac065b696142``.
        provenance: The store's provenance document.
        rows: Number of records.
        complete: Number of records with an embedding.
        size_bytes: Size of the store's files.
    """

    path: str
    provenance: Mapping[str, Any]
    rows: int
    complete: int
    size_bytes: int


def build_card(stores: Sequence[SharedStore], name: str, license_name: str) -> str:
    """Build the dataset card of a store root in Markdown.

    Args:
        stores: The stores.
        name: Name of the data set.
        license_name: License identifier of the Hugging Face Hub, such as ``other`` or ``odbl``.

    Returns:
        The card, with a YAML header for the Hugging Face Hub.
    """
    header = [
        "---",
        f"license: {json.dumps(license_name)}",
        "tags: [ecg, embeddings, zarr]",
        f"pretty_name: {json.dumps(name)}",
        "---",
    ]
    untrained = dict.fromkeys(
        store.provenance["expert"]
        for store in stores
        if str(store.provenance.get("weights", "")).startswith("random:")
    )
    warning = (
        f"> **Untrained weights:** {escape_markdown(', '.join(untrained))}. Their weights are "
        "random, so their embeddings only show that the pipeline runs."
    )
    rows = tuple(
        (
            store.path,
            f"{store.complete:,} of {store.rows:,}",
            *(
                str(store.provenance.get(key, ""))
                for key in ("embedding_size", "dtype", "weights", "pooling", "code_version")
            ),
            str(store.provenance.get("weights_sha256", ""))[:16],
            f"{store.size_bytes / 1e6:,.1f} MB",
        )
        for store in stores
    )
    heading = (
        *("store", "complete records", "features", "dtype", "weights", "pooling", "code version"),
        *("SHA-256 of the weights", "size"),
    )
    parts = [
        "\n".join(header),
        f"# {escape_markdown(name)}",
        f"{DESCRIPTION} The stores were written by EnECG and can be read with `zarr`, `xarray` or "
        "`dask.array`.",
        *([warning] if untrained else []),
        to_markdown([Table("", heading, rows)]).strip(),
        "The attribute `provenance` of each store contains all settings that determine the "
        "embeddings: preprocessing, weights and their digest, pooling, precision and decoding. Run "
        "`enecg store verify FOLDER` after a download.",
        "Embeddings are derived from ECGs of patients. They are shared under the license and the "
        "data use agreement of the ECGs. Record ids are those of the source.",
        NOT_A_DEVICE,
    ]
    return "\n\n".join(parts) + "\n"


def build_croissant(
    stores: Sequence[SharedStore], name: str, license_name: str, url: str
) -> dict[str, Any]:
    """Build Croissant metadata (version 1.0) of a store root.

    Croissant cannot describe the rows of Zarr arrays, so the metadata lists the files of each store
    and has no record sets.

    Args:
        stores: The stores.
        name: Name of the data set.
        license_name: License, as for `build_card`.
        url: URL of the data set.

    Returns:
        The document.
    """
    root = {
        "@type": "cr:FileObject",
        "@id": "repository",
        "name": "repository",
        "contentUrl": url,
        "encodingFormat": "git+https",
        # Placeholder of the Hugging Face Hub: a repository has no SHA-256.
        "sha256": "https://github.com/mlcommons/croissant/issues/80",
    }
    file_sets = [
        {
            "@type": "cr:FileSet",
            "@id": store.path,
            "name": store.path,
            "description": f"{store.complete} embeddings by {store.provenance['expert']}, weights "
            f"{store.provenance.get('weights', '')}",
            "containedIn": {"@id": "repository"},
            "encodingFormat": "application/vnd.zarr",
            "includes": f"{store.path}/**",
        }
        for store in stores
    ]
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": name,
        "description": DESCRIPTION,
        "license": license_name,
        "url": url,
        "distribution": [root, *file_sets],
    }
