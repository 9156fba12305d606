"""ECGs of the synthetic data set, written as other data sets have them."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import wfdb

from pipeline.datasets.mimic_iv_ecg import MimicIvEcg
from pipeline.waveforms.errors import UnreadableRecord

UNITS_PER_MV = 1000


class Source(NamedTuple):
    """Whole synthetic ECGs (12, 5000) in mV, and their labels in the same order."""

    ecgs: list[np.ndarray]
    labels: pd.DataFrame


def whole_ecgs(synthetic_dir: Path, count: int) -> Source:
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
    """A record in format 16 at 1,000 steps a mV, all signals in one file; 100 Hz by every fifth
    sample.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    steps = np.rint(ecg[:, :: 500 // hz].T * UNITS_PER_MV).astype(np.int16)
    wfdb.wrsamp(
        path.name,
        fs=hz,
        units=["mV"] * 12,
        sig_name=list(leads),
        d_signal=steps,
        fmt=["16"] * 12,
        adc_gain=[float(UNITS_PER_MV)] * 12,
        baseline=[0] * 12,
        write_dir=str(path.parent),
    )
