"""Ratios of the benchmarks, which `python -m benchmarks all` collects in one table."""

import json
import os
from pathlib import Path

FILE = "ENECG_BENCHMARK_RATIOS"
"""Environment variable with the file to which ratios are appended; if they are collected."""


def report_ratio(case: str, ratio: float, of: str, to: str) -> None:
    """Append a row to the table of `python -m benchmarks all`, if it runs this benchmark.

    Args:
        case: What was measured, such as ``dlinear``.
        ratio: The ratio of two quantities of the same run.
        of: Quantity in the numerator.
        to: Quantity in the denominator.
    """
    if file := os.environ.get(FILE):
        with Path(file).open("a", encoding="utf-8") as table:
            table.write(json.dumps({"case": case, "ratio": ratio, "of": of, "to": to}) + "\n")
