"""What is asked of an extraction: which records, by which experts, into which stores."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from enecg.errors import UserError
from enecg.experts import Expert, ExpertOption, ExpertSpec, load_expert
from enecg.leads import LeadsSample
from pipeline.datasets.base import Dataset
from pipeline.datasets.registry import open_dataset
from pipeline.datasets.selection import select
from pipeline.waveforms.decode import DECODE_VERSION
from stores.layout import store_location
from stores.location import Location, locate
from stores.record_ids import RecordIds


@dataclass(frozen=True)
class Request:
    """What was asked for: records of a data set, by these experts, the gate's leads among them.

    `wanted`: record ids, in index order. `locations`: where each expert's store is or will be.
    """

    dataset: Dataset
    experts: tuple[Expert, ...]
    wanted: RecordIds
    locations: tuple[Location, ...]
    dtype: str
    device: str


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


def resolve(
    dataset: str | Dataset,
    store: str | Path,
    experts: Sequence[str] | Sequence[Expert],
    *,
    weights: Sequence[str] = ("published",),
    pooling: Sequence[str] = ("default",),
    dtype: str = "float16",
    device: str = "auto",
    limit: int | None = None,
    records: Path | None = None,
) -> Request:
    """Find everything that is asked for. The gate's sampled leads are always part of it, last.

    `experts` by name, or ready-made; `limit` and `records` as in `selection.select`.
    Raises UserError or StoreError where the data set, an expert, its weights, a record, the
    device or the store's root cannot be had.
    """
    source = open_dataset(dataset) if isinstance(dataset, str) else dataset
    where = resolve_device(device)
    root = locate(store)
    named: list[str | Expert] = list(dict.fromkeys(experts))
    by_name = [one for one in named if isinstance(one, str)]
    choices = {}
    for option, given in (("--weights", weights), ("--pooling", pooling)):
        choices[option] = ExpertOption.parse(option, given)
        choices[option].check_experts(by_name)
    ready: list[Expert] = [
        load_expert(one, choices["--weights"].get(one), choices["--pooling"].get(one))
        if isinstance(one, str)
        else one
        for one in named
    ]
    ready.append(LeadsSample())
    # One store, one expert, however often it was named.
    experts_at: dict[Location, Expert] = {}
    for expert in ready:
        made = provenance(expert.spec, source.namespace, dtype)
        experts_at.setdefault(store_location(root, made), expert)
    return Request(
        dataset=source,
        experts=tuple(experts_at.values()),
        wanted=select(source.index().record_id, limit=limit, records=records),
        locations=tuple(experts_at),
        dtype=dtype,
        device=where,
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
