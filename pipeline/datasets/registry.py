"""Data sets by name, as the user writes them: `mimic-iv-ecg:DIR`, `wfdb:NAME=DIR`."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from enecg.errors import UserError
from pipeline.datasets.base import Dataset
from pipeline.datasets.ludb import Ludb
from pipeline.datasets.mimic_iv_ecg import MimicIvEcg
from pipeline.datasets.ptb_xl import PtbXl
from pipeline.datasets.wfdb_directory import WfdbDirectory

DATASETS: dict[str, Callable[[str | Path], Dataset]] = {
    "mimic-iv-ecg": MimicIvEcg,
    "ludb": Ludb,
    "ptb-xl": PtbXl,
    "ptb-xl-100": partial(PtbXl, rate_hz=100),
}
"""What opens a data set, by name; a new source is one file and one line here."""

NAMED: dict[str, Callable[[str, Path], Dataset]] = {"wfdb": WfdbDirectory}
"""What opens a data set that has no name of its own, and is given one."""


def open_dataset(name: str) -> Dataset:
    """The data set called `SOURCE:DIRECTORY`, or `SOURCE:URL` where the source can lie at one;
    of those of `NAMED`, `SOURCE:NAME=DIRECTORY`.

    Raises UserError where the source is unknown, or the directory or a table it needs is not there.
    """
    source, _, place = name.partition(":")
    forms = {one: f"{one}:DIRECTORY" for one in DATASETS}
    forms |= {one: f"{one}:NAME=DIRECTORY" for one in NAMED}
    if source not in forms:
        raise UserError(f"There is no data set {name!r}; write {' or '.join(forms.values())}.")
    given, equals, directory = place.partition("=") if source in NAMED else ("", "=", place)
    if not equals:
        raise UserError(
            f"The data set {name!r} has no name, by which its embeddings are told from those of "
            f"other directories; write {forms[source]}."
        )
    if not directory:
        raise UserError(f"The data set {name!r} has no directory; write {forms[source]}.")
    if source in NAMED:
        return NAMED[source](given, Path(directory).expanduser())
    return DATASETS[source](directory if "://" in directory else Path(directory).expanduser())
