"""`enecg store card`: dataset card and Croissant metadata of a store root for the hub."""

import json
import re
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from flows.output import print_text

_LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]*")
"""Form of the Hugging Face hub's license identifiers. The hub rejects cards with other texts."""


def card(
    root: Annotated[Path, Parameter(help="Root folder of the stores.")],
    /,
    *,
    name: Annotated[str, Parameter(help="Name of the data set.")],
    license_name: Annotated[
        str,
        Parameter(
            name="--license",
            help="Identifier of the ECGs' license on the hub, such as odbl, cc-by-4.0 or other.",
        ),
    ],
    url: Annotated[
        str,
        Parameter(help="Address of the data set, such as https://huggingface.co/datasets/lab/ecg."),
    ],
) -> None:
    """Write README.md and croissant.json into a root, to share it on the Hugging Face hub.

    Raises:
        UserError: The license or the address is invalid, the root has no stores, a store cannot be
            opened, or a file cannot be written.
        StoreError: The root or the rows of a store cannot be read.
    """
    from enecg.errors import UserError
    from pipeline.report.store_card import CARD, CROISSANT, SharedStore, build_card, build_croissant
    from stores.layout import dataset_name
    from stores.opening import count_rows, open_stores

    if not _LICENSE.fullmatch(license_name):
        raise UserError(
            f"--license {license_name!r} is not a license identifier of the hub; pass one such as "
            "odbl, odc-by, cc-by-4.0 or other."
        )
    if not url.startswith(("https://", "http://")):
        raise UserError(f"--url {url!r} is not an address; pass one that starts with https://.")
    found = open_stores(root)
    if found.errors:
        raise UserError(f"{found.errors[0]} Repair or remove the store before sharing the root.")
    if not found.stores:
        raise UserError(f"{root} contains no stores; pass the --store root of an extraction.")
    shared = []
    for store in found.stores:
        counts = count_rows(store)
        path = f"{dataset_name(store.location)}/{store.location.parent.name}/{store.identity}"
        shared.append(
            SharedStore(path, store.provenance, counts.rows, counts.whole, counts.size_bytes)
        )
    croissant = build_croissant(shared, name, license_name, url)
    documents = {
        CARD: build_card(shared, name, license_name),
        CROISSANT: json.dumps(croissant, indent=1) + "\n",
    }
    for file, text in documents.items():
        try:
            (root / file).write_text(text, encoding="utf-8")
        except OSError as error:
            raise UserError(
                f"{root / file} cannot be written ({error.strerror}); check the permissions of the "
                "folder."
            ) from error
        print_text(f"Wrote {root / file}.")
