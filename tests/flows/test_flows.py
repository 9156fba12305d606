import csv
import inspect
import json
import logging
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from prefect import Flow, tags
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.utilities.schema_tools import validate

from enecg.errors import UserError
from flows.extract import extract
from flows.job import current_job
from flows.jobs.extract import extract as extract_job
from flows.label import label
from flows.parameters import split
from flows.prefect_job import as_flow
from flows.pretrain import pretrain
from flows.refresh import refresh
from flows.sweep import sweep
from flows.train import train
from flows.verify import verify
from pipeline.datasets.label_rules import LabelRules
from pipeline.extraction.options import ExtractOptions
from pipeline.pretraining.settings import PretrainSettings
from pipeline.training.settings import TrainSettings
from pipeline.waveforms.errors import UnreadableRecord

pytestmark = pytest.mark.usefixtures("prefect_server")


def newest_artifact(kind: str) -> str:
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(like_=f"{kind}-%"))
        )
    newest = max(found, key=lambda artifact: artifact.created)
    return str(newest.data)


@pytest.fixture
def parameters(synthetic_dir: Path, tmp_path: Path) -> dict[str, Any]:
    return {
        "dataset": f"mimic-iv-ecg:{synthetic_dir}",
        "store": str(tmp_path / "store"),
        "experts": ("dlinear",),
        "weights": ("random:0",),
        "device": "cpu",
    }


def test_second_extraction_computes_nothing(parameters: dict[str, Any]):
    first = extract(**parameters, limit=6)
    second = extract(**parameters, limit=6)
    assert not first[0].startswith("0 rows computed")
    assert second[0].startswith("0 rows computed")
    assert "| computed | 0 |" in newest_artifact("extraction")


def test_failed_records_are_published_as_a_table_and_a_linked_file(
    parameters: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("ENECG_PAGES_ROOT", str(tmp_path / "pages"))
    monkeypatch.setenv("ENECG_PAGES_URL", "http://lab:8080")
    monkeypatch.setattr("flows.prefect_job.MAX_ROWS", 2)
    lines = extract(**parameters)
    (file,) = (tmp_path / "pages" / "failed-records").iterdir()
    rows = [*csv.DictReader(file.read_text().splitlines())]
    failed = int(re.search(r"(\d+) failed", lines[0])[1])
    assert len(rows) == failed > 2
    assert rows[0]["record_id"] in rows[0]["detail"]
    assert file.stat().st_mode & 0o077 == 0
    table = json.loads(newest_artifact("failed-records"))
    # The table contains file names without folders.
    shown = [{**row, "detail": re.sub(r"/\S*/", "", row["detail"])} for row in rows[:2]]
    assert [{"record_id": row.pop("record"), **row} for row in table] == shown
    # A second run computes nothing, but still lists the records that failed before.
    extract(**parameters)
    assert [row["record_id"] for row in csv.DictReader(file.read_text().splitlines())] == [
        row["record_id"] for row in rows
    ]


def test_unwritable_folder_of_pages_does_not_fail_an_extraction(
    parameters: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("ENECG_PAGES_ROOT", str(tmp_path / "file"))
    monkeypatch.setenv("ENECG_PAGES_URL", "http://lab:8080")
    monkeypatch.setattr("flows.prefect_job.MAX_ROWS", 1)
    extract(**parameters)
    warning = "cannot be written (Not a directory); check the folder of ENECG_PAGES_ROOT."
    assert warning in caplog.text
    assert len(json.loads(newest_artifact("failed-records"))) == 1


def log_in_a_thread(*, dataset: str) -> tuple[str, ...]:
    """Log a line from a thread that Prefect did not start, as the wait for a lease does."""
    with ThreadPoolExecutor() as threads:
        threads.submit(current_job().log, f"waiting for {dataset}").result()
    return ()


def test_lines_from_other_threads_are_logged_in_the_run(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO):
        as_flow(log_in_a_thread)(dataset="a")
    (record,) = [line for line in caplog.records if line.message == "waiting for a"]
    assert record.name == "prefect.flow_runs"


def test_run_names_contain_job_experts_data_set_store_and_user(parameters: dict[str, Any]):
    with tags("user:", "user:anna"):
        state = extract(**parameters, limit=2, return_state=True)
    with get_client(sync_client=True) as client:
        name = client.read_flow_run(state.state_details.flow_run_id).name
    dataset, store = parameters["dataset"], parameters["store"]
    assert name == f"extract dlinear of {dataset} in {store} by anna"


def test_verify_recomputes_a_sample_and_fails_if_a_store_is_damaged(
    parameters: dict[str, Any], synthetic_dir: Path
):
    extract(**parameters, limit=6)
    store = parameters["store"]
    checked = {"store": store, "dataset": parameters["dataset"], "sample": 3, "device": "cpu"}
    report = "\n".join(verify(**checked))
    assert report.count("intact") == report.count("3 rows recomputed: 3 equal") == 2
    (shard,) = Path(store).glob("**/dlinear/*/embedding/c/0/0")
    data = bytearray(shard.read_bytes())
    data[100] ^= 1
    shard.write_bytes(data)
    with pytest.raises(UserError, match=r"1 of 2 stores are damaged, .*dlinear"):
        verify(**checked)
    assert "| **damaged** | " in newest_artifact("verification")


def test_label_writes_the_file_and_an_artifact(parameters: dict[str, Any], tmp_path: Path):
    file = tmp_path / "labels.parquet"
    lines = label(dataset=parameters["dataset"], out=file, match="nearest")
    assert file.is_file()
    assert lines[-2] == f"Labels: {file}"
    assert lines[0] in newest_artifact("labels")


def test_user_error_in_label_fails_the_run(parameters: dict[str, Any], tmp_path: Path):
    with pytest.raises(UserError, match=r"nowhere does not exist or is not a folder; [^\n]+\.$"):
        label(
            dataset=parameters["dataset"],
            out=tmp_path / "labels.parquet",
            hosp=tmp_path / "nowhere",
        )


def test_pretrain_writes_the_weights_and_an_artifact(parameters: dict[str, Any], tmp_path: Path):
    given = {
        "dataset": parameters["dataset"],
        "out": tmp_path / "pretraining",
        "expert": "dlinear",
        "epochs": 1,
    }
    state = pretrain(**given, return_state=True)
    lines = state.result()
    assert (tmp_path / "pretraining" / "dlinear.safetensors").is_file()
    assert lines[-1].startswith("Weights: ")
    artifact = newest_artifact("pretraining")
    assert all(line in artifact for line in lines)
    with get_client(sync_client=True) as client:
        name = client.read_flow_run(state.state_details.flow_run_id).name
    assert name.startswith(f"pretrain dlinear of {given['dataset']}")
    # A finished pretraining run is reported, not repeated.
    assert pretrain(**given) == lines


def test_user_error_in_pretrain_fails_the_run(parameters: dict[str, Any], tmp_path: Path):
    other = {"dataset": parameters["dataset"], "out": tmp_path, "expert": "dlinear"}
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"is not empty and does not contain a pretraining run; "):
        pretrain(**other)


@pytest.mark.parametrize("run", [extract, extract_job], ids=["flow", "job"])
def test_failed_range_of_shards_is_retried(
    run: Callable[..., tuple[str, ...]],
    parameters: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
):
    import pipeline.extraction.engine as engine

    calls = []

    def fail_once(*args: Any, real: Callable[..., Any] = engine.extract_range, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise OSError("the share is unavailable")
        return real(*args, **named)

    monkeypatch.setattr(engine, "extract_range", fail_once)
    monkeypatch.setattr("flows.jobs.extract.RETRY_SECONDS", (0,))
    assert not run(**parameters, limit=4)[0].startswith("0 rows computed")
    assert len(calls) == 2


@pytest.mark.parametrize(
    "function", ["pipeline.extract.plan_extraction", "pipeline.extraction.engine.extract_range"]
)
def test_user_error_fails_the_run_with_its_message_and_no_traceback(
    function: str,
    parameters: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    calls = []

    def fail(*_: Any, **__: Any) -> None:
        calls.append(1)
        raise UserError("The data set is unavailable; pass another.")

    monkeypatch.setattr(function, fail)
    with caplog.at_level(logging.DEBUG):
        state = extract(**parameters, limit=4, return_state=True)
    assert state.is_failed()
    assert state.message == "The data set is unavailable; pass another."
    assert len(calls) == 1
    assert not [record for record in caplog.records if record.exc_info and record.exc_info[0]]
    with pytest.raises(UserError, match="pass another"):
        extract(**parameters, limit=4)


def test_extraction_without_any_embedding_fails_the_run(
    parameters: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def read(*_: Any) -> None:
        raise UnreadableRecord("cut_file", "a.dat is cut; copy it again.")

    monkeypatch.setattr("pipeline.datasets.mimic_iv_ecg.MimicIvEcg.read", read)
    reason = "of dlinear, leads: 4 cut_file. First failure, record .*: a.dat is cut; copy it again."
    with caplog.at_level(logging.INFO), pytest.raises(UserError, match=reason):
        extract(**parameters, limit=4)
    # The summary is logged before the run fails.
    assert any(message.startswith("0 rows computed") for message in caplog.messages)
    assert "| computed | 0 |" in newest_artifact("extraction")


def test_refresh_extracts_and_trains(
    parameters: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    lines = refresh(
        **parameters,
        out=tmp_path / "runs",
        tasks=("age",),
        own_tasks=("potassium_mmol_l:regression:mmol/L",),
        repeats=1,
        patients=30,
    )
    assert " rows computed" in lines[0]
    (folder,) = (tmp_path / "runs").iterdir()
    assert any(str(folder) in line for line in lines)
    assert "constant predictor" in newest_artifact("results")
    assert "potassium mmol l, MAE mmol/L" in newest_artifact("results")
    # The tables are artifacts, not log lines.
    assert not [message for message in caplog.messages if "\n" in message]


def defaults(flow: Flow[Any, Any]) -> dict[str, Any]:
    return {
        name: parameter.default for name, parameter in inspect.signature(flow.fn).parameters.items()
    }


def check_defaults(flow: Flow[Any, Any], options: Any, *nested: str) -> None:
    """Compare the defaults of a flow and of a dataclass, without fields that flows do not have."""
    for field in fields(options):
        value = getattr(options, field.name)
        if field.name in nested:
            check_defaults(flow, value)
        elif field.name not in ("flush_seconds", "shard_rows"):
            assert defaults(flow)[field.name] == value, field.name


def test_train_flow_has_the_defaults_of_the_settings():
    check_defaults(train, TrainSettings(), "fit", "decoding")


def test_extract_flow_has_the_defaults_of_the_options():
    check_defaults(extract, ExtractOptions(), "decoding")


def test_pretrain_flow_has_the_defaults_of_the_settings():
    check_defaults(pretrain, PretrainSettings(), "decoding")


def test_label_flow_has_the_defaults_of_the_rules():
    rules = LabelRules()
    items = tuple(map(int, defaults(label)["potassium_items"]))
    assert items == rules.potassium_items
    assert defaults(label)["skip_lines"] is None
    for field in fields(LabelRules):
        if field.name not in ("potassium_items", "skip_lines"):
            assert defaults(label)[field.name] == getattr(rules, field.name), field.name


FLOWS = [extract, label, pretrain, train, sweep, refresh, verify]


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.name)
def test_prefect_ui_describes_every_parameter(flow: Flow[Any, Any]):
    undescribed = [
        name for name, schema in flow.parameters.properties.items() if not schema.get("description")
    ]
    assert undescribed == []


@pytest.mark.parametrize(
    "flow",
    [flow for flow in FLOWS if flow not in (label, pretrain)],
    ids=lambda flow: flow.name,
)
def test_prefect_server_rejects_store_urls_with_credentials(flow: Flow[Any, Any]):
    schema = flow.parameters.model_dump() | {"required": []}
    for store in ("s3://k:s@lab/x", "s3://k:s/t@lab/x", "s3://lab/x?k=s", "https://k:s@lab"):
        assert validate({"store": store}, schema, raise_on_error=False), store
    for store in ("s3://lab/a/b", "s3://lab", "file:///a/b", "a/b", "/a@b?", "gs://lab/x"):
        assert not validate({"store": store}, schema, raise_on_error=False), store


def test_names_may_be_repeated_or_comma_separated():
    assert split(("dlinear, timesnet", "moment", "")) == ("dlinear", "timesnet", "moment")
    assert split(('"grade:binary:mild, early", af:binary', 'x:binary:a "b"')) == (
        "grade:binary:mild, early",
        "af:binary",
        'x:binary:a "b"',
    )
