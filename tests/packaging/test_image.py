"""The Docker image contains the code, and no data, labels or runs."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_only_listed_files_get_into_the_image():
    lines = [
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert lines[0] == "*"
    allowed = {line.removeprefix("!") for line in lines if line.startswith("!")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    assert packages | {"pyproject.toml", "constraints.txt", "prefect.yaml"} <= allowed
    assert all((ROOT / name).exists() for name in allowed)


def test_data_labels_and_runs_are_not_committed():
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {"/data/", "/labels/", "/runs/", "/stores-data/"} <= {*ignored}
