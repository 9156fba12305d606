"""Open data sets by specs such as ``ludb:FOLDER`` or ``wfdb:NAME=FOLDER``."""

from collections.abc import Callable
from functools import partial
from inspect import signature
from pathlib import Path

from enecg.errors import UserError
from pipeline.datasets.base import Dataset, decoding_of
from pipeline.datasets.ludb import Ludb
from pipeline.datasets.mimic_iv_ecg import MimicIvEcg
from pipeline.datasets.ptb_xl import PtbXl
from pipeline.datasets.wfdb_directory import WfdbDirectory
from pipeline.waveforms.options import DEFAULT_OPTIONS, DecodeOptions

DATASETS: dict[str, Callable[..., Dataset]] = {
    "mimic-iv-ecg": MimicIvEcg,
    "ludb": Ludb,
    "ptb-xl": PtbXl,
    "ptb-xl-100": partial(PtbXl, rate_hz=100),
}
"""Constructors by source, with the folder or URL as argument. To add a source, write a module
and add a line here. The constructor may have a parameter `decoding`."""

NAMED_DATASETS: dict[str, Callable[..., Dataset]] = {"wfdb": WfdbDirectory}
"""Constructors of sources whose data sets need a name, which is the first argument."""


def resolve_dataset(dataset: str | Dataset, decoding: DecodeOptions) -> Dataset:
    """Return a data set given as an object or by its spec.

    Args:
        dataset: A data set, or its spec.
        decoding: Options for short records and missing leads. If `dataset` is an object, they must
            equal its own options, unless they are the defaults, which are ignored.

    Returns:
        The data set.

    Raises:
        UserError: The data set cannot be opened, or was created with other options.
    """
    if isinstance(dataset, str):
        return open_dataset(dataset, decoding)
    if decoding not in (DEFAULT_OPTIONS, decoding_of(dataset)):
        raise UserError(
            f"The data set {dataset.namespace} was created with {decoding_of(dataset)}, but "
            f"{decoding} was requested; pass decoding= to its constructor, or pass its spec."
        )
    return dataset


def open_dataset(spec: str, decoding: DecodeOptions = DEFAULT_OPTIONS) -> Dataset:
    """Open a data set.

    Args:
        spec: ``SOURCE:FOLDER``, ``SOURCE:URL`` for sources that support URLs, or
            ``SOURCE:NAME=FOLDER`` for sources in `NAMED_DATASETS`.
        decoding: Options for short records and missing leads.

    Returns:
        The data set.

    Raises:
        UserError: The spec is invalid, the source does not support the decoding options, or the
            folder or a required table does not exist.
    """
    source, _, location = spec.partition(":")
    forms = {name: f"{name}:FOLDER" for name in DATASETS}
    forms |= {name: f"{name}:NAME=FOLDER" for name in NAMED_DATASETS}
    if source not in forms:
        raise UserError(f"Unknown data set {spec!r}; use {' or '.join(forms.values())}.")
    name, separator, directory = (
        location.partition("=") if source in NAMED_DATASETS else ("", "=", location)
    )
    if not separator:
        raise UserError(
            f"The data set {spec!r} has no name to separate its embeddings from those of other "
            f"folders; use {forms[source]}."
        )
    if not directory:
        raise UserError(f"The data set {spec!r} has no folder; use {forms[source]}.")
    options = {} if decoding == DEFAULT_OPTIONS else {"decoding": decoding}
    constructor = NAMED_DATASETS.get(source) or DATASETS[source]
    if options and "decoding" not in signature(constructor).parameters:
        raise UserError(
            f"{source} does not support --short-records or --derive-leads; omit these options."
        )
    root = directory if "://" in directory else Path(directory).expanduser()
    if source in NAMED_DATASETS:
        return constructor(name, root, **options)
    return constructor(root, **options)
