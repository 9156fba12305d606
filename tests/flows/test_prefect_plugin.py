import shutil
from pathlib import Path

import pytest

import flows
from flows.prefect_plugin import _prefect_arguments, _subcommand

ROOT = Path(__file__).resolve().parents[2]

ENABLED = {"PREFECT_PLUGINS_ENABLED": "1"}


def test_prefect_run_is_available_in_the_repository(run_executable):
    done = run_executable("prefect", "run", "extract", "--help", folder=ROOT)
    assert done.returncode == 0, done.stderr
    assert "Usage: prefect run extract" in done.stdout
    assert "--batch-size" in done.stdout


@pytest.mark.slow
def test_prefect_run_is_available_in_any_folder_after_enabling_plugins(run_executable):
    before = run_executable("prefect", "run", "train", "--help")
    assert before.returncode != 0
    setting = run_executable("prefect", "config", "set", "PREFECT_PLUGINS_ENABLED=true")
    assert setting.returncode == 0
    after = run_executable("prefect", "run", "train", "--help")
    assert after.returncode == 0, after.stderr
    assert "--repeats" in after.stdout


@pytest.mark.parametrize(
    ("file", "arguments", "output"),
    [
        ("prefect_run.py", ["config", "view"], "PREFECT_PROFILE="),
        pytest.param("prefect_plugin.py", ["version"], "Version:", marks=pytest.mark.slow),
        ("environment.py", ["version"], "Version:"),
    ],
)
def test_other_prefect_commands_work_if_the_plugin_is_broken(
    run_executable, tmp_path: Path, file: str, arguments: list[str], output: str
):
    copy = tmp_path / "broken" / "flows"
    shutil.copytree(Path(flows.__file__).parent, copy)
    (copy / file).write_text("raise RuntimeError('broken on purpose')\n")
    done = run_executable("prefect", *arguments, PYTHONPATH=str(copy.parent), **ENABLED)
    assert done.returncode == 0, done.stderr
    assert output in done.stdout
    assert ("broken on purpose" in done.stderr) == (file != "prefect_run.py")


def test_other_prefect_commands_import_only_the_plugin(run_executable):
    done = run_executable("prefect", "version", PYTHONPROFILEIMPORTTIME="1", **ENABLED)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    ours = {name for name in imported if name.split(".")[0] in {"flows", "pipeline", "enecg"}}
    assert "flows.environment" in ours
    assert ours <= {"flows", "flows.environment", "flows.prefect_plugin"}
    assert not imported & {"torch", "zarr", "pandas"}


def test_plugin_does_nothing_in_other_processes(run_executable):
    program = (
        "import os, sys, prefect; "
        "print('flows.prefect_plugin' in sys.modules, 'prefect.cli._app' in sys.modules, "
        "'DO_NOT_TRACK' in os.environ)"
    )
    done = run_executable("python", "-c", program, **ENABLED)
    assert done.stdout.split() == ["True", "False", "False"], done.stderr


def test_config_view_does_not_show_settings_of_the_plugin(run_executable):
    done = run_executable("prefect", "config", "view", **ENABLED)
    assert done.returncode == 0, done.stderr
    assert "PREFECT_PROFILE" in done.stdout
    assert "ANALYTICS" not in done.stdout


@pytest.mark.parametrize(
    ("argv", "orig_argv", "arguments"),
    [
        (["/bin/prefect", "run"], ["python", "/bin/prefect", "run"], ["run"]),
        (["-m", "run"], ["python", "-m", "prefect", "run"], ["run"]),
        (["-m", "id"], ["python", "-m", "prefect.engine", "id"], None),
        (["-c"], ["python", "-c", "import prefect"], None),
        (["/bin/enecg", "extract"], ["python", "/bin/enecg", "extract"], None),
    ],
)
def test_prefect_command_is_recognized(
    argv: list[str], orig_argv: list[str], arguments: list[str] | None
):
    assert _prefect_arguments(argv, orig_argv) == arguments


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["run", "extract"], "run"),
        (["--profile", "run", "server", "start"], "server"),
        (["--no-prompt", "run"], "run"),
        (["--help"], None),
    ],
)
def test_subcommand_is_recognized(arguments: list[str], command: str | None):
    assert _subcommand(arguments) == command
