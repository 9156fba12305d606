"""`enecg predict`: formats, exit codes, standard input and standard error."""

import csv
import errno
import io
import json
import os
import re
import sys
from pathlib import Path

import pandas as pd
import pytest
from command_outcomes import RunCommand
from quick_runs import TrainedRun

from flows.prediction_output import open_writer
from pipeline.datasets.mimic_iv_ecg import MimicIvEcg
from pipeline.prediction.live_run import load_run
from pipeline.waveforms.errors import UnreadableRecord

NOT_MEDICAL = "not a medical device"


@pytest.fixture
def run(trained_run: TrainedRun) -> Path:
    return trained_run.folder


@pytest.fixture
def dataset(trained_run: TrainedRun) -> str:
    return f"mimic-iv-ecg:{trained_run.data}"


@pytest.fixture
def records(trained_run: TrainedRun) -> list[str]:
    """Ids of three readable records and of one unreadable record."""
    source = MimicIvEcg(trained_run.data)
    ids: list[str] = source.index().record_id.astype(str).tolist()
    readable, unreadable = [], []
    for row, record in enumerate(ids):
        try:
            source.read(row)
            readable.append(record)
        except UnreadableRecord:
            unreadable.append(record)
    return [*readable[:2], unreadable[0], readable[2]]


@pytest.fixture
def paths(trained_run: TrainedRun) -> list[Path]:
    """Headers of two usable records."""
    source = MimicIvEcg(trained_run.data)
    return [Path(source.read_leads(row).location + ".hea") for row in (3, 4)]


def test_table_has_a_line_per_record_with_units_and_intervals(
    run: Path, paths: list[Path], run_enecg: RunCommand
):
    done = run_enecg("predict", "--run", run, *paths, "--coverage", 0.5)
    assert done.code == 0
    header, *lines = done.out_lines
    assert header.split("  ")[0] == "record"
    for path, line in zip(paths, lines[:2], strict=True):
        assert line.startswith(str(path.with_suffix("")))
        assert " years [" in line
        assert re.search(r"dlinear 0\.\d\d, measurements 0\.\d\d", line)
    assert NOT_MEDICAL in done.out_lines[-1]
    assert "Records: 2 predicted, 0 of them with warnings; 0 refused." in done.err_lines[-1]


def test_refused_records_keep_their_line_and_set_the_exit_code(
    run: Path, dataset: str, records: list[str], run_enecg: RunCommand
):
    done = run_enecg(
        *("predict", "--run", run, "--dataset", dataset),
        *(*records, "--format", "json"),
    )
    assert done.code == 1
    documents = [json.loads(line) for line in done.out_lines]
    assert [str(document["record"]) for document in documents] == records
    refused = [document for document in documents if "refused" in document]
    assert 0 < len(refused) < len(documents)
    assert all(NOT_MEDICAL in document["notice"] for document in documents)
    for document in refused:
        assert f"Refused ({document['refused']['reason']}): " in done.err
    for document in documents:
        if "tasks" in document:
            assert document["tasks"]["age"]["unit"] == "years"
            assert document["tasks"]["sex"]["class"] in ("female", "male")
            assert sum(document["tasks"]["sex"]["probabilities"].values()) == pytest.approx(1)
            weights = document["tasks"]["age"]["weights"]
            assert list(weights) == ["dlinear", "measurements"]
            assert sum(weights.values()) == pytest.approx(1)


def test_csv_and_parquet_have_the_same_rows(
    run: Path, dataset: str, records: list[str], tmp_path: Path, run_enecg: RunCommand
):
    (tmp_path / "ids.txt").write_text("\n".join(records))
    arguments = ("predict", "--run", run, "--dataset", dataset, "--records", tmp_path / "ids.txt")
    done = run_enecg(*arguments, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert len(rows) == 4
    out = tmp_path / "predictions.parquet"
    assert run_enecg(*arguments, "--format", "parquet", "--out", out).code == 1
    table = pd.read_parquet(out)
    assert list(table.columns) == list(rows[0])
    assert table["record"].tolist() == [int(row["record"]) for row in rows]
    assert table["status"].tolist() == [row["status"] for row in rows]
    assert {"predicted", "refused"} == set(table["status"])
    assert table["notice"].str.contains(NOT_MEDICAL).all()
    values = [float(row["age"]) for row in rows if row["age"]]
    assert table["age"].dropna().tolist() == pytest.approx(values)


def test_paths_are_read_from_standard_input(
    run: Path, paths: list[Path], run_enecg: RunCommand, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(map(str, paths)) + "\n\n"))
    done = run_enecg("predict", "--run", run, "-", "--format", "json", "--task", "age")
    assert [json.loads(line)["record"] for line in done.out_lines] == [
        str(path.with_suffix("")) for path in paths
    ]
    assert list(json.loads(done.out_lines[0])["tasks"]) == ["age"]


def test_empty_standard_input_is_a_user_error(
    run: Path, run_enecg: RunCommand, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
    done = run_enecg("predict", "--run", run, "-")
    assert (done.code, done.err_lines) == (
        2,
        ["Standard input contains no record; write one per line to it."],
    )


def test_user_errors_are_one_line(
    run: Path, paths: list[Path], tmp_path: Path, run_enecg: RunCommand
):
    for arguments, message in (
        ((), "No record is given"),
        (("--dataset", f"mimic-iv-ecg:{tmp_path}"), "does not contain record_list.csv"),
        ((tmp_path, "--task", "height"), "has no task 'height'"),
        ((tmp_path, "--repeat", 7), "has no repeat 7"),
        ((paths[0], "--weights", "moment@a.pt"), "refers to expert 'moment'"),
    ):
        done = run_enecg("predict", "--run", run, *arguments)
        assert (done.code, len(done.err_lines)) == (2, 1)
        assert message in done.err
    done = run_enecg("predict", "--run", tmp_path, tmp_path)
    assert (done.code, "is not a run folder" in done.err) == (2, True)


def test_only_errors_of_the_output_file_name_the_output_file(
    run: Path, paths: list[Path], tmp_path: Path, run_enecg: RunCommand
):
    arguments = ("predict", "--run", run, *paths, "--format")
    for form, file, reason in (
        ("csv", "/dev/full", "No space left on device"),
        ("parquet", "/dev/full", "No space left on device"),
        ("table", tmp_path, "Is a directory"),
    ):
        done = run_enecg(*arguments, form, "--out", file)
        message = f"{file} cannot be written ({reason}); choose another --out."
        assert (done.code, done.err_lines[-1]) == (2, message)
    live = load_run(run)
    with (
        pytest.raises(OSError, match="Input/output error"),
        open_writer("csv", tmp_path / "out.csv", live, live.tasks, 0.9, integer_ids=True),
    ):
        raise OSError(errno.EIO, os.strerror(errno.EIO), "0001.dat")


@pytest.mark.parametrize("length", [253, 300])
def test_record_whose_name_is_too_long_is_refused(length: int, run: Path, run_enecg: RunCommand):
    done = run_enecg("predict", "--run", run, "x" * length)
    assert done.code == 1
    assert "cannot be read (File name too long)" in done.err


def test_help_states_the_intended_use_and_an_example(run_enecg: RunCommand):
    done = run_enecg("predict", "--help")
    assert NOT_MEDICAL in done.out
    assert "Example: enecg predict --run" in done.out
