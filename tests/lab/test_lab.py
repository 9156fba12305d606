"""The services of the Compose files: killed worker, canceled extraction and damaged store."""

import base64
import json
import re
import urllib.error
import urllib.request
from typing import Any

import numpy as np
import pytest
from lab_servers import Lab, wait_for

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

EXPERTS = ["dlinear", "timesnet"]
CRASH_SECONDS = 120
"""Maximum time until a silent run is set to *Crashed*; see `CRASHED_AFTER_SECONDS`."""


def get(url: str, credentials: str | None) -> tuple[int, str]:
    request = urllib.request.Request(url)
    if credentials is not None:
        encoded = base64.b64encode(credentials.encode()).decode()
        request.add_header("Authorization", f"Basic {encoded}")
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""


def api(lab: Lab, path: str, body: dict[str, Any] | None = None) -> Any:
    request = urllib.request.Request(
        f"{lab.environment['PREFECT_API_URL']}/{path}",
        None if body is None else json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    encoded = base64.b64encode(lab.values["PREFECT_AUTH"].encode()).decode()
    request.add_header("Authorization", f"Basic {encoded}")
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def start_run(lab: Lab, deployment: str, **parameters: Any) -> str:
    options = [
        part for name, value in parameters.items() for part in ("-p", f"{name}={json.dumps(value)}")
    ]
    output = lab.run("prefect", "deployment", "run", deployment, "--tag", "user:anna", *options)
    return output.partition("flow-run/")[2].split()[0]


def state(lab: Lab, run: str) -> str:
    return str(api(lab, f"flow_runs/{run}")["state"]["type"])


def wait_for_state(lab: Lab, run: str, expected: str, seconds: float = 240) -> None:
    def reached() -> bool:
        found = state(lab, run)
        assert found == expected or found not in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"), (
            f"{found} instead of {expected}:\n{lab.log('worker')[-5000:]}"
        )
        return found == expected

    wait_for(reached, f"{expected}", seconds)


def keys(bucket: Any, prefix: str) -> list[str]:
    found = bucket.list_objects_v2(Bucket="lab", Prefix=prefix).get("Contents", ())
    return [entry["Key"] for entry in found]


def leases(bucket: Any, prefix: str) -> list[dict[str, Any]]:
    """Return the leases that have not been released."""
    found = [key for key in keys(bucket, prefix) if "/leases/" in key]
    bodies = [json.load(bucket.get_object(Bucket="lab", Key=key)["Body"]) for key in found]
    return [body for body in bodies if not body.get("released")]


def refresh_parameters(lab: Lab, root: str) -> dict[str, Any]:
    return {
        "dataset": f"mimic-iv-ecg:{lab.folder / 'data'}",
        "store": f"s3://lab/{root}",
        "out": str(lab.folder / "runs" / root),
        "experts": EXPERTS,
        "weights": ["random:0"],
        "scheduler": f"tcp://127.0.0.1:{lab.ports['dask-scheduler:8786']}",
        # With a fixed batch size, embeddings do not depend on how the work was divided.
        "batch_size": 8,
        "device": "cpu",
        "tasks": ["age", "sex"],
        "repeats": 1,
    }


def command_line(parameters: dict[str, Any]) -> list[str]:
    """Return parameters of a flow as options of the command."""
    return [
        f"--{name.replace('_', '-')}={','.join(value) if isinstance(value, list) else value}"
        for name, value in parameters.items()
    ]


def test_every_process_of_the_compose_files_starts_and_passwords_are_required(lab: Lab):
    assert {*lab.processes} >= {"server", "worker", "pages", "dask-scheduler", "dask-worker"}
    server, pages = lab.environment["PREFECT_API_URL"], lab.values["ENECG_PAGES_URL"]
    assert get(f"{server}/flows/count", None)[0] == 401
    assert get(f"{server}/admin/version", lab.values["PREFECT_AUTH"])[0] == 200
    assert get(pages, "anna:wrong")[0] == 401
    assert get(pages, lab.values["PAGES_AUTH"])[0] == 200
    names = {found["name"] for found in api(lab, "deployments/filter", {})}
    assert names == {"extract", "pretrain", "label", "train", "sweep", "refresh", "verify"}
    limits = {
        queue["name"]: queue["concurrency_limit"]
        for queue in api(lab, "work_pools/lab/queues/filter", {})
    }
    assert limits == {"default": None, "gpu": 1}


@pytest.fixture
def s3_credentials(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give this process access to the S3 server."""
    for name, value in lab.environment.items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)


def create_stores(parameters: dict[str, Any]) -> None:
    """Create empty stores with small shards, so that an extraction writes rows several times."""
    from pipeline.extract import extract
    from pipeline.extraction.options import ExtractOptions

    extract(
        parameters["dataset"],
        parameters["store"],
        ["dlinear"],
        options=ExtractOptions(weights=parameters["weights"], shard_rows=parameters["batch_size"]),
        run_plan=lambda plan, summary, engine: None,
    )


@pytest.mark.usefixtures("s3_credentials")
def test_refresh_resumes_after_kill_9_of_worker_and_flow(lab: Lab, bucket: Any):
    create_stores(refresh_parameters(lab, "killed"))
    killed = start_run(lab, "refresh/refresh", **refresh_parameters(lab, "killed"))
    # The second expert has rows, and the extraction has not finished.
    status = re.compile("killed/.*/timesnet/[^/]+/status/c/")
    wait_for(lambda: any(map(status.match, keys(bucket, "killed/"))), "first rows")
    assert leases(bucket, "killed/")
    lab.kill("worker")
    assert state(lab, killed) == "RUNNING"
    lab.start("worker")
    resumed = start_run(lab, "refresh/refresh", **refresh_parameters(lab, "killed"))
    # Meanwhile, run the same job without Prefect and without a kill.
    undisturbed = lab.popen(
        "undisturbed",
        ["enecg", "refresh", *command_line(refresh_parameters(lab, "undisturbed"))],
        {name: text for name, text in lab.environment.items() if name != "PREFECT_API_URL"},
    )
    # The killed run occupies the queue until the automation detects that its heartbeats stopped.
    wait_for_state(lab, killed, "CRASHED", CRASH_SECONDS)
    wait_for(
        lambda: any("Crashed: refresh" in message["subject"] for message in lab.messages), "message"
    )
    wait_for_state(lab, resumed, "COMPLETED")
    assert undisturbed.wait(240) == 0, lab.log("undisturbed")
    (first,), (second,) = (
        [*(lab.folder / "runs" / name).glob("*/results.json")] for name in ("killed", "undisturbed")
    )
    results = [json.loads(file.read_text()) for file in (first, second)]
    assert results[0]["scores"] == results[1]["scores"]
    compare_embeddings()
    name = api(lab, f"flow_runs/{resumed}")["name"]
    assert name.startswith(f"refresh dlinear,timesnet of mimic-iv-ecg:{lab.folder}")
    assert name.endswith("in s3://lab/killed by anna")
    names = [run["name"] for run in api(lab, "flow_runs/filter", {"limit": 200})]
    subflow = f"extract dlinear,timesnet of mimic-iv-ecg:{lab.folder / 'data'} in s3://lab/killed"
    assert f"{subflow} by anna" in names
    check_artifacts(lab, resumed)


def compare_embeddings() -> None:
    """Assert that the stores of both roots have the same ids, status and embeddings."""
    from stores.opening import resolve

    roots = [resolve(f"s3://lab/{name}").found.stores for name in ("killed", "undisturbed")]
    assert len(roots[0]) == len(roots[1]) == len(EXPERTS) + 1
    for first, second in zip(*roots, strict=True):
        assert first.location.parent.name == second.location.parent.name
        for array in ("record_id", "status", "embedding"):
            np.testing.assert_array_equal(
                first.array(array)[...], second.array(array)[...], err_msg=array
            )


def check_artifacts(lab: Lab, run: str) -> None:
    """Check a run's and its subflows' artifacts, and the links to its page and failed records."""
    found = {
        artifact["key"]: artifact
        for artifact in api(lab, "artifacts/latest/filter", {"limit": 100})
    }
    kinds = ("extraction-", "extract-progress-", "train-progress-", "results-", "page-", "failed-")
    for kind in kinds:
        (artifact,) = [
            artifact
            for key, artifact in found.items()
            if key.startswith(kind) and "killed" in key and not key.endswith("-file")
        ]
        assert artifact["description"]
    for kind in ("page-", "failed-records-"):
        link = next(
            artifact
            for key, artifact in found.items()
            if key.startswith(kind) and "killed" in key and artifact["type"] == "markdown"
        )["data"]
        url = link.partition("(")[2].rstrip(")")
        status, text = get(url, lab.values["PAGES_AUTH"])
        assert status == 200
        assert "EnECG" in text or text.startswith("record_id")


def test_cancel_frees_the_lease_and_the_queue(lab: Lab, bucket: Any):
    parameters = refresh_parameters(lab, "canceled")
    for name in ("out", "tasks", "repeats"):
        del parameters[name]
    canceled = start_run(lab, "extract/extract", **parameters)
    waiting = start_run(
        lab,
        "verify/verify",
        store="s3://lab/killed",
        sample=2,
        device="cpu",
        dataset=parameters["dataset"],
    )
    wait_for(lambda: leases(bucket, "canceled/"), "lease")
    assert state(lab, waiting) == "SCHEDULED"
    lab.run("prefect", "flow-run", "cancel", canceled)
    wait_for_state(lab, canceled, "CANCELLED", 60)
    assert leases(bucket, "canceled/") == []
    wait_for_state(lab, waiting, "COMPLETED")
    assert "Failed to initialize plugins" not in lab.log("worker")


def test_verify_reports_damage_to_the_webhook(lab: Lab, bucket: Any):
    (key,) = [
        key
        for key in keys(bucket, "killed/")
        if key.endswith("embedding/c/0/0") and "/dlinear/" in key
    ]
    data = bytearray(bucket.get_object(Bucket="lab", Key=key)["Body"].read())
    data[1000] ^= 1
    bucket.put_object(Bucket="lab", Key=key, Body=bytes(data))
    run = start_run(lab, "verify/verify", store="s3://lab/killed", dataset=None)
    wait_for_state(lab, run, "FAILED")
    message = wait_for(
        lambda: [
            message for message in lab.messages if message["subject"].startswith("Failed: verify")
        ],
        "message",
    )
    assert "1 of 3 stores are damaged" in message[0]["body"]
    assert "/dlinear/" in message[0]["body"]
