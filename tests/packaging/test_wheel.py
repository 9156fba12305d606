"""The built wheel works in a fresh environment, without the repository."""

import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

TRAINING = """
import enecg

dataset, store = "mimic-iv-ecg:data", "stores-data"
enecg.synthesize("data", patients=30, seed=0)
options = enecg.ExtractOptions(weights=("random:0",))
enecg.extract(dataset, store, ("dlinear",), options=options)
settings = enecg.TrainSettings(
    experts=("dlinear",), weights=("random:0",), repeats=1, fit=enecg.FitSettings(epochs=2)
)
print(enecg.train(dataset, store, "run", settings=settings).page)
"""


def run(*command: str | Path, folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_wheel_installs_and_trains_in_a_fresh_environment(tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
    run(*pip, "wheel", "--no-deps", "--wheel-dir", wheels, ROOT, folder=tmp_path)
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    install = (python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
    constraints = ("--constraint", ROOT / "constraints.txt")
    run(*install, *constraints, "torch", folder=tmp_path)
    run(*install, *constraints, *wheels.glob("*.whl"), folder=tmp_path)
    work = tmp_path / "work"
    work.mkdir()
    assert "extract" in run(tmp_path / "env" / "bin" / "enecg", "--help", folder=work)
    page = run(python, "-c", TRAINING, folder=work).splitlines()[-1]
    assert "untrained" in (work / page).read_text()
