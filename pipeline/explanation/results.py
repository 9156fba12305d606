"""Explanations of several records, and their averages."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from enecg.attribution.explanation import Explanation
from enecg.attribution.windows import WINDOWS
from pipeline.explanation.ecgs import Ecg, Refusal

PR_INTERVAL = "PR interval"
"""Name of the union of the windows P and PR, from the P onset to the QRS onset."""

COLUMNS = ("P", "PR", PR_INTERVAL, "QRS", "ST", "T", "rest")
"""Columns of the tables: the windows and the PR interval.

The PR interval is the sum of P and PR, so the shares of all columns do not add up to 1.
"""


@dataclass(frozen=True)
class ExplainedRecord:
    """Explanations of one record.

    Attributes:
        ecg: The ECG.
        class_name: The explained class; empty for a regression.
        methods: Explanation of each expert, and of the gated mixture unless there is only one
            expert.
    """

    ecg: Ecg
    class_name: str
    methods: Mapping[str, Explanation]


@dataclass(frozen=True)
class ExplanationResult:
    """Explanations of a task's output for the records of a data set.

    Attributes:
        task: Name of the task.
        title: Title of the task.
        unit: Unit of the outputs, or ``probability``; empty for a regression without a unit.
        dataset: Namespace of the data set.
        run: Run folder.
        weights: Weights of each expert, such as ``random:0``.
        settings: Options and the records of the baseline.
        records: The explained records.
        refusals: The records that cannot be explained, with reasons.
    """

    task: str
    title: str
    unit: str
    dataset: str
    run: str
    weights: Mapping[str, str]
    settings: Mapping[str, Any]
    records: Sequence[ExplainedRecord]
    refusals: Sequence[Refusal] = field(default=())

    @property
    def methods(self) -> tuple[str, ...]:
        """The experts, and the gated mixture unless there is only one; empty without records."""
        return tuple(self.records[0].methods) if self.records else ()

    @property
    def untrained(self) -> list[str]:
        """Experts with random weights."""
        return [name for name, weights in self.weights.items() if weights.startswith("random:")]


def add_pr_interval(by_window: Mapping[str, float]) -> dict[str, float]:
    """Return values by window and that of the PR interval, P plus PR, in the order of `COLUMNS`."""
    values = {**by_window, PR_INTERVAL: by_window["P"] + by_window["PR"]}
    return {name: values[name] for name in COLUMNS}


def gradient_shares(record: ExplainedRecord, method: str) -> dict[str, float] | None:
    """Return each column's share of the absolute contributions of integrated gradients.

    Args:
        record: The explained record.
        method: Name of an expert or of the gated mixture.

    Returns:
        Shares by column, NaN if all contributions are 0; None if the method is not differentiable.
    """
    shares = record.methods[method].shares
    return None if shares is None else add_pr_interval(shares)


def occlusion_shares(record: ExplainedRecord, method: str) -> dict[str, float] | None:
    """Return each column's share of the absolute effects of occlusion.

    Args:
        record: The explained record.
        method: Name of an expert or of the gated mixture.

    Returns:
        Shares by column, NaN if all effects are 0.
    """
    return add_pr_interval(record.methods[method].occlusion_shares)


def time_shares(record: ExplainedRecord) -> dict[str, float]:
    """Return the share of each of `COLUMNS` in the duration of the record."""
    seconds = record.ecg.windows.seconds()
    total = sum(seconds.values())
    return add_pr_interval({name: seconds[name] / total for name in WINDOWS})


def average(
    records: Sequence[ExplainedRecord],
    values: Callable[[ExplainedRecord], Mapping[str, float] | None],
) -> dict[str, tuple[float, float]] | None:
    """Average values over records.

    Args:
        records: The records.
        values: Function that returns the values of a record by name, or None. The names are the
            same for all records.

    Returns:
        Mean and sample standard deviation of the finite values, by name. The mean is NaN without
        finite values, and the standard deviation with fewer than two. None if `values` returns None
        for every record.
    """
    rows = [row for record in records if (row := values(record)) is not None]
    if not rows:
        return None
    table = np.array([list(row.values()) for row in rows])
    statistics = {}
    for name, column in zip(rows[0], table.T, strict=True):
        known = column[np.isfinite(column)]
        mean = float(known.mean()) if len(known) else float("nan")
        deviation = float(known.std(ddof=1)) if len(known) > 1 else float("nan")
        statistics[name] = (mean, deviation)
    return statistics
