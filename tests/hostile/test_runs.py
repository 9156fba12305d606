"""Untrusted run folders, and data that run folders and exports must not disclose."""

import json
import os
import shutil
import stat
import threading
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from quick_runs import QUICK, RANDOM, copy_stores, extract_random

from enecg.errors import UserError
from flows.cli import enecg
from flows.run_app import run_app
from pipeline.datasets.registry import open_dataset
from pipeline.evaluate import evaluate
from pipeline.runs.output_folder import replace_output
from pipeline.train import train
from pipeline.training.settings import TrainSettings
from stores.errors import StoreError

pytestmark = pytest.mark.hostile


@pytest.fixture(scope="module")
def store(synthetic_stores: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_stores(synthetic_stores, tmp_path_factory.mktemp("stores"), "dlinear")


@pytest.fixture(scope="module")
def finished(synthetic_dir: Path, store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    settings = TrainSettings(weights=RANDOM, repeats=1, fit=QUICK, tasks=("age", "sex"))
    train(f"mimic-iv-ecg:{synthetic_dir}", store, folder, settings=settings)
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "runs" / "run"))


def change(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


DEEP = "[" * 100_000 + "]" * 100_000
DOCUMENTS = ("config.json", "results.json", "provenance.json", "cohorts.json")


@pytest.mark.parametrize("text", ["", "[]", "null", "1", DEEP, "{", '{"experts": 3}'])
@pytest.mark.parametrize("name", [*DOCUMENTS, "repeat-0/targets.json"])
def test_invalid_document_is_a_user_error(
    name: str, text: str, run: Path, synthetic_dir: Path, store: Path, finished: Path
):
    (run / name).write_text(text)
    shutil.copytree(finished, run.parent / "good")
    if name == "results.json":  # not needed for an evaluation
        assert run_app(enecg(), ["runs", "show", str(run)]) == 2
    else:
        with pytest.raises(UserError):
            evaluate(run, f"mimic-iv-ecg:{synthetic_dir}", store)
    assert run_app(enecg(), ["runs", "show", str(run)]) in (0, 2)
    assert run_app(enecg(), ["runs", "ls", str(run.parent)]) in (0, 1)


ADAPTER = "repeat-0/heads/dlinear/age/adapter_config.json"


@pytest.mark.parametrize(
    "name", ["provenance.json", "cohorts.json", "repeat-0/targets.json", ADAPTER]
)
def test_fifo_is_a_user_error(name: str, run: Path, synthetic_dir: Path, store: Path):
    (run / name).unlink()
    os.mkfifo(run / name)
    with pytest.raises(UserError, match="is not a regular file"):
        evaluate(run, f"mimic-iv-ecg:{synthetic_dir}", store)
    assert run_app(enecg(), ["runs", "ls", str(run.parent)]) in (0, 1)


def test_large_document_is_a_user_error(run: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("pipeline.runs.run_documents.MAX_DOCUMENT_BYTES", 100)
    assert run_app(enecg(), ["runs", "show", str(run)]) == 2


def test_many_classes_are_a_user_error(run: Path, capsys: pytest.CaptureFixture[str]):
    results = json.loads((run / "results.json").read_text())
    results["tasks"][1]["classes"] = [str(n) for n in range(10**6)]
    (run / "results.json").write_text(json.dumps(results))
    assert run_app(enecg(), ["runs", "show", str(run)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"target_modules": "(a+)+$"},
        {"target_modules": ["prediction"]},
        {"r": 10**9},
        {"r": 0},
        {"r": "x"},
        {"lora_alpha": "x"},
    ],
    ids=str,
)
def test_invalid_adapter_is_a_user_error(
    changes: dict[str, Any], run: Path, synthetic_dir: Path, store: Path
):
    change(run / ADAPTER, **changes)
    with pytest.raises(UserError, match="incomplete, damaged or was written by another version"):
        evaluate(run, f"mimic-iv-ecg:{synthetic_dir}", store)


def test_expert_name_that_contains_a_path_is_rejected(run: Path, synthetic_dir: Path, store: Path):
    document = json.loads((run / "provenance.json").read_text())
    for provenance in document.values():
        provenance["expert"] = "../../outside"
    (run / "provenance.json").write_text(json.dumps(document))
    change(run / "config.json", experts=["../../outside"])
    with pytest.raises(StoreError, match="not a valid name of an expert"):
        evaluate(run, f"mimic-iv-ecg:{synthetic_dir}", store)


def test_run_folder_is_private_unless_shared(
    finished: Path, synthetic_dir: Path, store: Path, tmp_path: Path
):
    modes = {stat.S_IMODE(path.stat().st_mode) for path in finished.rglob("*") if path.is_file()}
    assert modes == {0o600}
    assert stat.S_IMODE(finished.stat().st_mode) == 0o700
    settings = TrainSettings(weights=RANDOM, repeats=1, fit=QUICK, tasks=("age",))
    before = os.umask(0o022)
    try:
        dataset = f"mimic-iv-ecg:{synthetic_dir}"
        out = tmp_path / "shared"
        train(dataset, store, out, settings=settings, share=True, page=False)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "shared").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "shared" / "config.json").stat().st_mode) == 0o644


def test_second_writer_is_rejected_and_the_first_finishes(tmp_path: Path):
    folder = tmp_path / "run"
    entered, leave = threading.Event(), threading.Event()

    def write_first() -> None:
        with replace_output(folder) as unfinished:
            (unfinished / "config.json").write_text("first")
            entered.set()
            leave.wait(30)

    first = threading.Thread(target=write_first)
    first.start()
    assert entered.wait(30)
    with (
        pytest.raises(UserError, match=f"Another process is writing to {folder}"),
        replace_output(folder),
    ):
        pass
    leave.set()
    first.join()
    assert (folder / "config.json").read_text() == "first"
    with replace_output(folder) as unfinished:
        (unfinished / "config.json").write_text("second")
    assert (folder / "config.json").read_text() == "second"


def test_files_that_the_new_run_lacks_are_deleted(tmp_path: Path):
    for names in (["results.html", "timesnet.patients.txt"], ["dlinear.patients.txt"]):
        with replace_output(tmp_path / "run") as unfinished:
            for name in ("config.json", *names):
                (unfinished / name).touch()
    found = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert found == ["config.json", "dlinear.patients.txt"]


def test_full_disk_is_a_user_error_and_keeps_the_earlier_run(
    finished: Path, synthetic_dir: Path, store: Path, run: Path, monkeypatch: pytest.MonkeyPatch
):
    from safetensors import SafetensorError

    def fail(*_: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("pipeline.runs.checkpoints.save_file", fail)
    settings = TrainSettings(weights=RANDOM, repeats=1, fit=QUICK, tasks=("age",))
    with pytest.raises(UserError, match=r"No space left on device.*free some space"):
        train(f"mimic-iv-ecg:{synthetic_dir}", store, run, settings=settings)
    assert (run / "results.json").read_bytes() == (finished / "results.json").read_bytes()


def test_run_records_in_the_shared_store_contain_no_paths(tmp_path: Path, synthetic_dir: Path):
    data = tmp_path / "data"
    shutil.copytree(synthetic_dir, data)
    for file in sorted(data.rglob("*.dat"))[:3]:
        file.unlink()
    extract_random(f"mimic-iv-ecg:{data}", tmp_path / "lab", "dlinear", limit=30)
    (record,) = (tmp_path / "lab").glob("synthetic/*/runs/dlinear/*/*.json")
    assert json.loads(record.read_text())["failures"]
    assert "files/p" not in record.read_text()
    assert str(data) not in record.read_text()


def test_export_contains_no_ids(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "export"
    assert run_app(enecg(), ["runs", "export", str(run), str(out)]) == 0
    ids = pq.read_table(run / "predictions.parquet", columns=["record_id", "patient_id"])
    exported = pq.read_table(out / "predictions.parquet")
    assert not {"record_id", "patient_id"} & set(exported.column_names)
    assert len(exported) == len(ids)
    assert not (out / "cohorts.json").exists()
    texts = [path.read_text() for path in out.iterdir() if path.suffix != ".parquet"]
    assert len(texts) == 6
    for name in ids.column_names:
        for value in {str(value) for value in ids[name].to_pylist()}:
            assert not any(value in text for text in texts)
    capsys.readouterr()
    assert run_app(enecg(), ["runs", "export", str(run), str(out)]) == 2
    assert "exists; choose a new folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    "changes",
    [
        {"seconds": "5"},
        {"records": "7"},
        {"peak_memory_bytes": {}},
        {"peak_memory_bytes": {"process": "12"}},
        {"stores": [{"features": "7"}]},
        {"stores": [{"extractions": [{"embedded": "7", "embedding_seconds": 1.0}]}]},
        {"stores": [{"extractions": [{"embedded": 7, "embedding_seconds": "1"}]}]},
    ],
    ids=str,
)
def test_value_of_another_type_is_a_user_error(changes: dict[str, Any], run: Path):
    if "stores" in changes:
        config = json.loads((run / "config.json").read_text())
        changes = {"stores": [config["stores"][0] | changes["stores"][0]]}
    change(run / "config.json", **changes)
    assert run_app(enecg(), ["table", "figure3", str(run)]) == 2


@pytest.mark.parametrize("name", ["results.md", "results.html", "predictions.parquet"])
@pytest.mark.parametrize("kind", ["link", "FIFO", "damaged"])
def test_export_rejects_links_fifos_and_damaged_files(
    kind: str, name: str, run: Path, tmp_path: Path
):
    private = tmp_path / "private"
    private.write_text("private key")
    (run / name).unlink()
    if kind == "link":
        (run / name).symlink_to(private)
    elif kind == "FIFO":
        os.mkfifo(run / name)
    elif name == "predictions.parquet":
        (run / name).write_bytes(b"PAR1")
    else:
        pytest.skip("a page has no required content, so it cannot be damaged")
    assert run_app(enecg(), ["runs", "export", str(run), str(tmp_path / "export")]) == 2
    assert not (tmp_path / "export").exists()


def test_export_contains_only_known_columns(run: Path, tmp_path: Path):
    file = run / "predictions.parquet"
    table = pq.read_table(file)
    extra = table.append_column("subject_id", table["patient_id"])
    pq.write_table(extra.replace_schema_metadata({"patient": "1"}), file)
    assert run_app(enecg(), ["runs", "export", str(run), str(tmp_path / "export")]) == 0
    exported = pq.read_schema(tmp_path / "export" / "predictions.parquet")
    assert exported.names == [
        *("task", "method", "repeat", "label", "truth", "predicted", "probability")
    ]
    assert not exported.metadata


def test_export_contains_no_record_ids_from_notes(synthetic_dir: Path, store: Path, tmp_path: Path):
    dataset = f"mimic-iv-ecg:{synthetic_dir}"
    records = sorted(open_dataset(dataset).index().record_id.tolist())
    rows = [f"{record},{40 + n}" for n, record in enumerate(records)]
    rows[0], rows[1] = f"{records[0]},999", f"{records[1]},<young>"
    labels = tmp_path / "labels.csv"
    labels.write_text("\n".join(["record_id,age", *rows, "MRN123,5"]) + "\n")
    settings = TrainSettings(
        weights=RANDOM, repeats=1, fit=QUICK, tasks=("age",), labels=str(labels)
    )
    train(dataset, store, tmp_path / "run", settings=settings)
    named = (str(records[0]), str(records[1]), "MRN123")
    notes = " ".join(json.loads((tmp_path / "run" / "config.json").read_text())["notes"])
    assert all(name in notes for name in named)
    assert run_app(enecg(), ["runs", "export", str(tmp_path / "run"), str(tmp_path / "out")]) == 0
    for path in (tmp_path / "out").iterdir():
        if path.suffix == ".parquet":
            content = pq.read_table(path).to_pandas().to_csv().encode()
        else:
            content = path.read_bytes()
        assert not any(str(name).encode() in content for name in (*records, "MRN123")), path
    assert len(json.loads((tmp_path / "out" / "config.json").read_text())["notes"]) >= 3
