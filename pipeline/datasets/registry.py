"""Data sets by their specs, such as ``ludb:DIRECTORY`` or ``wfdb:NAME=DIRECTORY``."""

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
"""Constructors by source. A new source is one module and one line here."""

NAMED_DATASETS: dict[str, Callable[[str, Path], Dataset]] = {"wfdb": WfdbDirectory}
"""Constructors of sources whose data sets need a name."""


def open_dataset(spec: str) -> Dataset:
    """Open a data set.

    Args:
        spec: ``SOURCE:DIRECTORY``, ``SOURCE:URL`` for sources that support URLs, or
            ``SOURCE:NAME=DIRECTORY`` for those in `NAMED_DATASETS`.

    Returns:
        The data set.

    Raises:
        UserError: The source is unknown, or the directory or a required table does not exist.
    """
    source, _, rest = spec.partition(":")
    forms = {name: f"{name}:DIRECTORY" for name in DATASETS}
    forms |= {name: f"{name}:NAME=DIRECTORY" for name in NAMED_DATASETS}
    if source not in forms:
        raise UserError(f"Unknown data set {spec!r}; use {' or '.join(forms.values())}.")
    name, separator, directory = (
        rest.partition("=") if source in NAMED_DATASETS else ("", "=", rest)
    )
    if not separator:
        raise UserError(
            f"The data set {spec!r} has no name, which separates its embeddings from those of "
            f"other directories; use {forms[source]}."
        )
    if not directory:
        raise UserError(f"The data set {spec!r} has no directory; use {forms[source]}.")
    if source in NAMED_DATASETS:
        return NAMED_DATASETS[source](name, Path(directory).expanduser())
    return DATASETS[source](directory if "://" in directory else Path(directory).expanduser())
