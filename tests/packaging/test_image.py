"""The build context of the Docker image contains the code, and no data, labels or runs."""

import tomllib
from pathlib import Path

import pytest
from docker.utils.build import exclude_paths

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
FILES = {"LICENSE", "README.md", "constraints.txt", "prefect.yaml", "pyproject.toml"}
PRIVATE = [
    ".env",
    ".git/config",
    ".venv/bin/python",
    "data/demo/files/p1000/p1/s1/1.dat",
    "enecg/.env",
    "enecg/__pycache__/tasks.cpython-311.pyc",
    "labels/demo.parquet",
    "patients.csv",
    "pipeline/labels/demo.parquet",
    "pipeline/patients.csv.gz",
    "runs/lab/predictions.parquet",
    "stores-data/lab/mimic-iv-ecg/zarr.json",
    "stores/1.hea",
]


def code_files() -> list[Path]:
    """Return the files of the packages."""
    return [
        path.relative_to(ROOT)
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]


def build_context(folder: Path) -> set[str]:
    """Return the files that Docker sends to the build, without Dockerfile and .dockerignore."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    found = {path for path in exclude_paths(folder, patterns) if (folder / path).is_file()}
    return found - {"Dockerfile", ".dockerignore"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout of empty files, including private ones that must not be in the image."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in [
        *map(str, code_files()),
        *FILES,
        *PRIVATE,
        "Dockerfile",
        ".dockerignore",
        "Makefile",
    ]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_context_is_the_code_and_the_files_that_the_build_needs(folder: Path):
    context = build_context(folder)
    assert not context & {*PRIVATE}
    assert {path for path in context if "/" not in path} == FILES
    packaged = {path for path in context if "/" in path}
    assert {path.partition("/")[0] for path in packaged} == {*PACKAGES}
    assert {Path(path).suffix for path in packaged} == {".py", ".pyi", ".html", ".json"}
    modules = {path for path in map(str, code_files()) if path.endswith(".py")}
    assert modules == {path for path in packaged if path.endswith(".py")}
    assert "pipeline/report/templates/page.html" in packaged


def test_every_file_that_the_dockerfile_copies_is_in_the_context(folder: Path):
    copies = [
        source
        for line in (ROOT / "Dockerfile").read_text().splitlines()
        if line.startswith("COPY ")
        for source in line.split()[1:-1]
    ]
    assert copies == ["constraints.txt", "."]
    assert "constraints.txt" in build_context(folder)


def test_git_ignores_data_labels_runs_and_stores():
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {"/data/", "/labels/", "/runs/", "/stores-data/"} <= {*ignored}
