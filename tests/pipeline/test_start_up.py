"""Importing training does not import slow libraries; they are imported where they are used."""

import subprocess
import sys

SLOW = {"matplotlib", "optuna", "peft", "scipy.signal", "sklearn", "transformers"}


def find_slow(statement: str) -> set[str]:
    """Return the slow libraries that a statement imports in a new process."""
    code = f"import sys; {statement}; print(*sorted({SLOW} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_training_imports_slow_libraries_only_where_it_uses_them():
    assert find_slow("import pipeline.train") == set()
    assert find_slow("import pipeline.train, pipeline.report.page") == {"matplotlib", "sklearn"}
