import inspect
import logging
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.utilities.schema_tools import validate

from enecg.errors import UserError
from flows.extract import extract, extract_shards
from flows.label import label
from flows.parameters import split
from flows.refresh import refresh
from flows.train import train
from pipeline.extraction.options import ExtractOptions

pytestmark = pytest.mark.usefixtures("prefect_server")


def _artifact(key: str) -> str:
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key]))
        )
    newest = max(found, key=lambda artifact: artifact.created)
    return str(newest.data)


@pytest.fixture
def words(synthetic_dir: Path, tmp_path: Path) -> dict[str, Any]:
    return {
        "dataset": f"mimic-iv-ecg:{synthetic_dir}",
        "store": str(tmp_path / "store"),
        "experts": ("dlinear",),
        "weights": ("random:0",),
        "device": "cpu",
    }


def test_extracting_again_computes_nothing(words: dict[str, Any]):
    first = extract(**words, limit=6)
    again = extract(**words, limit=6)
    assert not first[0].startswith("0 rows computed")
    assert again[0].startswith("0 rows computed")
    assert "| computed | 0 |" in _artifact("extraction")


def test_labels_are_made_and_what_came_of_them_is_on_the_runs_page(
    words: dict[str, Any], tmp_path: Path
):
    lines = label(dataset=words["dataset"], out=tmp_path / "labels.parquet", match="nearest")
    assert (tmp_path / "labels.parquet").is_file()
    assert lines[-2] == f"Labels: {tmp_path / 'labels.parquet'}"
    assert lines[0] in _artifact("labels")


def test_labels_that_cannot_be_made_fail_the_run_with_a_sentence(
    words: dict[str, Any], tmp_path: Path
):
    with pytest.raises(UserError, match=r"nowhere is not there; [^\n]+\.$"):
        label(dataset=words["dataset"], out=tmp_path / "labels.parquet", hosp=tmp_path / "nowhere")


def test_a_task_that_fails_is_tried_again(words: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    import pipeline.extraction.ranges as stage

    tries = []

    def fails_once(*args: Any, real: Callable[..., Any] = stage.extract_range, **named: Any) -> Any:
        tries.append(1)
        if len(tries) == 1:
            raise OSError("the share was away for a moment")
        return real(*args, **named)

    monkeypatch.setattr(stage, "extract_range", fails_once)
    monkeypatch.setattr(extract_shards, "retry_delay_seconds", 0)
    assert not extract(**words, limit=4)[0].startswith("0 rows computed")
    assert len(tries) == 2


@pytest.mark.parametrize(
    "where",
    ["pipeline.extract.plan_extraction", "pipeline.extraction.ranges.extract_range"],
)
def test_a_users_mistake_in_a_flow_is_a_sentence_without_a_trace(
    where: str,
    words: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    def mistaken(*_: Any, **__: Any) -> None:
        raise UserError("This cannot be had; give another.")

    monkeypatch.setattr(where, mistaken)
    with caplog.at_level(logging.DEBUG):
        state = extract(**words, limit=4, return_state=True)
    assert state.is_failed()
    assert state.message == "This cannot be had; give another."
    assert not [record for record in caplog.records if record.exc_info and record.exc_info[0]]
    with pytest.raises(UserError, match="give another"):
        extract(**words, limit=4)


def test_the_nightly_refresh_extracts_and_trains(words: dict[str, Any], tmp_path: Path):
    own = ("potassium_mmol_l:regression:mmol/L",)
    lines = refresh(
        **words, out=tmp_path / "runs", tasks=("age",), own_tasks=own, repeats=1, patients=30
    )
    assert " rows computed" in lines[0]
    (folder,) = (tmp_path / "runs").iterdir()
    assert any(str(folder) in line for line in lines)
    assert "constant predictor" in _artifact("results")
    assert "potassium mmol l, MAE mmol/L" in _artifact("results")


def test_the_flow_trains_as_the_stage_does_where_nothing_is_said():
    from pipeline.training.settings import FitSettings, TrainSettings

    told = {name: one.default for name, one in inspect.signature(train.fn).parameters.items()}
    settings = TrainSettings()
    for field in fields(TrainSettings):
        if field.name != "fit":
            assert told[field.name] == getattr(settings, field.name), field.name
    for field in fields(FitSettings):
        assert told[field.name] == getattr(settings.fit, field.name), field.name


def test_the_extract_flow_has_the_defaults_of_the_function():
    parameters = inspect.signature(extract.fn).parameters
    options = ExtractOptions()
    for field in fields(ExtractOptions):
        if field.name not in ("flush_seconds", "shard_rows"):
            assert parameters[field.name].default == getattr(options, field.name), field.name


@pytest.mark.parametrize("flow", [extract, train, refresh], ids=lambda flow: flow.name)
def test_every_parameter_is_explained_in_the_prefect_ui(flow: Flow[Any, Any]):
    unexplained = [
        name for name, schema in flow.parameters.properties.items() if not schema.get("description")
    ]
    assert unexplained == []


@pytest.mark.parametrize("flow", [extract, train, refresh], ids=lambda flow: flow.name)
def test_a_prefect_server_keeps_no_credentials_of_a_store(flow: Flow[Any, Any]):
    schema = flow.parameters.model_dump() | {"required": []}
    for store in ("s3://k:s@lab/x", "s3://k:s/t@lab/x", "s3://lab/x?k=s", "https://k:s@lab"):
        assert validate({"store": store}, schema, raise_on_error=False), store
    for store in ("s3://lab/a/b", "s3://lab", "file:///a/b", "a/b", "/a@b?", "gs://lab/x"):
        assert not validate({"store": store}, schema, raise_on_error=False), store


def test_names_come_one_by_one_or_with_commas():
    assert split(("dlinear, timesnet", "moment", "")) == ("dlinear", "timesnet", "moment")
