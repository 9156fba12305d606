"""ECGs to explain, refused records, and the baseline of the attributions."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from enecg.attribution.windows import WaveWindows, find_windows
from enecg.errors import UserError
from pipeline.datasets.base import Dataset
from pipeline.runs.saved_run import SavedRun
from pipeline.runs.unseen_patients import find_unseen
from pipeline.waveforms.errors import UnreadableRecord
from stores.record_ids import RecordIds, is_text

UNKNOWN, NO_BEATS = "unknown_record", "no_beats"
"""Reasons for a refusal besides those of `pipeline.waveforms.failures.REASONS`."""


@dataclass(frozen=True)
class Ecg:
    """An ECG that can be explained.

    Attributes:
        record_id: Id of the record.
        signal: Samples in mV at 500 Hz.
        windows: Windows of its waves.
    """

    record_id: str
    signal: Float32[np.ndarray, "12 5000"]
    windows: WaveWindows


@dataclass(frozen=True)
class Refusal:
    """A record that cannot be explained.

    Attributes:
        record_id: Id of the record, as given.
        reason: One of `pipeline.waveforms.failures.REASONS`, `UNKNOWN` or `NO_BEATS`.
        detail: Description of the reason in one sentence.
    """

    record_id: str
    reason: str
    detail: str


def read_ecgs(dataset: Dataset, record_ids: Sequence[str]) -> Iterator[Ecg | Refusal]:
    """Read records and find their waves.

    Args:
        dataset: The data set.
        record_ids: Ids of the records.

    Yields:
        For each id, in order: the ECG, or a `Refusal`.
    """
    rows = {str(record): row for row, record in enumerate(dataset.index().record_id.tolist())}
    for record in record_ids:
        row = rows.get(record)
        if row is None:
            detail = f"The record {record} is not in {dataset.namespace}; correct its id."
            yield Refusal(record, UNKNOWN, detail)
            continue
        try:
            signal = dataset.read(row)
        except UnreadableRecord as error:
            yield Refusal(record, error.reason, error.detail)
            continue
        windows = find_windows(signal)
        if windows is None:
            detail = "No heart beats were found, so there are no windows; omit this record."
            yield Refusal(record, NO_BEATS, detail)
        else:
            yield Ecg(record, signal, windows)


def draw_cohort(saved: SavedRun, dataset: Dataset, repeat: int, seed: int) -> list[str]:
    """Return the records of patients not used to train or validate a repeat, in random order.

    Args:
        saved: The run.
        dataset: The data set.
        repeat: Index of the repeat.
        seed: Seed of the order.

    Returns:
        Ids of the records.

    Raises:
        UserError: The repeat was trained or validated on all patients of the data set.
    """
    record_id = dataset.index().record_id
    unseen = record_id[find_unseen(saved, dataset, record_id)[repeat]]
    if not len(unseen):
        raise UserError(
            f"All patients of {dataset.namespace} were used to train or validate {saved.folder}; "
            "pass the ids of the records to explain."
        )
    return _shuffle(unseen, seed)


def mean_reference(
    saved: SavedRun,
    dataset: Dataset,
    *,
    repeat: int,
    number: int,
    seed: int,
    excluded: Collection[str],
) -> tuple[Float32[np.ndarray, "12 5000"], list[str]]:
    """Compute the baseline: the mean of ECGs of the training and validation patients.

    The mean has hardly any waves, because beats occur at different times. If none of these patients
    is in `dataset`, the ECGs are drawn from all of its records.

    Args:
        saved: The run.
        dataset: Data set of the explained records.
        repeat: Index of the repeat.
        number: Number of ECGs to average.
        seed: Seed of the draw.
        excluded: Ids of records that are not averaged, such as the explained ones.

    Returns:
        The mean in mV, and the ids of the averaged records.

    Raises:
        UserError: Fewer than `number` records can be averaged.
    """
    index = dataset.index().record_id
    seen = ~find_unseen(saved, dataset, index)[repeat]
    rows = {str(record): row for row, record in enumerate(index.tolist())}
    total, used = np.zeros((12, 5000)), []
    for record in _shuffle(index[seen] if seen.any() else index, seed):
        if record in excluded:
            continue
        try:
            total += dataset.read(rows[record])
        except UnreadableRecord:
            continue
        used.append(record)
        if len(used) == number:
            return (total / number).astype(np.float32), used
    raise UserError(
        f"The baseline is the mean of {number} ECGs, but {dataset.namespace} has only {len(used)} "
        "suitable readable ECGs; lower --references."
    )


def _shuffle(record_id: RecordIds, seed: int) -> list[str]:
    # Sort first, so that the result does not depend on the order of the index.
    ordered = np.sort(np.asarray(record_id, object if is_text(record_id) else None))
    return [str(record) for record in np.random.default_rng(seed).permutation(ordered).tolist()]
