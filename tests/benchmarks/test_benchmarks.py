"""The benchmarks' command line."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as command_line

ROOT = Path(command_line.__file__).parents[1]


def test_every_benchmark_without_a_data_set_is_in_the_table():
    files = {path.stem for path in command_line.BENCHMARKS.glob("*.py")}
    assert command_line.FULL.keys() == command_line.QUICK.keys() <= files


@pytest.mark.slow
def test_table_has_a_ratio_of_each_benchmark_and_failures_are_named(
    capfd: pytest.CaptureFixture[str],
):
    commands = {
        "decode": "--records 4 --repeats 1 --seconds 0.01",
        "large_index": "--records 5000",
        "kills": "--no-such-option",
    }
    with pytest.raises(SystemExit, match=r"Failed: kills\."):
        command_line.run_all(commands)
    rows = [line.split(" | ") for line in capfd.readouterr().out.splitlines()[2:]]
    assert {row[0] for row in rows} == {"| decode", "| large_index"}
    assert all(float(row[2]) > 0 for row in rows)


@pytest.mark.slow
def test_list_names_the_benchmarks():
    command = [sys.executable, "-m", "benchmarks"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {line.split()[0] for line in printed.splitlines()} >= command_line.FULL.keys()
