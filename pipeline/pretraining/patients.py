"""Selection of pretraining records by patient."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from enecg.errors import UserError
from pipeline.datasets.base import Dataset, RecordIndex
from pipeline.datasets.selection import select_records
from pipeline.extraction.decoding import decode_batches
from pipeline.labels.folds import read_folds
from pipeline.pretraining.settings import PretrainSettings
from pipeline.training.cohorts import draw_cohort
from pipeline.waveforms.errors import UnreadableRecord
from stores.record_ids import RecordIds

CHECK_BATCH = 64
"""Records per batch when records are checked for readability."""

Rows = Int[np.ndarray, " row"]
"""Rows of records in the data set's index."""


@dataclass(frozen=True)
class PretrainingRecords:
    """The records to pretrain on.

    Attributes:
        train: Rows of the training records in the data set's index.
        validation: Rows of the records that the validation error is computed on.
        excluded: Number of excluded patients; see `PretrainSettings`.
    """

    train: Rows
    validation: Rows
    excluded: int


def choose_records(
    dataset: Dataset, settings: PretrainSettings, log: Callable[[str], None]
) -> PretrainingRecords:
    """Select the records to pretrain on, by patient.

    Args:
        dataset: The data set.
        settings: Selection of records and of the patients to exclude.
        log: Called with lines of text.

    Returns:
        The selected records of the patients who are not excluded.

    Raises:
        UserError: A file is invalid, or there are too few patients.
    """
    index = dataset.index()
    selected = select_records(index.record_id, limit=settings.limit, records=settings.records)
    rows = np.flatnonzero(np.isin(index.record_id, selected))
    excluded = np.unique(_excluded_patients(dataset, settings, rows, log))
    used = np.setdiff1d(index.patient_id[rows], excluded)
    count = round(settings.validation * len(used)) or 1
    if len(used) <= count:
        raise UserError(
            f"{len(excluded):,} patients of {dataset.namespace} are excluded, and the remaining "
            f"{len(used):,} are too few; use more records or fewer --repeats."
        )
    rng = np.random.default_rng([settings.seed, len(used)])
    validation = rng.permutation(used)[:count]
    patients = index.patient_id[rows]
    return PretrainingRecords(
        train=rows[np.isin(patients, np.setdiff1d(used, validation))],
        validation=rows[np.isin(patients, validation)],
        excluded=len(excluded),
    )


def _excluded_patients(
    dataset: Dataset, settings: PretrainSettings, rows: Rows, log: Callable[[str], None]
) -> RecordIds:
    """Return the patients of `settings.exclude_records`, the test folds or random test parts."""
    index = dataset.index()
    if settings.exclude_records is not None:
        listed = select_records(index.record_id, records=settings.exclude_records)
        return index.patient_id[np.isin(index.record_id, listed)]
    if settings.folds is not None:
        part = read_folds(settings.folds, index).part
        is_test = part.reindex(index.record_id).eq("test").fillna(value=False).to_numpy(bool)
        return index.patient_id[is_test]
    rows = _readable_records(dataset, rows, log)
    test = [
        draw_cohort(
            index.record_id[rows], index.patient_id[rows], patients=settings.patients, seed=seed
        ).test
        for seed in range(settings.seed, settings.seed + settings.repeats)
    ]
    return index.patient_id[np.isin(index.record_id, np.concatenate(test))]


def _readable_records(dataset: Dataset, rows: Rows, log: Callable[[str], None]) -> Rows:
    """Return one readable record of each patient that has any.

    Training draws its cohorts from the patients that have embeddings. Including a patient without a
    readable record would therefore change the random draw of all test patients.
    """
    index: RecordIndex = dataset.index()
    log(f"Reading one ECG of each patient to find the test patients of {dataset.namespace}.")
    readable: list[int] = []
    pending = rows
    while len(pending):
        _, first = np.unique(index.patient_id[pending], return_index=True)
        batch_rows = pending[first]
        batches = decode_batches(dataset, np.arange(len(index)), batch_rows, lambda: CHECK_BATCH)
        failed = [
            record.row
            for batch in batches
            for record in batch
            if isinstance(record.ecg, UnreadableRecord)
        ]
        readable += np.setdiff1d(batch_rows, failed).tolist()
        remaining = np.delete(pending, first)
        pending = remaining[np.isin(index.patient_id[remaining], index.patient_id[failed])]
    return np.sort(np.array(readable, int))
