"""Stores of the experts of one data set, and their names."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from enecg.errors import UserError
from enecg.names import LEADS_SAMPLE
from stores.embeddings import EmbeddingStore
from stores.opening import resolve


def select_stores(
    url: str | Path, namespace: str | None, experts: Sequence[str] = ()
) -> list[EmbeddingStore]:
    """Open the stores of the experts of one data set.

    Args:
        url: Root of the stores, or one store.
        namespace: Data set; None if the root has only one.
        experts: Names of experts; all if empty.

    Returns:
        The stores of embeddings, without those of the gate's input.

    Raises:
        UserError: No store matches, or the stores belong to several data sets.
        StoreError: There is no store at the URL, or a store below it cannot be opened, even of
            another data set or expert.
    """
    opened = resolve(str(url)).found
    if opened.errors:
        raise opened.errors[0]
    stores = [
        store
        for store in opened.stores
        if store.provenance["expert"] != LEADS_SAMPLE
        and store.provenance["dataset"] == (namespace or store.provenance["dataset"])
        and (not experts or store.provenance["expert"] in experts)
    ]
    datasets = sorted({store.provenance["dataset"] for store in stores})
    if not stores:
        of_experts = f" of {', '.join(experts)}" if experts else ""
        for_dataset = f" for {namespace}" if namespace else ""
        raise UserError(
            f"{url} has no stores{of_experts}{for_dataset}; list the stores with enecg store ls."
        )
    if len(datasets) > 1:
        raise UserError(
            f"{url} has stores of several data sets ({', '.join(datasets)}); select one with "
            "--dataset, or pass the folder of one store."
        )
    return stores


def store_names(stores: Sequence[EmbeddingStore]) -> list[str]:
    """Return each store's expert, with six characters of the identity if that is ambiguous."""
    counts = Counter(store.provenance["expert"] for store in stores)
    return [
        store.provenance["expert"]
        if counts[store.provenance["expert"]] == 1
        else f"{store.provenance['expert']} {store.identity[:6]}"
        for store in stores
    ]
