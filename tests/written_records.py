"""Read synthetic ECGs, and write them as WFDB records in the layout of other data sets."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import wfdb

from pipeline.datasets.mimic_iv_ecg import MimicIvEcg
from pipeline.waveforms.errors import UnreadableRecord

UNITS_PER_MV = 1000


class Source(NamedTuple):
    """Readable ECGs of shape (12, 5000) in mV, and their labels in the same order."""

    ecgs: list[np.ndarray]
    labels: pd.DataFrame


def read_ecgs(synthetic_dir: Path, count: int) -> Source:
    """Read the first `count` readable ECGs of a synthetic data set."""
    dataset = MimicIvEcg(synthetic_dir)
    ecgs, rows = [], []
    for row in range(len(dataset.index())):
        try:
            ecgs.append(dataset.read(row))
        except UnreadableRecord:
            continue
        rows.append(row)
        if len(rows) == count:
            break
    return Source(ecgs, dataset.labels().iloc[rows])


def write_record(path: Path, ecg: np.ndarray, leads: tuple[str, ...], hz: int = 500) -> None:
    """Write a 500 Hz ECG as a WFDB record in format 16.

    Args:
        path: Path of the record without suffix.
        ecg: ECG in mV, shape (12, 5000).
        leads: Names of the leads.
        hz: Sampling rate of the record, a divisor of 500; samples are omitted without a filter.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.rint(ecg[:, :: 500 // hz].T * UNITS_PER_MV).astype(np.int16)
    wfdb.wrsamp(
        path.name,
        fs=hz,
        units=["mV"] * 12,
        sig_name=list(leads),
        d_signal=samples,
        fmt=["16"] * 12,
        adc_gain=[float(UNITS_PER_MV)] * 12,
        baseline=[0] * 12,
        write_dir=str(path.parent),
    )
