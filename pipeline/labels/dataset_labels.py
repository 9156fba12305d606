"""Read the labels of any data set, with a reason for each missing label."""

import logging
import time
from collections import Counter

import pandas as pd

from pipeline.datasets.base import Dataset
from pipeline.datasets.label_values import parse_table
from pipeline.datasets.record_labels import (
    HasRecordLabels,
    Progress,
    RecordLabels,
    assemble_labels,
)

_log = logging.getLogger(__name__)

LOG_SECONDS = 10.0
"""Minimum time between two log lines of progress."""


def read_dataset_labels(dataset: Dataset, progress: Progress | None = None) -> RecordLabels:
    """Read the labels of a data set.

    Args:
        dataset: The data set. If it does not implement `HasRecordLabels`, its `labels` are parsed
            like those of a user's table.
        progress: Called as ``progress(done, total)``, in records or bytes; see
            `HasRecordLabels.record_labels`. By default, the percentage is logged every
            `LOG_SECONDS`. Not called for data sets without `HasRecordLabels`.

    Returns:
        Labels in the order of the data set's index, with a reason for each missing label.
    """
    if isinstance(dataset, HasRecordLabels):
        return dataset.record_labels(progress or _log_progress())
    index, skipped = dataset.index(), Counter[str]()
    table = dataset.labels().reindex(pd.Index(index.record_id, name="record_id"))
    parts = parse_table(table, dataset.namespace, skipped)
    return assemble_labels(index, parts, skipped)


def _log_progress() -> Progress:
    last = time.monotonic()

    def progress(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= LOG_SECONDS:
            last = time.monotonic()
            _log.info("Labels: read %.0f %%.", 100 * done / max(1, total))

    return progress
