"""A data set of any number of records that repeats the files of a few patients."""

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.datasets.base import RecordIndex
from pipeline.datasets.registry import open_dataset
from pipeline.synthetic.synthesize import synthesize

PATIENTS = 60
"""Number of synthetic patients."""


class RepeatedRecords:
    """Data set that repeats the ECGs of a few synthetic patients.

    Args:
        folder: Folder of the synthetic data set; created if it does not exist.
        records: Number of records in the index.
    """

    namespace = "repeated/1"

    def __init__(self, folder: Path, records: int) -> None:
        if not folder.exists():
            synthesize(folder, patients=PATIENTS, seed=0, spoiled_fraction=0)
        self.source = open_dataset(f"mimic-iv-ecg:{folder}")
        self.files = len(self.source.index())
        self.records = records

    def index(self) -> RecordIndex:
        ids = np.arange(self.records)
        return RecordIndex(ids, ids)

    def read(self, row: int) -> np.ndarray:
        return self.source.read(row % self.files)

    def read_leads(self, row: int) -> Any:
        raise NotImplementedError

    def labels(self) -> Any:
        raise NotImplementedError
