"""Checks of a data set: index, decoded records and labels."""

from collections import Counter
from collections.abc import Iterator

import numpy as np

from flows.doctor.finding import Finding, Status
from pipeline.datasets.base import Dataset
from pipeline.datasets.mimic_iv_ecg import MimicIvEcg
from pipeline.waveforms.errors import UnreadableRecord

DECODED = 10
"""Maximum number of records to decode."""

MAX_LABELED = 50_000
"""The labels of data sets with more records are not read, because this takes minutes."""


def check_index(dataset: Dataset) -> Iterator[Finding]:
    """Report the numbers of records and patients; fail if there are no records."""
    index = dataset.index()
    patients = len(np.unique(index.patient_id))
    text = f"{dataset.namespace}: {len(index):,} records of {patients:,} patients"
    if len(index):
        yield Finding("data set: index", "ok", text)
    else:
        yield Finding("data set: index", "failed", text, "pass the root folder of the data set")


def check_records(dataset: Dataset) -> Iterator[Finding]:
    """Decode up to `DECODED` records that are spread evenly over the index."""
    total = len(dataset.index())
    rows = np.unique(np.linspace(0, total - 1, min(DECODED, total)).astype(int))
    reasons: Counter[str] = Counter()
    example = ""
    for row in rows.tolist():
        try:
            dataset.read(row)
        except UnreadableRecord as error:
            reasons[error.reason] += 1
            example = example or error.detail
    if not reasons:
        yield Finding("data set: records", "ok", f"{len(rows)} of {len(rows)} decoded")
        return
    counts = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
    text = f"{len(rows) - reasons.total()} of {len(rows)} decoded ({counts}). {example}"
    status: Status = "warning" if reasons.total() < len(rows) else "failed"
    yield Finding("data set: records", status, text.rstrip("."), "run enecg data check")


def check_labels(dataset: Dataset) -> Iterator[Finding]:
    """Report MIMIC-IV-ECG's label tables, and count labels unless `MAX_LABELED` is exceeded."""
    if isinstance(dataset, MimicIvEcg):
        tables = dataset.find_label_tables()
        found = [name for name, exists in tables.items() if exists]
        missing = [name for name, exists in tables.items() if not exists]
        text = f"found {', '.join(found) or 'none'}"
        if missing:
            text += f"; missing {', '.join(missing)}"
            remedy = "copy these tables into the data set, or link MIMIC-IV's folder hosp into it"
            yield Finding("labels: tables", "warning", text, remedy)
        else:
            yield Finding("labels: tables", "ok", text)
    total = len(dataset.index())
    if total > MAX_LABELED:
        yield Finding("labels", "ok", f"not read: more than {MAX_LABELED:,} records")
        return
    labels = dataset.labels().drop(columns="patient_id")
    counts = labels.notna().sum()
    text = ", ".join(f"{name} {count:,}" for name, count in counts.items() if count)
    if text:
        yield Finding("labels", "ok", f"labels of {total:,} records: {text}")
    else:
        yield Finding("labels", "warning", "none", "pass a table with enecg train --labels")
