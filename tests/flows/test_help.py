"""Help, examples and shell completion of all commands."""

import inspect
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import get_args

import pytest
from cyclopts import App

from flows.cli import enecg, job_app
from flows.help_examples import EXAMPLES, EXIT_CODES, example
from flows.parameters import Store
from stores.url import check_url

HEAVY = {
    *("torch", "transformers", "peft", "captum", "sklearn", "scipy", "pandas", "matplotlib"),
    *("zarr", "xarray", "dask", "duckdb", "optuna", "prefect", "boto3", "pyarrow", "wfdb"),
}
"""Libraries that can take seconds to import."""


def list_commands(app: App, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield the names of all commands and subcommands."""
    for name in app:
        if name not in ("--help", "-h", "--version"):
            yield " ".join((*path, name))
            yield from list_commands(app[name], (*path, name))


def returns_code(function: Callable[..., object] | None) -> bool:
    """Return whether a command is annotated as returning an exit code."""
    return function is not None and inspect.signature(function).return_annotation in (int, "int")


def test_every_command_has_an_example():
    assert sorted(list_commands(enecg())) == sorted(EXAMPLES)


@pytest.mark.parametrize("command", EXAMPLES)
def test_help_shows_an_example_that_the_command_accepts(command: str, run_enecg):
    outcome = run_enecg(*command.split(), "--help")
    assert outcome.code == 0
    assert outcome.out.count("Example:") == 1
    # Lines longer than the terminal's width are wrapped.
    assert " ".join(example(command).split()) in " ".join(outcome.out.split())
    program, *words = shlex.split(example(command).removeprefix("Example: ").splitlines()[0])
    assert program == "enecg"
    enecg().parse_args(words, exit_on_error=False, print_error=False)


def test_help_of_commands_with_exit_code_1_describes_it():
    app = enecg()
    functions = {name: app.parse_commands(name)[1][-1].default_command for name in EXAMPLES}
    with_code = [name for name, function in functions.items() if returns_code(function)]
    assert sorted(with_code) == sorted(EXIT_CODES)


def test_urls_in_the_help_of_store_are_valid():
    _, parameter, *_ = get_args(Store)
    schemes = [check_url(url) for url in re.findall(r"\w+://[\w/]+", parameter.help)]
    assert schemes == ["s3", "file"]


def test_help_of_prefect_run_shows_its_own_command(capsys: pytest.CaptureFixture[str]):
    job_app("prefect run", "flows.commands")(["label", "--help"], result_action="return_value")
    assert "Example: prefect run label --dataset" in capsys.readouterr().out


def test_help_and_completion_import_no_heavy_library():
    code = (
        "import sys; from flows.cli import enecg; from flows.run_app import run_app\n"
        "for command in sys.argv[1:]:\n"
        "    assert run_app(enecg(), [*command.split(), '--help']) == 0\n"
        "assert run_app(enecg(), ['--help']) == run_app(enecg(), ['--version']) == 0\n"
        "assert run_app(enecg(), ['--print-completion', 'bash']) == 0\n"
        "print(*sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *EXAMPLES], capture_output=True, text=True, check=True
    )
    assert not HEAVY & set(done.stderr.splitlines()[-1].split())


@pytest.fixture(scope="module")
def completion() -> str:
    app = enecg()
    return app.generate_completion(shell="bash")


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["store", "pl"], {"plot"}),
        (["extract", "--da"], {"--dataset"}),
        (["extract", "--dtype", "float"], {"float16", "float32"}),
        (["runs", ""], {"compare", "export", "ls", "page", "serve", "show"}),
    ],
    ids=["command", "option", "choices", "group"],
)
def test_bash_completes_commands_options_and_choices(
    typed: list[str], expected: set[str], completion: str
):
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is not installed")
    script = (
        f'{completion}\nCOMP_WORDS=(enecg "$@")\nCOMP_CWORD=$(($#))\n_enecg\n'
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(
        [bash, "-c", script, "bash", *typed], capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_is_printed_for_each_shell(shell: str, run_enecg):
    outcome = run_enecg("--print-completion", shell)
    assert (outcome.code, outcome.err) == (0, "")
    assert "neighbors" in outcome.out
