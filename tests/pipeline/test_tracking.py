"""Metrics, parameters and files of a run in experiment trackers."""

import json
import math
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from made_runs import make_run

from enecg.errors import UserError
from pipeline.evaluation.predictions import ENSEMBLE
from pipeline.report.model_card import write_card
from pipeline.report.page import write_page
from pipeline.report.results_file import write_markdown
from pipeline.runs.results import RunResults, read_results
from pipeline.tracking.tracked_run import open_tracked
from pipeline.tracking.trackers import TRACKERS, check_tracker, track_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunResults:
    folder = make_run(tmp_path_factory.mktemp("runs") / "first", details=True, tasks=("age", "sex"))
    run = read_results(folder)
    for write in (write_page, write_markdown, write_card):
        write(run)  # type: ignore[operator]
    return run


def test_metrics_have_intervals_and_parameters_are_settings(run: RunResults):
    with open_tracked(run.folder) as tracked:
        score = run.score(ENSEMBLE, "age")
        assert score is not None
        assert tracked.metrics["age/MAE/EnECG"] == score.mean
        assert tracked.metrics["age/MAE/EnECG_low"] == score.low
        assert {"age/MAE/moment", "sex/AUROC/EnECG_high"} <= tracked.metrics.keys()
        assert all(map(math.isfinite, tracked.metrics.values()))
        assert tracked.parameters["fit.rank"] == "8"
        assert tracked.parameters["expert.dlinear"] == "random:0"
        names = {file.name for file in tracked.files}
        assert names == {"results.html", "results.md", "MODEL_CARD.md", "config.json"}


def test_unknown_or_missing_tracker_is_a_user_error(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UserError, match="use mlflow, wandb, tensorboard"):
        check_tracker("other")
    monkeypatch.setattr("pipeline.tracking.trackers.find_spec", lambda name: None)
    for name, tracker in TRACKERS.items():
        with pytest.raises(UserError, match=f"pip install {tracker.requirement}"):
            check_tracker(name)


@pytest.mark.filterwarnings("default")
def test_mlflow_stores_parameters_metrics_and_page(
    run: RunResults, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("mlflow", reason="mlflow is missing; pip install mlflow-skinny")
    from mlflow.tracking import MlflowClient

    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    address = track_run(run.folder, "mlflow")
    assert address == (run.folder.parent / "mlruns").as_uri()
    client = MlflowClient(address)
    (experiment,) = [
        candidate for candidate in client.search_experiments() if candidate.name == "enecg"
    ]
    (logged,) = client.search_runs([experiment.experiment_id])
    assert logged.info.run_name == "first"
    with open_tracked(run.folder) as tracked:
        assert logged.data.params == tracked.parameters
        assert logged.data.metrics == pytest.approx(tracked.metrics)
    artifacts = {artifact.path for artifact in client.list_artifacts(logged.info.run_id)}
    assert artifacts == {"results.html", "results.md", "MODEL_CARD.md", "config.json"}


def read_wandb(file: Path) -> Iterator[Any]:
    """Yield the records of an offline run.

    The file has a header of seven bytes, followed by blocks in LevelDB's log format.
    """
    from wandb.proto.wandb_internal_pb2 import Record

    data, position, parts = file.read_bytes(), 7, b""
    while position + 7 <= len(data):
        if 2**15 - position % 2**15 < 7:  # the end of a block is padded
            position += 2**15 - position % 2**15
            continue
        size, kind = struct.unpack_from("<HB", data, position + 4)
        position += 7 + size
        parts += data[position - size : position]
        if kind in (1, 4):  # a whole record, or the last part of one
            yield Record.FromString(parts)
            parts = b""


@pytest.mark.filterwarnings("default")
def test_wandb_stores_parameters_metrics_and_page_beside_the_run(
    run: RunResults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("wandb", reason="wandb is missing; pip install wandb")
    for name in ("MODE", "PROJECT", "DATA_DIR", "CACHE_DIR", "ERROR_REPORTING"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)
    monkeypatch.setattr(os, "environ", os.environ.copy())  # the tracker sets variables
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = run.folder.parent / "wandb"
    assert track_run(run.folder, "wandb") == f"{folder} (offline)"
    assert not list(tmp_path.iterdir())
    (file,) = folder.glob("offline-run-*/run-*.wandb")
    records = list(read_wandb(file))
    (logged,) = (record.run for record in records if record.HasField("run"))
    (artifact,) = (record.artifact for record in records if record.HasField("artifact"))
    parameters = {item.key: json.loads(item.value_json) for item in logged.config.update}
    metrics = {
        item.key: json.loads(item.value_json)
        for record in records
        if record.HasField("summary")
        for item in record.summary.update
    }
    with open_tracked(run.folder) as tracked:
        assert (logged.project, logged.display_name) == ("enecg", "first")
        assert tracked.parameters.items() <= parameters.items()
        assert tracked.metrics.items() <= metrics.items()
    files = {entry.path: Path(entry.local_path) for entry in artifact.manifest.contents}
    assert files.keys() == {"results.html", "results.md", "MODEL_CARD.md", "config.json"}
    assert all(path.is_relative_to(folder) and path.exists() for path in files.values())


@pytest.mark.filterwarnings("default")
def test_tensorboard_stores_metrics_and_texts(run: RunResults):
    pytest.importorskip("tensorboard", reason="tensorboard is missing; pip install tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    address = track_run(run.folder, "tensorboard")
    assert address == str(run.folder.parent / "tensorboard" / "first")
    events = EventAccumulator(address).Reload()
    logged = {name: events.Scalars(name)[0].value for name in events.Tags()["scalars"]}
    with open_tracked(run.folder) as tracked:
        assert logged == pytest.approx(tracked.metrics)
        names = {f"parameters/{name}" for name in tracked.parameters}
    texts = {name.removesuffix("/text_summary") for name in events.Tags()["tensors"]}
    assert texts == names | {"results.md", "MODEL_CARD.md"}
