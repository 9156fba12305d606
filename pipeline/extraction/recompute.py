"""Some rows of a store computed again from the ECGs, and compared with what is kept."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from enecg.errors import UserError
from enecg.experts import Expert, ExpertOption, load_expert
from enecg.leads import LeadsSample
from pipeline.datasets.base import Dataset
from pipeline.extraction.request import provenance, resolve_device
from pipeline.waveforms.errors import UnreadableRecord
from stores.embeddings import EmbeddingStore
from stores.status import WHOLE

RELATIVE = 2.0**-10
"""One unit in the last place of float16: what another machine's arithmetic may differ by."""
ABSOLUTE = 1e-4
"""The same for values near zero, in the units of the embedding."""


@dataclass(frozen=True)
class Recomputed:
    """How many rows were computed again, and how near they came to what is kept.

    `equal`: the same to the last bit; `close`: not that, but within `RELATIVE` and `ABSOLUTE`.
    `different`: a sentence for each row that is neither, or whose ECG cannot be had any more.
    """

    rows: int
    equal: int
    close: int
    different: tuple[str, ...]


def recompute(
    store: EmbeddingStore,
    dataset: Dataset,
    count: int,
    *,
    weights: tuple[str, ...] = (),
    device: str = "auto",
    seed: int = 0,
    batch_size: int = 16,
) -> Recomputed:
    """Embed `count` whole rows anew, drawn by `seed`, and compare them with the store's.

    With no `weights`, those that the store names: `random:SEED`, or the published checkpoint.
    Raises UserError where the data set or the expert is not what the store was made of and by.
    """
    where = resolve_device(device)
    expert = _rebuild(store, dataset, weights)
    whole = np.flatnonzero(store.status() == WHOLE)
    picked = np.random.default_rng(seed).choice(whole, min(count, len(whole)), replace=False)
    rows = np.sort(picked)
    kept = store.read(rows)
    index = dataset.index().record_id
    order = np.argsort(index)
    at = order[np.searchsorted(index, store.record_id[rows], sorter=order).clip(max=len(order) - 1)]
    if isinstance(expert, torch.nn.Module):
        expert.to(where)
    # As in an extraction: TensorFloat-32 would give other numbers on some GPUs.
    torch.backends.cudnn.allow_tf32 = False
    different: list[str] = []
    equal = close = 0
    for first in range(0, len(rows), batch_size):
        signals, old, records = [], [], []
        batch = slice(first, first + batch_size)
        for row, place, embedding in zip(rows[batch], at[batch], kept[batch], strict=True):
            record = store.record_id[row].item()
            try:
                if index[place] != record:
                    raise UnreadableRecord(
                        "missing_file", "The data set does not have this record."
                    )
                signals.append(dataset.read(int(place)))
            except UnreadableRecord as bad:
                different.append(f"record {record} cannot be had any more: {bad}")
                continue
            old.append(embedding)
            records.append(record)
        if not signals:
            continue
        with torch.inference_mode():
            ecg = torch.from_numpy(np.stack(signals)).to(where)
            new = expert.embed(ecg).float().cpu().numpy().astype(kept.dtype)
        for record, ours, theirs in zip(records, new, old, strict=True):
            if np.array_equal(ours, theirs):
                equal += 1
            elif _near(ours, theirs):
                close += 1
            else:
                different.append(f"record {record} differs by up to {_distance(ours, theirs):.3g}")
    return Recomputed(len(rows), equal, close, tuple(different))


def _near(new: Float[np.ndarray, " feature"], old: Float[np.ndarray, " feature"]) -> bool:
    # In float64, for the tolerance itself is less than float16 can tell apart.
    wide = (new.astype(np.float64), old.astype(np.float64))
    return np.allclose(*wide, rtol=RELATIVE, atol=ABSOLUTE)


def _distance(new: Float[np.ndarray, " feature"], old: Float[np.ndarray, " feature"]) -> float:
    return float(np.abs(new.astype(np.float64) - old.astype(np.float64)).max())


def _rebuild(store: EmbeddingStore, dataset: Dataset, weights: tuple[str, ...]) -> Expert:
    """The expert that made a store, built anew. Raises UserError where it is another."""
    made = store.provenance
    name = made["expert"]
    expert: Expert
    if name == LeadsSample.spec.name:
        expert = LeadsSample()
    else:
        kept = made["weights"] if str(made["weights"]).startswith("random:") else "published"
        choice = ExpertOption.parse("--weights", weights or (kept,))
        expert = load_expert(name, choice.get(name), made["pooling"])
    # As it comes back from a store: JSON knows no tuples.
    now = json.loads(json.dumps(provenance(expert.spec, dataset.namespace, made["dtype"])))
    if differing := _differing(now, made):
        raise UserError(
            f"{store.location} cannot be computed again: {differing} differ; give the --dataset "
            "and the --weights that it was made of, with the libraries of that time."
        )
    return expert


def _differing(now: dict[str, Any], made: dict[str, Any]) -> str:
    """The keys in which two provenance documents differ, with both values where they are short."""

    def told(key: str) -> str:
        ours, theirs = str(now.get(key)), str(made.get(key))
        if max(len(ours), len(theirs)) > 70:
            return key
        return f"{key} (here {ours or 'none'}, in the store {theirs or 'none'})"

    keys = sorted(now.keys() | made.keys())
    return ", ".join(told(key) for key in keys if now.get(key) != made.get(key))
