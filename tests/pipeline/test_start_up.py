"""Importing training does not import slow libraries; they are imported where they are used."""

import subprocess
import sys
from pathlib import Path

import pytest

SLOW = {"matplotlib", "optuna", "peft", "scipy.signal", "sklearn", "transformers"}

READ_DEFINITIONS = """
from enecg.experts import get_definition, list_experts
assert [get_definition(name).name for name in list_experts()]
"""


def find_imported(modules: set[str], *steps: str) -> list[set[str]]:
    """Run statements in a new process; return which of the modules are imported after each step."""
    report = f"import sys; print(*sorted({modules} & sys.modules.keys()))"
    code = "\n".join(f"{statements}\n{report}" for statements in steps)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return [set(line.split()) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_training_imports_slow_libraries_only_where_it_uses_them():
    steps = ("import pipeline.train", "import pipeline.report.page")
    assert find_imported(SLOW, *steps) == [set(), {"matplotlib"}]


def test_definitions_of_experts_are_read_without_torch_scipy_and_numpy():
    assert find_imported({*SLOW, "torch", "scipy", "numpy"}, READ_DEFINITIONS) == [set()]


@pytest.mark.parametrize(
    "arguments",
    [
        ("predict", "--run", "nowhere", "record"),
        ("explain", "--run", "nowhere", "--dataset", "ludb:nowhere", "1"),
        ("evaluate", "--run", "nowhere", "--dataset", "ludb:nowhere", "--store", "nowhere"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_wrong_run_folder_is_reported_without_torch(arguments: tuple[str, ...]):
    statements = f"""
from flows.cli import enecg
from flows.run_app import run_app
assert run_app(enecg(), {arguments}) == 2
"""
    assert find_imported({*SLOW, "torch"}, statements) == [set()]


def test_comparison_of_runs_does_not_import_models():
    statements = "import pipeline.report.comparison_page, pipeline.report.page"
    assert find_imported({*SLOW, "torch"}, statements) == [{"matplotlib"}]


def test_map_of_embeddings_does_not_import_models(synthetic_stores: Path, tmp_path: Path):
    statements = f"""
from pipeline.browse import plot_stores
plot_stores({str(synthetic_stores)!r}, {str(tmp_path / "map.html")!r})
"""
    assert find_imported({*SLOW, "torch"}, statements) == [{"matplotlib"}]


def test_search_for_neighbors_does_not_import_tables_and_plots():
    statements = """
from flows.cli import enecg
from flows.run_app import run_app
assert run_app(enecg(), ("store", "neighbors", "nowhere", "1")) == 2
"""
    assert find_imported({*SLOW, "pandas", "scipy", "torch"}, statements) == [set()]
