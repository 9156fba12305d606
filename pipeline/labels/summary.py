"""Markdown summary of a label file: ECGs per label, and reasons for missing labels."""

import pandas as pd

from pipeline.datasets.label_rules import LabelRules
from pipeline.datasets.record_labels import OWN_TABLES, RecordLabels
from pipeline.labels.parquet_file import count_labels

_UNITS = {"rr_interval": "ms", "age": "years"}

DATA_USE_NOTICE = (
    "If the data set has a data use agreement (for MIMIC, PhysioNet's), it also covers these "
    "labels: share this file only with users who signed the agreement, and do not copy it into the "
    "shared stores."
)
"""Reminder of the data use agreement, printed after each summary."""


def summarize(labels: RecordLabels, rules: LabelRules) -> tuple[str, ...]:
    """Summarize labels as a table and notes.

    Args:
        labels: The labels.
        rules: Rules that the labels were derived with.

    Returns:
        Markdown blocks: a table with one row per label, followed by notes of one sentence each.
    """
    rows = ["| label | ECGs | patients | values | absent |", "|---|--:|--:|---|---|"]
    for name, count in count_labels(labels).items():
        absent = ", ".join(
            f"{reason} {ecgs:,}"
            for reason, ecgs in count.items()
            if reason not in ("ecgs", "patients")
        )
        values = _describe_values(name, labels.table)
        rows.append(
            f"| {name} | {count['ecgs']:,} | {count['patients']:,} | {values} "
            f"| {absent or 'none'} |"
        )
    lines = ["\n".join(rows)]
    if labels.criterion is not None:
        items = ", ".join(map(str, rules.potassium_items))
        lines.append(
            f"Potassium: {rules.describe_window()}, items {items}; abnormal by "
            f"{rules.describe_criterion(labels.criterion)}."
        )
    if labels.extra_columns:
        lines.append(f"Additional columns of the data set: {', '.join(labels.extra_columns)}.")
    tables: dict[str, list[str]] = {}
    for name, table in labels.missing_tables.items():
        tables.setdefault(table, []).append(name)
    for table, names in tables.items():
        reason = f"not found in {table}" if table == OWN_TABLES else f"{table} is missing"
        lines.append(f"No labels for {', '.join(names)}: {reason}.")
    return (*lines, *labels.notes)


def _describe_values(name: str, table: pd.DataFrame) -> str:
    values = table[name].dropna()
    if not len(values):
        return ""
    if name == "diagnosis":
        counts = values.value_counts()
        share = 100 * counts.iloc[0] / len(values)
        return f"{len(counts):,} distinct, most frequent {counts.index[0]!r} ({share:.1f} %)"
    if name == "sex":
        return f"{int(values.sum()):,} male ({100 * values.mean():.1f} %)"
    if name == "potassium":
        abnormal = f"{int(values.sum()):,} abnormal ({100 * values.mean():.1f} %)"
        if "potassium_mmol_l" not in table:
            return abnormal
        return f"{abnormal}; {_describe_range(table['potassium_mmol_l'].dropna(), 1)} mmol/L"
    return f"{_describe_range(values, 0)} {_UNITS.get(name, '')}".strip()


def _describe_range(values: pd.Series, digits: int) -> str:
    sd = f"{values.std():.{digits + 1}f}" if len(values) > 1 else "n/a"
    mean, low, high = values.mean(), values.min(), values.max()
    return f"{mean:.{digits + 1}f} ± {sd}, {low:.{digits}f} to {high:.{digits}f}"
