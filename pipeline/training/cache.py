"""What training reads: the stores of the weights that were asked for, their rows by record id."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from enecg.errors import UserError
from enecg.experts import ExpertDefinition, ExpertOption, Weights, get_definition, list_experts
from enecg.experts.weights import find_weights
from enecg.leads import LeadsSample
from pipeline.extraction.request import provenance
from pipeline.waveforms.decode import DECODE_VERSION
from stores.embeddings import EmbeddingStore
from stores.errors import StoreError
from stores.layout import store_location
from stores.opening import FoundStores, find_stores, open_store
from stores.record_ids import RecordIds
from stores.status import ABSENT, WHOLE


@dataclass(frozen=True)
class Cache:
    """The stores of one training: one an expert, and the gate's sampled leads."""

    experts: dict[str, EmbeddingStore]
    leads: EmbeddingStore

    @property
    def stores(self) -> tuple[EmbeddingStore, ...]:
        """All of them, the leads last."""
        return (*self.experts.values(), self.leads)


def open_cache(
    root: str | Path,
    namespace: str,
    *,
    experts: Sequence[str],
    weights: Sequence[str],
    pooling: Sequence[str],
    dtype: str,
) -> Cache:
    """Find the stores made by exactly these weights; no expert is built and no weights are fetched.

    With no `experts` named, every expert that has such a store. Raises UserError where a named
    one has none, or none has.
    """
    choice = ExpertOption.parse("--weights", weights)
    pooled = ExpertOption.parse("--pooling", pooling)
    found_there = find_stores(root, namespace)
    there = found_there.stores
    for option in (choice, pooled):
        option.check_experts(experts or list_experts())
    asked = list(dict.fromkeys(experts))
    asked = asked or [name for name in list_experts() if _choosable(name, choice, there)]
    found: dict[str, EmbeddingStore] = {}
    for name in asked:
        definition = get_definition(name)
        wanted = find_weights(name, choice.get(name), definition.published, fetch=False)
        pools = definition.resolve_pooling(pooled.get(name))
        for store in there:
            if _made_by(store, definition, wanted, pools, dtype):
                if name in found:
                    raise UserError(
                        f"{found[name].location} and {store.location} are both of these weights, "
                        "made by other versions of the libraries; remove the one that is not to "
                        "be used."
                    )
                found[name] = store
        if name not in found and experts:
            raise UserError(
                f"{root} has no {dtype} embeddings of {name} with the weights "
                f"{choice.get(name)} for {namespace}; it has {_told(found_there)}. "
                "Extract them first, or name weights that are there by --weights."
            )
    if not found:
        raise UserError(
            f"{root} has no {dtype} embeddings with the weights {', '.join(weights)} for "
            f"{namespace}; it has {_told(found_there)}. Extract them first, or name weights that "
            "are there by --weights."
        )
    leads = provenance(LeadsSample.spec, namespace, dtype)
    return Cache(found, open_store(store_location(root, leads)))


def open_same(
    root: str | Path, namespace: str, stores: Sequence[Mapping[str, Any]], refill: str
) -> Cache:
    """The stores of a data set that were made as these provenances tell, in all but the data set.

    Raises StoreError where one is not there, telling what is there instead and `refill`, the
    command that makes it.
    """
    found: dict[str, EmbeddingStore] = {}
    for given in stores:
        wanted = {**given, "dataset": namespace}
        location = store_location(root, wanted)
        if (location / "zarr.json").read() is None:
            there = [
                other.provenance
                for other in find_stores(root, namespace).stores
                if other.provenance["expert"] == given["expert"]
            ]
            raise StoreError(
                f"{root} has no embeddings of {given['expert']} for {namespace} that were made as "
                f"the run's were; it has {_differing(wanted, there)}. Make them by {refill}."
            )
        found[str(given["expert"])] = open_store(location)
    leads = found.pop(LeadsSample.spec.name)
    return Cache(found, leads)


def _differing(wanted: Mapping[str, Any], there: Sequence[Mapping[str, Any]]) -> str:
    """Other stores of an expert, each by the keys of its provenance that are not as wanted."""
    told = (
        ", ".join(
            f"{key} {one.get(key)!r} and not {wanted.get(key)!r}"
            for key in wanted
            if one.get(key) != wanted.get(key)
        )
        for one in there
    )
    return " and ".join(f"one with {words}" for words in told) or "none of this expert"


def _choosable(name: str, choice: ExpertOption, there: Sequence[EmbeddingStore]) -> bool:
    """Whether an expert that nobody named is to be looked for: its weights can be told apart.

    Raises UserError where the store has embeddings of a checkpoint, and which cannot be told.
    """
    try:
        find_weights(name, choice.get(name), get_definition(name).published, fetch=False)
    except UserError:
        # A wrong path or seed for a single expert is the user's mistake, not a reason to skip it.
        made = {(one.provenance["expert"], one.provenance["weights"]) for one in there}
        if name in dict(choice.overrides) or (name, "checkpoint") in made:
            raise
        return False
    return True


def _made_by(
    store: EmbeddingStore,
    definition: ExpertDefinition,
    weights: Weights,
    pooling: str,
    dtype: str,
) -> bool:
    given = store.provenance
    wanted = {
        "expert": definition.name,
        "code_version": definition.code_version,
        "preprocessing": definition.preprocessing.as_json(),
        "pooling": pooling,
        "decode_version": DECODE_VERSION,
        "dtype": dtype,
        "weights": weights.label,
    }
    sha256 = weights.sha256() if given["expert"] == definition.name else None
    if sha256 is not None:
        wanted["weights_sha256"] = sha256
    return all(given.get(key) == value for key, value in wanted.items())


def _told(found: FoundStores) -> str:
    told = sorted(
        f"{one.provenance['expert']} ({one.provenance['weights']}, {one.provenance['dtype']})"
        for one in found.stores
        if one.provenance["expert"] != LeadsSample.spec.name
    )
    broken = [f"one that cannot be used ({str(one).rstrip('.')})" for one in found.errors]
    return ", ".join((*told, *broken)) or "none"


@dataclass(frozen=True)
class Available:
    """The records that every store has whole, in index order, and how many of those asked for
    were left out since an expert has no embedding of them.
    """

    record_id: RecordIds
    left_out: int


def available(cache: Cache, record_id: RecordIds, refill: str) -> Available:
    """Which of these records can be trained on.

    Records that could not be had (spoiled files) are left out and counted. Raises StoreError
    where records have not been extracted yet, telling how many and `refill`, the command to run.
    """
    whole = np.ones(len(record_id), dtype=bool)
    for store in cache.stores:
        rows = store.rows_by_id(record_id)
        # A row that is not there is the last one of these: absent.
        status = np.append(store.status(), ABSENT)[rows]
        missing = int((status == ABSENT).sum())
        if missing:
            raise StoreError(
                f"{store.location} lacks {missing} of {len(record_id)} records; fill them by "
                f"{refill}, or take only those that are there, by --limit."
            )
        whole &= status == WHOLE
    return Available(record_id[whole], int((~whole).sum()))


@dataclass(frozen=True)
class Features:
    """Embeddings in memory, as stored, joined by record id: row i of each is `record_id[i]`."""

    record_id: RecordIds
    experts: dict[str, Float[Tensor, "record feature"]]
    leads: Float[Tensor, "record feature"]

    def rows_of(self, record_id: RecordIds) -> Tensor:
        """Rows of these records, as an index tensor on the features' device."""
        order = np.argsort(self.record_id)
        rows = order[np.searchsorted(self.record_id, record_id, sorter=order)]
        return torch.from_numpy(rows).to(self.leads.device)


def read_features(cache: Cache, record_id: RecordIds, device: str) -> Features:
    """Read the embeddings of these records from every store, once.

    Raises UserError where a store has not all of them whole.
    """

    def read(store: EmbeddingStore) -> Tensor:
        rows = store.rows_by_id(record_id)
        lacking = record_id[np.append(store.status(), ABSENT)[rows] != WHOLE]
        if len(lacking):
            raise UserError(
                f"{store.location} has no embedding of {len(lacking)} of {len(record_id)} records, "
                f"such as {lacking[0]}; extract them, or leave them out."
            )
        return torch.from_numpy(store.read(rows)).to(device)

    return Features(
        record_id, {name: read(store) for name, store in cache.experts.items()}, read(cache.leads)
    )
