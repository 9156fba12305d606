import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import flows
from flows.prefect_plugin import _command, _words_of_the_prefect_command

ROOT = Path(__file__).resolve().parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]

ENABLED = {"PREFECT_PLUGINS_ENABLED": "1"}


def test_prefect_run_is_there_in_the_repository(run: Run):
    told = run("prefect", "run", "extract", "--help", folder=ROOT)
    assert told.returncode == 0, told.stderr
    assert "Usage: prefect run extract" in told.stdout
    assert "--batch-size" in told.stdout


def test_prefect_run_is_there_anywhere_after_one_setting(run: Run):
    before = run("prefect", "run", "train", "--help")
    assert before.returncode != 0
    assert run("prefect", "config", "set", "PREFECT_PLUGINS_ENABLED=true").returncode == 0
    after = run("prefect", "run", "train", "--help")
    assert after.returncode == 0, after.stderr
    assert "--repeats" in after.stdout


@pytest.mark.parametrize(
    ("file", "words", "says"),
    [
        ("prefect_command.py", ["version"], "Version:"),
        ("prefect_command.py", ["config", "view"], "PREFECT_PROFILE="),
        ("prefect_plugin.py", ["version"], "Version:"),
        ("environment.py", ["version"], "Version:"),
    ],
)
def test_other_commands_go_on_when_ours_is_broken(
    run: Run, tmp_path: Path, file: str, words: list[str], says: str
):
    copy = tmp_path / "broken" / "flows"
    shutil.copytree(Path(flows.__file__).parent, copy)
    (copy / file).write_text("raise RuntimeError('broken on purpose')\n")
    told = run("prefect", *words, PYTHONPATH=str(copy.parent), **ENABLED)
    assert told.returncode == 0, told.stderr
    assert says in told.stdout
    assert ("broken on purpose" in told.stderr) == (file != "prefect_command.py")


def test_other_commands_import_nothing_of_ours(run: Run):
    told = run("prefect", "version", PYTHONPROFILEIMPORTTIME="1", **ENABLED)
    imported = {line.rpartition("|")[2].strip() for line in told.stderr.splitlines()}
    ours = {name for name in imported if name.split(".")[0] in {"flows", "pipeline", "enecg"}}
    assert "flows.environment" in ours
    assert ours <= {"flows", "flows.environment", "flows.prefect_plugin"}
    assert not imported & {"torch", "zarr", "pandas"}


def test_a_process_that_is_not_the_prefect_command_is_left_alone(run: Run):
    program = (
        "import os, sys, prefect; "
        "print('flows.prefect_plugin' in sys.modules, 'prefect.cli._app' in sys.modules, "
        "'DO_NOT_TRACK' in os.environ)"
    )
    told = run("python", "-c", program, **ENABLED)
    assert told.stdout.split() == ["True", "False", "False"], told.stderr


def test_the_settings_are_shown_as_the_user_left_them(run: Run):
    told = run("prefect", "config", "view", **ENABLED)
    assert "ANALYTICS" not in told.stdout


@pytest.mark.parametrize(
    ("argv", "whole", "words"),
    [
        (["/bin/prefect", "run"], ["python", "/bin/prefect", "run"], ["run"]),
        (["-m", "run"], ["python", "-m", "prefect", "run"], ["run"]),
        (["-m", "id"], ["python", "-m", "prefect.engine", "id"], None),
        (["-c"], ["python", "-c", "import prefect"], None),
        (["/bin/enecg", "extract"], ["python", "/bin/enecg", "extract"], None),
    ],
)
def test_the_prefect_command_is_known(argv: list[str], whole: list[str], words: list[str] | None):
    assert _words_of_the_prefect_command(argv, whole) == words


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["run", "extract"], "run"),
        (["--profile", "run", "server", "start"], "server"),
        (["--no-prompt", "run"], "run"),
        (["--help"], None),
    ],
)
def test_the_subcommand_is_known(words: list[str], command: str | None):
    assert _command(words) == command
