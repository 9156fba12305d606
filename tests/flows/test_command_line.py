import json
import os
import shlex
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest
from cyclopts import App

from enecg.errors import UserError
from flows.checks import check_refresh
from flows.cli import enecg
from flows.job_command import as_command
from flows.jobs.refresh import refresh
from flows.run_app import run_app
from pipeline.extraction.request import StoreSelection, extract_command
from pipeline.waveforms.options import DecodeOptions

ROOT = Path(__file__).resolve().parents[2]


def assert_user_error(outcome, message: str) -> None:
    """Assert exit code 2, no output, and one line on standard error that contains `message`."""
    assert outcome.code == 2
    assert outcome.out == ""
    assert len(outcome.err_lines) == 1
    assert message in outcome.err


def replace_options(defaults: dict[str, str], options: list[str]) -> list[str]:
    """Return the defaults of all options that `options` does not contain, followed by `options`."""
    kept = [
        word for name, value in defaults.items() if name not in options for word in (name, value)
    ]
    return [*kept, *options]


EXTRACT_ERRORS = {
    "missing data set": (["--dataset", "mimic-iv-ecg:nowhere"], "nowhere does not exist"),
    "unknown source": (["--dataset", "nosuch:x"], "Unknown data set 'nosuch:x'"),
    "unknown expert": (["--experts", "dlinear,nosuch"], "Unknown expert 'nosuch'"),
    "credentials in the URL": (["--store", "s3://key:secret@lab/x"], "contains credentials"),
    "unpublished weights": (["--experts", "dlinear"], "No weights of dlinear are published"),
    "missing weights": (["--weights", "nowhere"], "Weights 'nowhere' for dlinear do not exist"),
    "not a number": (["--batch-size", "many"], "--batch-size"),
    "out of range": (["--batch-size", "0"], "--batch-size"),
    "unknown device": (["--device", "gpu"], "--device"),
    "unknown option": (["--bogus"], "--bogus"),
}


@pytest.mark.parametrize("name", EXTRACT_ERRORS)
def test_user_error_in_extract_exits_with_2_and_one_line(
    name: str, synthetic_dir: Path, tmp_path: Path, run_enecg
):
    options, message = EXTRACT_ERRORS[name]
    defaults = {"--dataset": f"mimic-iv-ecg:{synthetic_dir}", "--store": str(tmp_path / "store")}
    assert_user_error(run_enecg("extract", *replace_options(defaults, options)), message)


LABEL_ERRORS = {
    "missing data set": (["--dataset", "mimic-iv-ecg:nowhere"], "nowhere does not exist"),
    "missing folder": (["--hosp", "nowhere"], "nowhere does not exist"),
    "not a Parquet file": (["--out", "labels.csv"], "does not end in .parquet"),
    "empty window": (["--window-hours", "0"], "--window-hours"),
    "unknown match": (["--match", "last"], "--match"),
    "invalid item id": (["--potassium-items", "K"], "Invalid item id 'K' in --potassium-items"),
    "item id of 5,000 digits": (["--potassium-items", "1" * 5000], "Invalid item id '1111"),
    "unknown criterion": (["--abnormal", "feeling"], "--abnormal"),
    "limits in the wrong order": (
        ["--potassium-low", "6"],
        "the low limit must be at least 0 and below",
    ),
    "unknown report line": (["--report", "18"], "Unknown report line '18'"),
}


@pytest.mark.parametrize("name", LABEL_ERRORS)
def test_user_error_in_label_exits_with_2_and_one_line(
    name: str, synthetic_dir: Path, tmp_path: Path, run_enecg
):
    options, message = LABEL_ERRORS[name]
    defaults = {
        "--dataset": f"mimic-iv-ecg:{synthetic_dir}",
        "--out": str(tmp_path / "labels.parquet"),
    }
    assert_user_error(run_enecg("label", *replace_options(defaults, options)), message)


TASK_ERRORS = {
    "unknown kind": (["--task", "lvef:ordinal"], "'lvef:ordinal' is not a valid task"),
    "unknown task": (["--task", "lvef:binary", "--tasks", "height"], "available: rr_interval"),
    "missing label file": (["--labels", "nowhere.csv"], "nowhere.csv does not exist"),
    "task given twice": (["--task", "lvef:binary,lvef:regression"], "'lvef' is given twice"),
}


@pytest.mark.parametrize("name", TASK_ERRORS)
@pytest.mark.parametrize("flow", ["train", "refresh"])
def test_user_error_in_tasks_exits_with_2_and_one_line(
    flow: str, name: str, synthetic_dir: Path, tmp_path: Path, run_enecg
):
    options, message = TASK_ERRORS[name]
    defaults = {
        "--dataset": f"mimic-iv-ecg:{synthetic_dir}",
        "--store": str(tmp_path / "store"),
        "--out": str(tmp_path / "run"),
    }
    assert_user_error(run_enecg(flow, *replace_options(defaults, options)), message)


def test_refresh_checks_the_folder_of_runs_before_the_extraction(
    synthetic_dir: Path, tmp_path: Path
):
    (tmp_path / "file").touch()
    parameters = {
        "dataset": f"mimic-iv-ecg:{synthetic_dir}",
        "store": str(tmp_path / "store"),
        "out": tmp_path / "file",
    }
    message = f"{tmp_path}/file/.* cannot be written \\(Not a directory\\)"
    with pytest.raises(UserError, match=message):
        check_refresh(**parameters)
    with pytest.raises(UserError, match=message):
        refresh(**parameters, experts=("dlinear",), weights=("random:0",), limit=4)
    assert not (tmp_path / "store").exists()


def test_evaluate_rejects_a_folder_without_a_run(synthetic_dir: Path, tmp_path: Path, run_enecg):
    outcome = run_enecg(
        *("evaluate", "--run", tmp_path, "--dataset", f"mimic-iv-ecg:{synthetic_dir}"),
        *("--store", tmp_path / "store"),
    )
    assert_user_error(outcome, f"{tmp_path} is not a run folder: config.json is missing")


@pytest.mark.parametrize(
    "command",
    [["enecg"], pytest.param(["prefect", "run"], marks=pytest.mark.slow)],
    ids=" ".join,
)
def test_executable_reports_a_user_error_in_one_line(run_executable, command: list[str]):
    options = ["--dataset", "mimic-iv-ecg:nowhere", "--store", "x"]
    done = run_executable(*command, "extract", *options, folder=ROOT)
    assert done.returncode == 2
    assert done.stderr.startswith("nowhere does not exist")
    assert len(done.stderr.splitlines()) == 1


def test_exception_of_a_bug_propagates(monkeypatch: pytest.MonkeyPatch, run_enecg):
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    # Import this module first, so that it does not import the broken function.
    import pipeline.extraction.plan  # noqa: F401

    monkeypatch.setattr("pipeline.datasets.registry.open_dataset", broken)
    with pytest.raises(ZeroDivisionError):
        run_enecg("train", "--dataset", "ludb:x", "--store", "x", "--out", "x")


def test_ctrl_c_and_sigterm_exit_with_their_codes_and_messages(capfd: pytest.CaptureFixture[str]):
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
    assert run_app(app, ["terminated"]) == 143
    assert capfd.readouterr().err.startswith("Terminated.")


@pytest.mark.parametrize(
    ("sent", "interrupt", "code", "word"),
    [
        (signal.SIGINT, signal.SIG_DFL, 130, "Interrupted."),
        # A process that was started in the background ignores SIGINT.
        pytest.param(signal.SIGTERM, signal.SIG_IGN, 143, "Terminated.", marks=pytest.mark.slow),
    ],
)
def test_stopped_extraction_prints_its_summary_and_how_to_resume(
    sent: signal.Signals,
    interrupt: signal.Handlers,
    code: int,
    word: str,
    synthetic_dir: Path,
    tmp_path: Path,
):
    executable = Path(sys.executable).with_name("enecg")
    if not executable.exists():
        pytest.skip(f"{executable} does not exist; install the project in this environment")
    process = subprocess.Popen(
        [
            *(executable, "extract", "--dataset", f"mimic-iv-ecg:{synthetic_dir}"),
            *("--store", tmp_path / "store", "--experts", "timesnet", "--weights", "random:0"),
            *("--batch-size", "2"),
        ],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, interrupt),
    )
    with process:
        assert process.stderr is not None
        first = process.stderr.readline()
        process.send_signal(sent)
        rest = process.stderr.read()
    assert first.startswith("extract: "), first + rest
    assert process.returncode == code
    assert "rows computed, " in rest
    assert rest.splitlines()[-1].startswith(word)
    assert "resume" in rest.splitlines()[-1]
    (record,) = (tmp_path / "store").glob("synthetic/*/runs/timesnet/*/*.json")
    assert json.loads(record.read_text())["finished"] is False


def test_closed_pipe_exits_with_141(monkeypatch: pytest.MonkeyPatch):
    app = App(name="app")

    @app.command
    def write() -> None:
        raise BrokenPipeError

    with Path(os.devnull).open("w") as out:
        monkeypatch.setattr("sys.stdout", out)
        assert run_app(app, ["write"]) == 141


def test_commands_print_only_progress_and_errors_to_stderr_and_do_not_import_prefect(
    run_executable, synthetic_dir: Path, tmp_path: Path
):
    data = ("--dataset", f"mimic-iv-ecg:{synthetic_dir}")
    store = ("--store", str(tmp_path / "store"), "--weights", "random:0")
    commands = {
        "label": (*data, "--out", "labels.parquet"),
        "extract": (*data, *store, "--experts", "dlinear", "--limit", "4"),
        "train": (*data, *store, "--out", "run"),
    }
    code = (
        "import sys; from flows.cli import enecg; from flows.run_app import run_app\n"
        f"for name, words in {commands}.items():\n"
        "    code = run_app(enecg(), [name, *words])\n"
        "    print(f'{name}: {int(code)}', 'prefect' in sys.modules)\n"
    )
    done = run_executable("python", "-c", code)
    lines = done.stdout.splitlines()
    # `train` fails, because most embeddings are missing.
    assert [line for line in lines if line.split(":")[0] in commands] == [
        *("label: 0 False", "extract: 0 False", "train: 2 False")
    ], done.stderr
    extracted = lines[lines.index("label: 0 False") + 1 :]
    assert " rows computed, 0 already complete, " in extracted[0]
    assert f"Store of dlinear: {tmp_path / 'store'}" in done.stdout
    *progress, error = done.stderr.splitlines()
    assert "extract them with enecg extract" in error
    assert any(line.startswith("extract: ") for line in progress)
    assert all(line.startswith(("extract: ", "label: ")) for line in progress)


def test_command_uses_the_configured_server(run_executable, synthetic_dir: Path, tmp_path: Path):
    command = ("enecg", "label", "--dataset", f"mimic-iv-ecg:{synthetic_dir}", "--out")
    address = "http://127.0.0.1:9/api"
    done = run_executable(*command, str(tmp_path / "a.parquet"), PREFECT_API_URL=address)
    assert done.returncode == 2
    assert f"The Prefect server at PREFECT_API_URL={address} does not respond" in done.stderr


def test_version_is_printed(run_executable):
    assert run_executable("enecg", "--version").stdout.strip() == version("enecg")


def test_dry_run_prints_rows_to_compute_and_creates_no_store(
    synthetic_dir: Path, tmp_path: Path, run_enecg
):
    outcome = run_enecg(
        *("extract", "--dataset", f"mimic-iv-ecg:{synthetic_dir}", "--store", tmp_path / "store"),
        *("--experts", "dlinear", "--weights", "random:0", "--limit", 4, "--dry-run"),
    )
    assert outcome.code == 0
    assert outcome.err == ""
    assert "dlinear: 4 rows to compute" in outcome.out
    assert "Nothing was computed or written" in outcome.out
    assert not (tmp_path / "store").exists()


def test_dry_run_needs_neither_prefect_nor_a_separate_check(
    synthetic_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    command = as_command("extract", lambda *_: pytest.fail("the job is not run directly"))
    command(
        dataset=f"mimic-iv-ecg:{synthetic_dir}",
        store=str(tmp_path / "store"),
        experts=("dlinear",),
        weights=("random:0",),
        limit=4,
        dry_run=True,
    )
    assert "dlinear: 4 rows to compute" in capsys.readouterr().out


def test_records_of_a_dry_run_are_checked_before_weights_are_searched(
    synthetic_dir: Path, tmp_path: Path, run_enecg
):
    (tmp_path / "ids.txt").write_text("999")
    options = ["--records", str(tmp_path / "ids.txt"), "--weights", "nowhere", "--dry-run"]
    defaults = {"--dataset": f"mimic-iv-ecg:{synthetic_dir}", "--store": str(tmp_path / "store")}
    outcome = run_enecg("extract", *replace_options(defaults, options))
    assert_user_error(outcome, "not in the data set, such as 999")


@pytest.mark.parametrize("folder", ["plain", "with space & 'quote'"])
def test_suggested_extract_command_is_accepted_by_the_command_line(folder: str, tmp_path: Path):
    selection = StoreSelection(
        ("dlinear", "timesnet"),
        ("random:0", "timesnet@random:1", "moment@random:2"),
        ("default",),
        "float32",
        ("dlinear.moving_average=15", "tempo.x=1"),
        DecodeOptions("mirror", derive_leads=True),
    )
    path = tmp_path / folder
    command = extract_command(f"mimic-iv-ecg:{path}", path, selection, 5, path / "ids.txt")
    words = shlex.split(command)
    assert words[:2] == ["enecg", "extract"]
    _, bound, _ = enecg().parse_args(words[1:], exit_on_error=False)
    assert bound.arguments["dataset"] == f"mimic-iv-ecg:{path}"
    assert bound.arguments["records"] == path / "ids.txt"
    assert bound.arguments["limit"] == 5
    assert bound.arguments["expert_settings"] == ("dlinear.moving_average=15",)
    assert bound.arguments["weights"] == ("random:0,timesnet@random:1",)
    assert bound.arguments["derive_leads"]
