import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cyclopts import App

from flows.cli import enecg
from flows.run_app import run_app

ROOT = Path(__file__).resolve().parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]

MISTAKES = {
    "no such data set": (["--dataset", "mimic-iv-ecg:nowhere"], "nowhere is not there"),
    "no such source": (["--dataset", "nosuch:x"], "no data set 'nosuch"),
    "no such expert": (["--experts", "dlinear,nosuch"], "no expert 'nosuch'"),
    "credentials in the URL": (["--store", "s3://key:secret@lab/x"], "contains credentials"),
    "not published": (["--experts", "dlinear"], "No weights of dlinear are published"),
    "no such weights": (["--weights", "nowhere"], "no weights at 'nowhere'"),
    "not a number": (["--batch-size", "many"], "--batch-size"),
    "out of range": (["--batch-size", "0"], "--batch-size"),
    "no such device": (["--device", "gpu"], "--device"),
    "no such option": (["--bogus"], "--bogus"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_gets_one_sentence_and_exit_code_2(
    name: str, synthetic_dir: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    words, sentence = MISTAKES[name]
    usual = {"--dataset": f"mimic-iv-ecg:{synthetic_dir}", "--store": str(tmp_path / "store")}
    others = [word for pair in usual.items() if pair[0] not in words for word in pair]
    assert run_app(enecg(), ["extract", *others, *words]) == 2
    told = capfd.readouterr()
    assert told.out == ""
    assert len(told.err.splitlines()) == 1
    assert sentence in told.err


LABEL_MISTAKES = {
    "no such data set": (["--dataset", "mimic-iv-ecg:nowhere"], "nowhere is not there"),
    "no such folder": (["--hosp", "nowhere"], "nowhere does not exist"),
    "no Parquet file": (["--out", "labels.csv"], "does not end in .parquet"),
    "no window": (["--window-hours", "0"], "--window-hours"),
    "no such match": (["--match", "last"], "--match"),
    "no items": (["--potassium-items", "K"], "'K' is no itemid"),
    "an item of 5,000 digits": (["--potassium-items", "1" * 5000], "1111' is no itemid"),
    "no such criterion": (["--abnormal", "feeling"], "--abnormal"),
    "limits the wrong way round": (
        ["--potassium-low", "6"],
        "the low limit must be at least 0 and below",
    ),
    "no such line": (["--report", "18"], "Unknown report line '18'"),
}


@pytest.mark.parametrize("name", LABEL_MISTAKES)
def test_a_mistake_in_labelling_gets_one_sentence_before_a_server_is_started(
    name: str, synthetic_dir: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    words, sentence = LABEL_MISTAKES[name]
    usual = {
        "--dataset": f"mimic-iv-ecg:{synthetic_dir}",
        "--out": str(tmp_path / "labels.parquet"),
    }
    others = [word for pair in usual.items() if pair[0] not in words for word in pair]
    assert run_app(enecg(), ["label", *others, *words]) == 2
    told = capfd.readouterr()
    assert told.out == ""
    assert len(told.err.splitlines()) == 1
    assert sentence in told.err


QUESTIONS = {
    "no such kind": (["--task", "lvef:ordinal"], "'lvef:ordinal' is no task"),
    "no such task": (["--task", "lvef:binary", "--tasks", "height"], "there are rr_interval"),
    "no such file": (["--labels", "nowhere.csv"], "nowhere.csv does not exist"),
    "given twice": (["--task", "lvef:binary,lvef:regression"], "'lvef' is given twice"),
}


@pytest.mark.parametrize("name", QUESTIONS)
@pytest.mark.parametrize("stage", ["train", "refresh"])
def test_a_question_that_cannot_be_asked_is_told_before_a_server_is_started(
    stage: str, name: str, synthetic_dir: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    words, sentence = QUESTIONS[name]
    usual = ["--dataset", f"mimic-iv-ecg:{synthetic_dir}", "--store", str(tmp_path / "store")]
    assert run_app(enecg(), [stage, *usual, "--out", str(tmp_path / "run"), *words]) == 2
    told = capfd.readouterr()
    assert told.out == ""
    assert len(told.err.splitlines()) == 1
    assert sentence in told.err


def test_to_judge_what_is_no_run_is_a_mistake(
    synthetic_dir: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    words = ["--dataset", f"mimic-iv-ecg:{synthetic_dir}", "--store", str(tmp_path / "store")]
    assert run_app(enecg(), ["evaluate", "--run", str(tmp_path), *words]) == 2
    told = capfd.readouterr()
    assert len(told.err.splitlines()) == 1
    assert f"{tmp_path} is not a run folder: config.json is missing" in told.err


@pytest.mark.parametrize("command", [["enecg"], ["prefect", "run"]], ids=" ".join)
def test_the_executables_say_it_too(run: Run, command: list[str]):
    told = run(
        *command, "extract", "--dataset", "mimic-iv-ecg:nowhere", "--store", "x", folder=ROOT
    )
    assert told.returncode == 2
    assert told.stderr.startswith("nowhere is not there")
    assert len(told.stderr.splitlines()) == 1


def test_a_bug_is_not_taken_for_a_mistake(monkeypatch: pytest.MonkeyPatch):
    def broken(_: str) -> None:
        raise ZeroDivisionError

    import pipeline.extraction.plan  # noqa: F401  so that it is not imported with what is broken here

    monkeypatch.setattr("pipeline.datasets.registry.open_dataset", broken)
    with pytest.raises(ZeroDivisionError):
        run_app(enecg(), ["train", "--dataset", "ludb:x", "--store", "x", "--out", "x"])


def test_ctrl_c_is_told_in_a_line_and_sigterm_leaves_in_order(capfd: pytest.CaptureFixture[str]):
    app = App(name="app")

    @app.command
    def interrupted() -> None:
        raise KeyboardInterrupt

    @app.command
    def terminated() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)

    assert run_app(app, ["interrupted"]) == 130
    assert capfd.readouterr().err.startswith("Interrupted.")
    with pytest.raises(SystemExit) as left:
        run_app(app, ["terminated"])
    assert left.value.code == 143


def test_a_closed_pipe_is_no_success(monkeypatch: pytest.MonkeyPatch):
    app = App(name="app")

    @app.command
    def tells() -> None:
        raise BrokenPipeError

    with Path(os.devnull).open("w") as out:
        monkeypatch.setattr("sys.stdout", out)
        assert run_app(app, ["tells"]) == 141


def test_extract_works_from_any_folder_and_says_little_besides(
    run: Run, synthetic_dir: Path, tmp_path: Path
):
    told = run(
        *("enecg", "extract", "--dataset", f"mimic-iv-ecg:{synthetic_dir}", "--limit", "4"),
        *("--store", str(tmp_path / "store"), "--experts", "dlinear", "--weights", "random:0"),
    )
    assert told.returncode == 0, told.stderr
    assert " rows computed, 0 already complete, " in told.stdout.splitlines()[0]
    assert f"Store of dlinear: {tmp_path / 'store'}" in told.stdout
    starting, *progress = told.stderr.splitlines()
    assert starting.startswith("Starting the embedded Prefect server")
    assert progress
    assert all(line.startswith("extract: ") for line in progress)


def test_the_version_is_told(run: Run):
    from importlib.metadata import version

    assert run("enecg", "--version").stdout.strip() == version("enecg")


def test_a_dry_run_needs_no_server_and_makes_nothing(
    synthetic_dir: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    words = ["--dataset", f"mimic-iv-ecg:{synthetic_dir}", "--store", str(tmp_path / "store")]
    more = ["--experts", "dlinear", "--weights", "random:0", "--limit", "4", "--dry-run"]
    assert run_app(enecg(), ["extract", *words, *more]) == 0
    told = capfd.readouterr()
    assert told.err == ""
    assert "dlinear: 4 rows to compute" in told.out
    assert "Nothing was computed or written" in told.out
    assert not (tmp_path / "store").exists()
