"""Summary of a file of labels in Markdown: ECGs per label, and reasons for missing labels."""

import pandas as pd

from pipeline.datasets.label_rules import LabelRules
from pipeline.datasets.record_labels import RecordLabels
from pipeline.labels.parquet_file import count_labels

_UNITS = {"rr_interval": "ms", "age": "years"}

AGREEMENT = (
    "Labels fall under the data use agreement of their source (PhysioNet's for MIMIC): share this "
    "file only with users who signed it, and keep it out of the shared stores."
)


def summarize(labels: RecordLabels, rules: LabelRules) -> tuple[str, ...]:
    """Summarize labels as a table and notes.

    Args:
        labels: The labels.
        rules: The rules they were derived by.

    Returns:
        Markdown blocks: a table with one row per label, then one sentence each.
    """
    rows = ["| label | ECGs | patients | values | absent |", "|---|--:|--:|---|---|"]
    for name, count in count_labels(labels).items():
        reasons = {why: n for why, n in count.items() if why not in ("ecgs", "patients")}
        absent = ", ".join(f"{why} {n:,}" for why, n in reasons.items()) or "none"
        values = _describe_values(name, labels.table)
        rows.append(f"| {name} | {count['ecgs']:,} | {count['patients']:,} | {values} | {absent} |")
    lines = ["\n".join(rows)]
    if labels.criterion is not None:
        items = ", ".join(map(str, rules.potassium_items))
        lines.append(
            f"Potassium: {rules.describe_window()}, items {items}; abnormal by "
            f"{rules.describe_criterion(labels.criterion)}."
        )
    if labels.extra_columns:
        lines.append(f"Copied from the data set: {', '.join(labels.extra_columns)}.")
    tables: dict[str, list[str]] = {}
    for name, table in labels.missing_tables.items():
        tables.setdefault(table, []).append(name)
    for table, names in tables.items():
        lines.append(f"No labels for {', '.join(names)}: not available from {table}.")
    lines += [f"{description}: {count:,}." for description, count in sorted(labels.skipped.items())]
    return tuple(lines)


def _describe_values(name: str, table: pd.DataFrame) -> str:
    known = table[name].dropna()
    if not len(known):
        return ""
    if name == "diagnosis":
        counts = known.value_counts()
        share = 100 * counts.iloc[0] / len(known)
        return f"{len(counts):,} distinct, most frequent {counts.index[0]!r} ({share:.1f} %)"
    if name == "sex":
        return f"{int(known.sum()):,} male ({100 * known.mean():.1f} %)"
    if name == "potassium":
        abnormal = f"{int(known.sum()):,} abnormal ({100 * known.mean():.1f} %)"
        if "potassium_mmol_l" not in table:
            return abnormal
        return f"{abnormal}; {_describe_range(table['potassium_mmol_l'].dropna(), 1)} mmol/L"
    return f"{_describe_range(known, 0)} {_UNITS.get(name, '')}".strip()


def _describe_range(known: pd.Series, digits: int) -> str:
    sd = f"{known.std():.{digits + 1}f}" if len(known) > 1 else "n/a"
    mean, low, high = known.mean(), known.min(), known.max()
    return f"{mean:.{digits + 1}f} ± {sd}, {low:.{digits}f} to {high:.{digits}f}"
