"""What an extraction has to do: the data set's index against what is whole in the stores."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int

from enecg.errors import UserError
from enecg.experts import Choices, Expert, ExpertSpec, load
from enecg.leads import LeadsSample
from pipeline.datasets.base import Dataset
from pipeline.datasets.registry import open_dataset
from pipeline.decode import DECODE_VERSION, REASONS
from stores.embeddings import FIRST_REASON, WHOLE, EmbeddingStore, absent
from stores.opening import SHARD_ROWS, create

NOT_FINITE = "not_finite"
"""The reason kept for a record whose embedding came out with a NaN or an infinity."""


@dataclass(frozen=True)
class ShardRange:
    """Shards `first` up to `last`, `last` excluded."""

    first: int
    last: int


@dataclass(frozen=True)
class ExtractionPlan:
    """What is to be done: which rows of which store lack an embedding.

    All stores of a plan hold the same records in the same rows; `row_in_index` leads from a
    store's row to the data set's, -1 for a record that is not asked for.
    """

    dataset: Dataset
    experts: tuple[Expert, ...]
    stores: tuple[EmbeddingStore, ...]
    row_in_index: Int[np.ndarray, " record"]
    to_do: tuple[Bool[np.ndarray, " record"], ...]
    already_there: int
    failed_before: int
    device: str
    started: datetime = field(default_factory=lambda: datetime.now().astimezone())

    @property
    def total_rows(self) -> int:
        """Rows to do, over all experts."""
        return int(sum(mask.sum() for mask in self.to_do))

    @property
    def total_records(self) -> int:
        """Records to open: those that at least one expert lacks."""
        return int(np.logical_or.reduce(self.to_do).sum())

    @property
    def shard_rows(self) -> int:
        """Rows in a shard, the same in every store."""
        return self.stores[0].shard_rows

    def ranges(self, pieces: int) -> tuple[ShardRange, ...]:
        """The shards with something to do, in at most `pieces` runs of about as many shards."""
        rows = np.flatnonzero(np.logical_or.reduce(self.to_do))
        shards = np.unique(rows // self.shard_rows)
        parts = np.array_split(shards, min(pieces, len(shards))) if len(shards) else []
        return tuple(ShardRange(int(part[0]), int(part[-1]) + 1) for part in parts)


def provenance(spec: ExpertSpec, namespace: str, dtype: str) -> dict[str, Any]:
    """The document that defines a store: what its numbers depend on, and nothing else."""
    return {
        "dataset": namespace,
        "expert": spec.name,
        "code_version": spec.code_version,
        "architecture": dict(spec.architecture),
        "preprocessing": spec.preprocessing,
        "pooling": spec.pooling,
        "embedding_size": spec.embedding_size,
        "weights": spec.weights,
        "weights_sha256": spec.weights_sha256,
        "decode_version": DECODE_VERSION,
        "dtype": dtype,
    }


def plan_extraction(
    dataset: str | Dataset,
    store: str | Path,
    experts: Sequence[str] | Sequence[Expert],
    *,
    weights: Sequence[str] = ("published",),
    pooling: Sequence[str] = ("default",),
    dtype: str = "float16",
    device: str = "auto",
    limit: int | None = None,
    retry_failed: bool = False,
    shard_rows: int = SHARD_ROWS,
) -> ExtractionPlan:
    """Find out what is missing. The gate's sampled leads are always part of the plan.

    `experts` by name, or ready-made; `limit` takes the first records of the index.
    Raises UserError or StoreError where the data set, an expert, its weights, the device or the
    store cannot be had.
    """
    source = open_dataset(dataset) if isinstance(dataset, str) else dataset
    where = resolve_device(device)
    by_name = [one for one in experts if isinstance(one, str)]
    choices = {}
    for option, given in (("--weights", weights), ("--pooling", pooling)):
        choices[option] = Choices.parse(option, given)
        choices[option].refuse_strangers(option, by_name)
    ready = [
        load(one, choices["--weights"].of(one), choices["--pooling"].of(one))
        if isinstance(one, str)
        else one
        for one in experts
    ]

    def create_for(
        expert: Expert, record_id: Int[np.ndarray, " record"], shard_rows: int
    ) -> EmbeddingStore:
        return create(
            store,
            provenance(expert.spec, source.namespace, dtype),
            record_id=record_id,
            features=expert.spec.embedding_size,
            dtype=dtype,
            reasons=(*REASONS, NOT_FINITE),
            shard_rows=shard_rows,
        )

    leads = LeadsSample()
    leads_store = create_for(leads, source.index().record_id, shard_rows)
    # Every extraction takes the leads along, so their rows are the order of all other stores:
    # an expert that joins late has its records in the same rows as one that was there before.
    others = (create_for(expert, leads_store.record_id, leads_store.shard_rows) for expert in ready)
    stores = (*others, leads_store)
    return _compare(source, (*ready, leads), stores, limit, retry_failed, where)


def _compare(
    dataset: Dataset,
    experts: tuple[Expert, ...],
    stores: tuple[EmbeddingStore, ...],
    limit: int | None,
    retry_failed: bool,
    device: str,
) -> ExtractionPlan:
    wanted = dataset.index().record_id[:limit]
    first = stores[0]
    for other in stores[1:]:
        same_rows = np.array_equal(first.record_id, other.record_id)
        if not same_rows or first.shard_rows != other.shard_rows:
            raise UserError(
                f"{other.path} and {first.path} have their records in different rows or shards; "
                "extract into another --store."
            )
    row_in_index = np.full(len(first.record_id), -1)
    row_in_index[first.rows_by_id(wanted)] = np.arange(len(wanted))
    asked = row_in_index >= 0
    statuses = [store.status() for store in stores]
    to_do = tuple(asked & absent(status, or_failed=retry_failed) for status in statuses)
    return ExtractionPlan(
        dataset=dataset,
        experts=experts,
        stores=stores,
        row_in_index=row_in_index,
        to_do=to_do,
        already_there=int(sum((status[asked] == WHOLE).sum() for status in statuses)),
        failed_before=int(
            sum(
                (status[asked & ~mask] >= FIRST_REASON).sum()
                for status, mask in zip(statuses, to_do, strict=True)
            )
        ),
        device=device,
    )


def resolve_device(device: str) -> str:
    """`auto` becomes `cuda` where there is one, else `cpu`.

    Raises UserError for a device that is not here.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"The device {device!r} cannot be used here ({str(error).splitlines()[0]}); "
            "give --device auto or cpu, or name a device that is here."
        ) from error
    return device
