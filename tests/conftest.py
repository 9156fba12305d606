"""The data that tests read: a small synthetic data set, and real ones where they are at hand."""

import os
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

# Shapes and dtypes in the signatures of these modules are checked while the tests run.
install_import_hook(
    [
        "enecg.ensembles",
        "enecg.signal",
        "pipeline.datasets.base",
        "pipeline.datasets.ludb",
        "pipeline.datasets.mimic_iv_ecg",
        "pipeline.decode",
        "pipeline.labels",
        "pipeline.synthetic",
    ],
    "shape_checks.check",
)

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def _real_data(variable: str, default: Path) -> Path:
    """A directory of real data, from the environment or beside the repository; skips without."""
    path = Path(os.environ.get(variable, default))
    if not path.is_dir():
        pytest.skip(f"{path} is not there; set {variable} to run this on real data")
    return path


@pytest.fixture(scope="session")
def synthetic_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic data set of 30 patients, every kind of spoiled record in it."""
    from pipeline.synthetic.mimic_layout import synthesize

    directory = tmp_path_factory.mktemp("synthetic") / "data"
    synthesize(directory, patients=30, seed=0)
    return directory


@pytest.fixture(scope="session")
def ludb() -> Path:
    """LUDB 1.0.1: 200 real ECGs."""
    return _real_data("ENECG_LUDB", SHARED_DATA / "ludb")


@pytest.fixture(scope="session")
def mimic_demo() -> Path:
    """Tables of the MIMIC-IV demo and of the MIMIC-IV-ECG demo: no waveforms."""
    return _real_data("ENECG_MIMIC_DEMO", SHARED_DATA / "mimic-iv-demo")
