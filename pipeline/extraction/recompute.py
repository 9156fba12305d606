"""Verification of a store by recomputing some of its rows from the ECGs."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from enecg.errors import UserError
from enecg.experts import Expert, ExpertOption, get_definition, load_expert
from enecg.leads import LeadsSample
from pipeline.datasets.base import Dataset
from pipeline.extraction.request import provenance, resolve_device
from pipeline.waveforms.errors import UnreadableRecord
from stores.embeddings import EmbeddingStore
from stores.status import WHOLE

RELATIVE_TOLERANCE = 2.0**-10
"""One unit in the last place of float16: what results may differ by between machines."""

ABSOLUTE_TOLERANCE = 1e-4
"""The same for values near zero, in the units of the embedding."""


@dataclass(frozen=True)
class RecomputeResult:
    """The result of comparing recomputed rows with the stored ones.

    Attributes:
        rows: Rows recomputed.
        equal: Rows equal to the last bit.
        close: Other rows within `RELATIVE_TOLERANCE` and `ABSOLUTE_TOLERANCE`.
        different: One sentence per row that differs by more or whose ECG is unreadable.
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
) -> RecomputeResult:
    """Recompute a random sample of complete rows and compare them with the store.

    Args:
        store: Store to check.
        dataset: Data set that the store was extracted from.
        count: Number of rows to recompute.
        weights: Weights as for an extraction. By default those that the store names:
            ``random:SEED`` or the published checkpoint.
        device: Torch device.
        seed: Seed of the sample.
        batch_size: Records on the device at once.

    Returns:
        Counts of equal and close rows, and a sentence per different row.

    Raises:
        UserError: The provenance of the rebuilt expert differs from the store's.
    """
    device = resolve_device(device)
    expert = _rebuild_expert(store, dataset, weights)
    complete = np.flatnonzero(store.status() == WHOLE)
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(complete, min(count, len(complete)), replace=False))
    stored = store.read(rows)
    index_rows = {
        record_id: row for row, record_id in enumerate(dataset.index().record_id.tolist())
    }
    if isinstance(expert, torch.nn.Module):
        expert.to(device)
    # As in an extraction: TF32 results differ between GPUs.
    torch.backends.cudnn.allow_tf32 = False
    different: list[str] = []
    equal = close = 0
    for first in range(0, len(rows), batch_size):
        signals, expected, records = [], [], []
        for number in range(first, min(first + batch_size, len(rows))):
            record_id = store.record_id[rows[number]].item()
            try:
                signals.append(_read(dataset, index_rows, record_id))
            except UnreadableRecord as error:
                different.append(f"Record {record_id} is unreadable: {error}")
                continue
            expected.append(stored[number])
            records.append(record_id)
        if not signals:
            continue
        with torch.inference_mode():
            ecg = torch.from_numpy(np.stack(signals)).to(device)
            computed = expert.embed(ecg).float().cpu().numpy().astype(stored.dtype)
        for record_id, new, old in zip(records, computed, expected, strict=True):
            if np.array_equal(new, old):
                equal += 1
            elif _is_close(new, old):
                close += 1
            else:
                different.append(f"Record {record_id} differs by up to {_distance(new, old):.3g}.")
    return RecomputeResult(len(rows), equal, close, tuple(different))


def _read(
    dataset: Dataset, index_rows: Mapping[int | str, int], record_id: int | str
) -> Float[np.ndarray, "12 5000"]:
    if record_id not in index_rows:
        raise UnreadableRecord("missing_file", "The data set does not contain it.")
    return dataset.read(index_rows[record_id])


def _is_close(new: Float[np.ndarray, " feature"], old: Float[np.ndarray, " feature"]) -> bool:
    # In float64: the absolute tolerance is below float16's resolution.
    return np.allclose(
        new.astype(np.float64),
        old.astype(np.float64),
        rtol=RELATIVE_TOLERANCE,
        atol=ABSOLUTE_TOLERANCE,
    )


def _distance(new: Float[np.ndarray, " feature"], old: Float[np.ndarray, " feature"]) -> float:
    return float(np.abs(new.astype(np.float64) - old.astype(np.float64)).max())


def _rebuild_expert(store: EmbeddingStore, dataset: Dataset, weights: tuple[str, ...]) -> Expert:
    """Load the expert that the store was extracted with, and check its provenance."""
    expected = store.provenance
    name = expected["expert"]
    expert: Expert
    if name == LeadsSample.spec.name:
        expert = LeadsSample()
    else:
        label = str(expected["weights"])
        default = label if label.startswith("random:") else "published"
        option = ExpertOption.parse("--weights", weights or (default,))
        settings = {
            one.name: expected["architecture"][one.architecture_key]
            for one in get_definition(name).settings
        }
        expert = load_expert(name, option.get(name), expected["pooling"], settings)
    current = provenance(expert.spec, dataset.namespace, expected["dtype"])
    # A JSON round trip turns tuples into lists, as in the store.
    if differences := _differences(json.loads(json.dumps(current)), expected):
        raise UserError(
            f"{store.location} cannot be recomputed: {differences} differ; use the --dataset, the "
            "--weights and the library versions that it was extracted with."
        )
    return expert


def _differences(current: dict[str, Any], expected: dict[str, Any]) -> str:
    """Return the keys in which two provenance documents differ, with their values if short."""

    def describe(key: str) -> str:
        ours, theirs = str(current.get(key)), str(expected.get(key))
        if max(len(ours), len(theirs)) > 70:
            return key
        return f"{key} (now {ours or 'none'}, in the store {theirs or 'none'})"

    keys = sorted(current.keys() | expected.keys())
    return ", ".join(describe(key) for key in keys if current.get(key) != expected.get(key))
