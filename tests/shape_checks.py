"""Checks of the shapes and dtypes in jaxtyping annotations during tests."""

from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

MODULES = (
    "enecg.ensembles",
    "enecg.experts.apply_filters",
    "enecg.experts.measurements",
    "enecg.running_median",
    "enecg.signal",
    "enecg.zero_phase",
    "pipeline.datasets.base",
    "pipeline.datasets.ludb",
    "pipeline.datasets.mimic_iv_ecg",
    "pipeline.datasets.ptb_xl",
    "pipeline.datasets.wfdb_directory",
    "pipeline.waveforms.decode",
    "pipeline.waveforms.failures",
    "pipeline.waveforms.lead_signals",
    "pipeline.datasets.mimic_tables",
    "pipeline.datasets.absence_reasons",
    "pipeline.synthetic",
    "pipeline.waveforms.wfdb_samples",
)
"""Modules and packages whose signatures are checked."""

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
"""Decorator that checks a function's annotations; it accepts an int for a float."""


def install() -> None:
    """Check the calls of functions in those `MODULES` that are imported after this call."""
    install_import_hook(MODULES, "shape_checks.check")
