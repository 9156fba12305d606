"""Ratios of the benchmarks for the table of `python -m benchmarks all`."""

import json
import os
from pathlib import Path

RATIOS_VARIABLE = "ENECG_BENCHMARK_RATIOS"
"""Environment variable with the file to append ratios to. `python -m benchmarks all` sets it."""


def report_ratio(case: str, ratio: float, of: str, to: str) -> None:
    """Append a row to the table of `python -m benchmarks all`; do nothing in other runs.

    Args:
        case: Case that was measured, such as ``dlinear``.
        ratio: The ratio of two quantities of the same run.
        of: Quantity in the numerator.
        to: Quantity in the denominator.
    """
    if file := os.environ.get(RATIOS_VARIABLE):
        with Path(file).open("a", encoding="utf-8") as table:
            table.write(json.dumps({"case": case, "ratio": ratio, "of": of, "to": to}) + "\n")
