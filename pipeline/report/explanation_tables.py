"""Tables of an explanation.

They contain the share of each window, the outputs with completeness errors, and the records that
cannot be explained.
"""

import csv
import io
import json
import math
from collections.abc import Mapping
from functools import partial
from typing import Any, Protocol

import numpy as np

from enecg.attribution.windows import WINDOWS
from pipeline.evaluation.predictions import ENSEMBLE
from pipeline.explanation.results import (
    COLUMNS,
    ExplainedRecord,
    ExplanationResult,
    average,
    gradient_shares,
    occlusion_shares,
    time_shares,
)
from pipeline.report.formats import csv_cell
from pipeline.report.table import NOT_APPLICABLE, Table

NOT_A_DEVICE = "Research software, not a medical device; not for diagnosis or treatment."


class Shares(Protocol):
    """Function that returns the share of each of `COLUMNS` for a record and a method.

    A method is the name of an expert, or `ENSEMBLE`. The result is None if the record has no shares
    for it.
    """

    def __call__(self, record: ExplainedRecord, method: str) -> dict[str, float] | None:
        """Return the shares."""


def explanation_tables(result: ExplanationResult) -> list[Table]:
    """Return the tables of an explanation.

    Args:
        result: The explanation.

    Returns:
        The tables: shares by gradients, shares by occlusion, outputs, and refused records if any.
        If no record was explained, only the table of refused records.
    """
    if not result.records:
        return [refusal_table(result)]
    tables = [
        share_table(result, gradient_shares, "Share of the attributions (integrated gradients), %"),
        share_table(result, occlusion_shares, "Share of the effects of occlusion, %"),
        record_table(result),
    ]
    return [*tables, *([refusal_table(result)] if result.refusals else [])]


def share_table(result: ExplanationResult, shares: Shares, title: str) -> Table:
    """Build the table of the mean share of each window by method, with the SD over records.

    Args:
        result: The explanation.
        shares: Function that returns the shares of a record for a method.
        title: Title of the table.

    Returns:
        The table. The first row is the fraction of the time that each window occupies.
    """
    rows = [_share_row("share of the time", average(result.records, time_shares))]
    for method in result.methods:
        means = average(result.records, partial(shares, method=method))
        rows.append(_share_row(label(result, method), means))
    return Table(title, ("", *COLUMNS), tuple(rows), notes=_notes(result, shares))


def _share_row(name: str, means: Mapping[str, tuple[float, float]] | None) -> tuple[str, ...]:
    if means is None:
        return (name, *[NOT_APPLICABLE] * len(COLUMNS))
    return (name, *(_percent(*means[column]) for column in COLUMNS))


def _percent(mean: float, deviation: float) -> str:
    if math.isnan(mean):
        return NOT_APPLICABLE
    text = f"{100 * mean:.1f}"
    return text if math.isnan(deviation) else f"{text} ± {100 * deviation:.1f}"


def record_table(result: ExplanationResult) -> Table:
    """Build a table with one row per record and method.

    Args:
        result: The explanation.

    Returns:
        A table of the output, its change from the baseline, and the completeness error; for a
        classification, also of the class.
    """
    has_class = any(record.class_name for record in result.records)
    rows = []
    for record in result.records:
        for method, explanation in record.methods.items():
            attribution = explanation.attribution
            rows.append(
                (
                    record.ecg.record_id,
                    *([record.class_name] if has_class else []),
                    label(result, method),
                    f"{explanation.output:.4g}",
                    *(
                        (f"{attribution.change:+.4g}", f"{attribution.error:+.3g}")
                        if attribution
                        else (NOT_APPLICABLE, NOT_APPLICABLE)
                    ),
                )
            )
    relative = largest_relative_error(result)
    notes = []
    if relative is not None:
        notes = [
            "Completeness: except for the error, the contributions sum to the output for the ECG "
            f"minus the output for the baseline. Largest error: {100 * relative:.2g} % of the sum "
            "of the absolute contributions."
        ]
    heading = (
        *("record", *(["class"] if has_class else []), "method"),
        *(f"output, {result.unit}".rstrip(", "), "change from baseline", "completeness error"),
    )
    return Table("Outputs", heading, tuple(rows), notes=tuple(notes))


def largest_relative_error(result: ExplanationResult) -> float | None:
    """Return the largest ratio of completeness error to sum of absolute contributions.

    Args:
        result: The explanation.

    Returns:
        The ratio; None if no method has integrated gradients other than 0.
    """
    errors = [
        abs(explanation.attribution.error) / explanation.attribution.absolute_sum
        for record in result.records
        for explanation in record.methods.values()
        if explanation.attribution is not None and explanation.attribution.absolute_sum > 0
    ]
    return max(errors, default=None)


def refusal_table(result: ExplanationResult) -> Table:
    """Build the table of the records that cannot be explained, with reasons."""
    rows = tuple((refusal.record_id, refusal.reason, refusal.detail) for refusal in result.refusals)
    return Table("Refused records", ("record", "reason", "detail"), rows)


def label(result: ExplanationResult, method: str) -> str:
    """Return the label of a method in tables and figures.

    Args:
        result: The explanation.
        method: Name of an expert, or `ENSEMBLE`.

    Returns:
        The name, with a remark if experts are untrained.
    """
    if method == ENSEMBLE:
        count = len(result.untrained)
        return f"{method} ({count} of {len(result.weights)} experts untrained)" if count else method
    weights = result.weights[method]
    return f"{method} (untrained, {weights})" if weights.startswith("random:") else method


def _notes(result: ExplanationResult, shares: Shares) -> tuple[str, ...]:
    records = len(result.records)
    notes = [
        f"{records} record{'s' if records > 1 else ''} of {result.dataset}"
        + (": mean ± SD over records." if records > 1 else ".")
        + " P, PR (segment), QRS, ST, T and rest sum to 100 %; PR interval is P + PR."
    ]
    if shares is gradient_shares:
        references = len(result.settings["baseline_records"])
        notes.append(
            "Share of the sum of the absolute contributions of all samples of all leads. "
            f"Baseline: mean of {references} ECGs; {result.settings['steps']} steps."
        )
        missing = [
            name for name in result.methods if result.records[0].methods[name].attribution is None
        ]
        if missing:
            notes.append(
                f"{', '.join(missing)}: not differentiable, so only occlusion applies. For the "
                f"attribution of {ENSEMBLE}, the predictions of these experts are held constant at "
                "their values for the record."
            )
    else:
        notes.append(
            "Share of the sum of the absolute changes in the output when all windows of one kind "
            "are replaced by straight lines in all leads."
        )
    return tuple(notes)


def to_json(result: ExplanationResult) -> str:
    """Format an explanation as JSON: settings, records and refusals. Non-finite values are null."""
    document: dict[str, Any] = {
        "note": NOT_A_DEVICE,
        "task": result.task,
        "unit": result.unit,
        "dataset": result.dataset,
        "run": result.run,
        "weights": dict(result.weights),
        "untrained": result.untrained,
        "settings": dict(result.settings),
        "windows": list(WINDOWS),
        "records": [_record_document(record) for record in result.records],
        "refused": [vars(refusal) for refusal in result.refusals],
    }
    return json.dumps(_without_nan(document), indent=1, allow_nan=False)


def _record_document(record: ExplainedRecord) -> dict[str, Any]:
    windows = record.ecg.windows
    return {
        "record_id": record.ecg.record_id,
        "class": record.class_name or None,
        "beats": windows.beats,
        "beats_of_other_shapes": windows.other_beats,
        "seconds": windows.seconds(),
        "methods": {
            name: {
                "output": method.output,
                "shares": None if method.shares is None else dict(method.shares),
                "change": method.attribution.change if method.attribution else None,
                "completeness_error": method.attribution.error if method.attribution else None,
                "occlusion_effects": dict(method.effects),
            }
            for name, method in record.methods.items()
        },
    }


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def to_long_csv(result: ExplanationResult) -> str:
    """Format gradient shares and occlusion effects as CSV: one row per record, method, window."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    effect = f"occlusion_effect_{result.unit}".rstrip("_")
    writer.writerow(("record_id", "method", "weights", "window", "seconds", "share", effect))
    for record in result.records:
        seconds = record.ecg.windows.seconds()
        for name, method in record.methods.items():
            for window in WINDOWS:
                share = "" if method.shares is None else f"{method.shares[window]:.6f}"
                writer.writerow(
                    (
                        *(csv_cell(record.ecg.record_id), name, result.weights.get(name, "")),
                        *(window, f"{seconds[window]:.3f}", share, f"{method.effects[window]:.6g}"),
                    )
                )
    return buffer.getvalue()
