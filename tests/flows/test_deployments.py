import shutil
import subprocess
from importlib import import_module
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]

DEPLOYMENTS = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda deployment: deployment["name"])
def test_deployment_names_a_flow_and_valid_parameters(deployment: dict):
    path, _, name = deployment["entrypoint"].partition(":")
    flow = getattr(import_module(path.removesuffix(".py").replace("/", ".")), name)
    assert flow.name == deployment["name"]
    assert set(deployment["parameters"]) <= set(flow.parameters.properties)
    flow.validate_parameters(deployment["parameters"])


def test_schedule_of_refresh_is_inactive_and_runs_do_not_overlap():
    refresh = next(deployment for deployment in DEPLOYMENTS if deployment["name"] == "refresh")
    assert [schedule["active"] for schedule in refresh["schedules"]] == [False]
    assert refresh["concurrency_limit"]["limit"] == 1


def test_compose_file_is_valid():
    compose = shutil.which("docker-compose")
    if compose is None:
        pytest.skip("docker-compose is not installed")
    checked = subprocess.run(
        [compose, "--file", str(ROOT / "docker-compose.yml"), "config", "--quiet"],
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stderr
