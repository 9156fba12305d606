"""A data set of any size that repeats a small number of files."""

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.datasets.base import RecordIndex
from pipeline.datasets.registry import open_dataset
from pipeline.synthetic.synthesize import synthesize

FILES = 60
"""Number of synthetic patients."""


class RepeatedRecords:
    """Synthetic ECGs of a few patients, repeated.

    Args:
        folder: Folder of the synthetic data set, which is written if it does not exist.
        records: Number of records in the index.
    """

    namespace = "repeated/1"

    def __init__(self, folder: Path, records: int) -> None:
        if not folder.exists():
            synthesize(folder, patients=FILES, seed=0, spoiled_fraction=0)
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
