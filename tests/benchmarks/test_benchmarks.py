"""Command line, data sets and beat comparison of the benchmarks."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import __main__ as command_line
from benchmarks.kills import ConstantDataset
from benchmarks.measurement_plots import compare
from benchmarks.measurements import Marks
from benchmarks.train import NoiseDataset
from benchmarks.training_cost import SyntheticDataset
from pipeline.datasets.base import Dataset

ROOT = Path(command_line.__file__).parents[1]


def test_full_and_quick_runs_have_the_same_benchmarks():
    files = {path.stem for path in command_line.BENCHMARKS.glob("*.py")}
    assert command_line.FULL.keys() == command_line.QUICK.keys() <= files


@pytest.mark.parametrize("dataset", [ConstantDataset, NoiseDataset, SyntheticDataset])
def test_data_sets_have_all_methods_of_the_protocol(dataset: type):
    methods = {name for name in vars(Dataset) if not name.startswith("_")} - {"namespace"}
    assert methods <= vars(dataset).keys()


@pytest.mark.parametrize("found", [np.array([], int), np.array([5, 2400])])
def test_all_marks_of_a_record_without_matching_beats_are_missed(found: np.ndarray):
    marks = Marks(np.array([500, 1000, 1500]), np.empty((3, 0)))
    errors = compare(7, marks, found)
    assert (errors.row, errors.missed, errors.false, errors.largest_distance) == (7, 3, 0, 0.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        "kills --kills 0 --seconds-per-row 0",
        "expert_costs --experts measurements --batch 2 --records 2 --rounds 1 --matmul 64",
    ],
)
def test_benchmarks_accept_zero_kills_and_an_expert_without_parameters(command: str):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *command.split()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_table_has_ratios_of_each_benchmark_and_failures_are_named(
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
def test_list_contains_all_benchmarks_of_a_full_run():
    command = [sys.executable, "-m", "benchmarks"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {line.split()[0] for line in printed.splitlines()} >= command_line.FULL.keys()
