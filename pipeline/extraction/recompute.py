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
from pipeline.datasets.base import Dataset, decoding_of
from pipeline.extraction.request import provenance, resolve_device
from pipeline.waveforms.errors import UnreadableRecord
from stores.embeddings import EmbeddingStore
from stores.status import WHOLE

RELATIVE_TOLERANCE = 2.0**-10
"""Relative tolerance of close rows: the largest relative spacing of float16 numbers. Embeddings
computed on different machines are expected to differ by no more."""

ABSOLUTE_TOLERANCE = 1e-4
"""Absolute tolerance of close rows, for values near zero, in the units of the embedding."""


@dataclass(frozen=True)
class RecomputeResult:
    """The result of comparing recomputed rows with the stored ones.

    Attributes:
        rows: Number of rows in the sample.
        equal: Number of rows whose recomputed values all equal the stored ones.
        close: Number of other rows that `numpy.allclose` accepts with `RELATIVE_TOLERANCE` and
            `ABSOLUTE_TOLERANCE`.
        different: A message for each row that differs by more, or whose ECG cannot be read.
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
        count: Maximum number of rows to recompute; if the store has fewer, all are recomputed.
        weights: Weights, as in `ExtractOptions.weights`. Default: the weights in the store's
            provenance if they are ``random:SEED``, otherwise ``published``.
        device: Torch device; ``auto`` selects a GPU if there is one.
        seed: Seed of the random sample.
        batch_size: Records per forward pass.

    Returns:
        Numbers of equal and close rows, and a message for each different row.

    Raises:
        UserError: The device, the expert or its weights are unavailable, or the provenance of the
            loaded expert differs from the store's.
        StoreError: The store cannot be read.
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
    # Disable TF32, as extractions do.
    torch.backends.cudnn.allow_tf32 = False
    different: list[str] = []
    equal = close = 0
    for first in range(0, len(rows), batch_size):
        signals, expected, record_ids = [], [], []
        for position in range(first, min(first + batch_size, len(rows))):
            record_id = store.record_id[rows[position]].item()
            try:
                signals.append(_read(dataset, index_rows, record_id))
            except UnreadableRecord as error:
                different.append(f"Record {record_id} cannot be recomputed. {error}")
                continue
            expected.append(stored[position])
            record_ids.append(record_id)
        if not signals:
            continue
        with torch.inference_mode():
            ecg = torch.from_numpy(np.stack(signals)).to(device)
            computed = expert.embed(ecg).float().cpu().numpy().astype(stored.dtype)
        for record_id, new, old in zip(record_ids, computed, expected, strict=True):
            if np.array_equal(new, old):
                equal += 1
            elif _is_close(new, old):
                close += 1
            else:
                largest = _max_difference(new, old)
                different.append(f"Record {record_id} differs by up to {largest:.3g}.")
    return RecomputeResult(len(rows), equal, close, tuple(different))


def _read(
    dataset: Dataset, index_rows: Mapping[int | str, int], record_id: int | str
) -> Float[np.ndarray, "12 5000"]:
    if record_id not in index_rows:
        raise UnreadableRecord("missing_file", "The data set does not contain this record.")
    return dataset.read(index_rows[record_id])


def _is_close(new: Float[np.ndarray, " feature"], old: Float[np.ndarray, " feature"]) -> bool:
    # Compare in float64, because adding the absolute tolerance in float16 would round it away.
    return np.allclose(
        new.astype(np.float64),
        old.astype(np.float64),
        rtol=RELATIVE_TOLERANCE,
        atol=ABSOLUTE_TOLERANCE,
    )


def _max_difference(
    new: Float[np.ndarray, " feature"], old: Float[np.ndarray, " feature"]
) -> float:
    return float(np.abs(new.astype(np.float64) - old.astype(np.float64)).max())


def _rebuild_expert(store: EmbeddingStore, dataset: Dataset, weights: tuple[str, ...]) -> Expert:
    """Load the expert of a store, and check that it has the provenance in the store."""
    expected = store.provenance
    name = expected["expert"]
    expert: Expert
    if name == LeadsSample.spec.name:
        expert = LeadsSample()
    else:
        stored_weights = str(expected["weights"])
        default = stored_weights if stored_weights.startswith("random:") else "published"
        option = ExpertOption.parse("--weights", weights or (default,))
        settings = {
            setting.name: expected["architecture"][setting.architecture_key]
            for setting in get_definition(name).settings
        }
        expert = load_expert(
            name,
            option.get(name),
            expected["pooling"],
            settings,
            expected.get("precision", "float32"),
        )
    current = provenance(expert.spec, dataset.namespace, expected["dtype"], decoding_of(dataset))
    # The JSON round trip converts tuples to lists, as in the stored document.
    if differences := _describe_differences(json.loads(json.dumps(current)), expected):
        raise UserError(
            f"{store.location} cannot be recomputed because the provenance differs: "
            f"{differences}; use the --dataset, the --weights and the EnECG version with which the "
            "store was extracted."
        )
    return expert


def _describe_differences(current: dict[str, Any], expected: dict[str, Any]) -> str:
    """List the keys with different values in two provenance documents, and the values if short."""

    def describe(key: str) -> str:
        new, stored = str(current.get(key)), str(expected.get(key))
        if max(len(new), len(stored)) > 70:
            return key
        return f"{key} (now {new or 'none'}, in the store {stored or 'none'})"

    keys = sorted(current.keys() | expected.keys())
    return ", ".join(describe(key) for key in keys if current.get(key) != expected.get(key))
