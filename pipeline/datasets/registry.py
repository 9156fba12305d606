"""Data sets by name, as the user writes them: `mimic-iv-ecg:DIR`, `ludb:DIR`."""

from collections.abc import Callable
from pathlib import Path

from enecg.errors import UserError
from pipeline.datasets.base import Dataset
from pipeline.datasets.ludb import Ludb
from pipeline.datasets.mimic_iv_ecg import MimicIvEcg

DATASETS: dict[str, Callable[[str | Path], Dataset]] = {"mimic-iv-ecg": MimicIvEcg, "ludb": Ludb}
"""What opens a data set, by name; a new source is one file and one line here."""


def open_dataset(name: str) -> Dataset:
    """The data set called `NAME:DIRECTORY`, or `NAME:URL` where the source can lie at one.

    Raises UserError where the name is unknown, or the directory or a table it needs is not there.
    """
    source, colon, directory = name.partition(":")
    known = " or ".join(f"{source}:DIRECTORY" for source in DATASETS)
    if source not in DATASETS:
        raise UserError(f"There is no data set {name!r}; write {known}.")
    if not colon or not directory:
        raise UserError(f"The data set {name!r} has no directory; write {known}.")
    root = directory if "://" in directory else Path(directory).expanduser()
    return DATASETS[source](root)
