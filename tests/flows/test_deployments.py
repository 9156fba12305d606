import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from prefect.automations import Automation
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.settings import PREFECT_API_URL, temporary_settings

from enecg.errors import UserError
from flows.lab.deploy_step import prepare_server
from flows.preflight import check_server

ROOT = Path(__file__).resolve().parents[2]

FILE = yaml.safe_load((ROOT / "prefect.yaml").read_text())
DEPLOYMENTS = FILE["deployments"]
STEP = FILE["build"][0]["flows.lab.deploy_step.prepare_server"]
SILENT = "EnECG: crash runs without heartbeats"


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda deployment: deployment["name"])
def test_deployment_names_a_flow_and_valid_parameters(deployment: dict):
    path, _, name = deployment["entrypoint"].partition(":")
    flow = getattr(import_module(path.removesuffix(".py").replace("/", ".")), name)
    assert flow.name == deployment["name"]
    assert set(deployment["parameters"]) <= set(flow.parameters.properties)
    flow.validate_parameters(deployment["parameters"])


def test_schedules_are_inactive():
    schedules = [
        schedule for deployment in DEPLOYMENTS for schedule in deployment.get("schedules", ())
    ]
    assert [schedule["active"] for schedule in schedules] == [False, False]


def test_all_deployments_that_use_the_gpu_share_one_queue():
    queues = {
        deployment["name"]: deployment["work_pool"]["work_queue_name"] for deployment in DEPLOYMENTS
    }
    assert queues.pop("label") == "default"
    assert {*queues.values()} == {"gpu"}
    assert STEP["queue"] == "gpu"


def test_runs_are_set_to_crashed_after_more_than_three_heartbeat_intervals():
    for deployment in DEPLOYMENTS:
        variables = deployment["work_pool"]["job_variables"]["env"]
        seconds = int(variables["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"])
        assert 3 * seconds < STEP["crashed_after_seconds"]


@pytest.fixture
def server_with_services(tmp_path: Path) -> Iterator[str]:
    """URL of a Prefect server whose services run, unlike those of `prefect_server`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["prefect", "server", "start", "--no-ui", "--port", str(port)]
    inherited = {k: value for k, value in os.environ.items() if not k.startswith("PREFECT_")}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [Path(sys.executable).parent / command[0], *command[1:]],
            env={**inherited, "PREFECT_HOME": str(tmp_path), "DO_NOT_TRACK": "1"},
            stdout=log,
            stderr=log,
        )
    url = f"http://127.0.0.1:{port}/api"
    try:
        for _ in range(240):
            with suppress(UserError):
                check_server(url)
                break
            time.sleep(0.5)
        yield url
    finally:
        process.terminate()
        process.wait(60)


def test_server_creates_runs_for_an_active_schedule(server_with_services: str):
    with (
        temporary_settings({PREFECT_API_URL: server_with_services}),
        get_client(sync_client=True) as client,
    ):
        flow = client.create_flow_from_name("nightly")
        schedule = DeploymentScheduleCreate(schedule=IntervalSchedule(interval=timedelta(days=1)))
        client.create_deployment(flow, "nightly", schedules=[schedule])
        for _ in range(120):
            if client.read_flow_runs():
                return
            time.sleep(0.5)
    pytest.fail("no run within a minute")


@pytest.fixture
def pool(prefect_server: None) -> str:
    """A new work pool, on a server without automations."""
    name = f"lab-{uuid.uuid4().hex}"
    with get_client(sync_client=True) as client:
        for automation in client.read_automations():
            client.delete_automation(automation.id)
        client.create_work_pool(WorkPoolCreate(name=name, type="process"))
    return name


def limit_of(pool: str) -> int | None:
    with get_client(sync_client=True) as client:
        return client.read_work_queue_by_name("gpu", work_pool_name=pool).concurrency_limit


def automations() -> dict[str, Automation]:
    with get_client(sync_client=True) as client:
        return {found.name: found for found in client.read_automations()}


def test_step_creates_the_queue_and_the_automations_and_can_be_repeated(pool: str):
    prepare_server(pool=pool, queue="gpu")
    assert limit_of(pool) == 1
    first = automations()
    assert len(first) == 2
    Automation.read(name=SILENT).disable()
    prepare_server(pool=pool, queue="gpu", gpu_runs=3, crashed_after_seconds=600)
    assert limit_of(pool) == 3
    second = automations()
    assert {*second} == {*first}
    assert second[SILENT].trigger.within.total_seconds() == 600
    assert not second[SILENT].enabled


def test_step_does_not_reset_triggers_that_it_does_not_change(
    pool: str, monkeypatch: pytest.MonkeyPatch
):
    prepare_server(pool=pool, queue="gpu")
    monkeypatch.setattr(SyncPrefectClient, "update_automation", pytest.fail)
    prepare_server(pool=pool, queue="gpu")


def test_automation_for_failures_requires_the_block_that_the_environment_names(
    pool: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("ENECG_NOTIFY_BLOCK", "custom-webhook/lab")
    with pytest.raises(UserError, match="no block 'custom-webhook/lab'; create it"):
        prepare_server(pool=pool, queue="gpu")
    CustomWebhookNotificationBlock(name="lab", url="http://127.0.0.1:9").save("lab")
    prepare_server(pool=pool, queue="gpu")
    assert "EnECG: report failures" in automations()
