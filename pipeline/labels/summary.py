"""What came of a labelling, in Markdown: how many ECGs have each label, and why the others not."""

import pandas as pd

from pipeline.datasets.label_rules import LabelRules
from pipeline.datasets.record_labels import RecordLabels
from pipeline.labels.parquet_file import count_labels

_UNITS = {"rr_interval": "ms", "age": "years"}

AGREEMENT = (
    "Labels fall under the data use agreement of the tables they are from (PhysioNet's for MIMIC): "
    "keep this file to those who signed it, and out of the shared stores."
)


def summarize(labels: RecordLabels, rules: LabelRules) -> tuple[str, ...]:
    """A table with a row a label, and the sentences that belong below it."""
    rows = ["| label | ECGs | patients | values | absent |", "|---|--:|--:|---|---|"]
    for name, count in count_labels(labels).items():
        reasons = {why: n for why, n in count.items() if why not in ("ecgs", "patients")}
        absent = ", ".join(f"{why} {n:,}" for why, n in reasons.items()) or "none"
        values = _values(name, labels.table)
        rows.append(f"| {name} | {count['ecgs']:,} | {count['patients']:,} | {values} | {absent} |")
    told = ["\n".join(rows)]
    if labels.criterion is not None:
        told.append(
            f"Potassium is {rules.describe_window()}, of the items "
            f"{', '.join(map(str, rules.potassium_items))}; abnormal by "
            f"{rules.describe_criterion(labels.criterion)}."
        )
    if labels.extra_columns:
        told.append(f"As the data set has them: {', '.join(labels.extra_columns)}.")
    tables: dict[str, list[str]] = {}
    for name, table in labels.missing_tables.items():
        tables.setdefault(table, []).append(name)
    for table, names in tables.items():
        told.append(f"No {' and no '.join(names)}: {table} is not there or does not say.")
    told += [f"{why}: {count:,}." for why, count in sorted(labels.skipped.items())]
    return tuple(told)


def _values(name: str, table: pd.DataFrame) -> str:
    known = table[name].dropna()
    if not len(known):
        return ""
    if name == "diagnosis":
        often = known.value_counts()
        share = 100 * often.iloc[0] / len(known)
        return f"{len(often):,} different, most often {often.index[0]!r} ({share:.1f} %)"
    if name == "sex":
        return f"{int(known.sum()):,} male ({100 * known.mean():.1f} %)"
    if name == "potassium":
        abnormal = f"{int(known.sum()):,} abnormal ({100 * known.mean():.1f} %)"
        if "potassium_mmol_l" not in table:
            return abnormal
        return f"{abnormal}; {_range(table['potassium_mmol_l'].dropna(), 1)} mmol/L"
    return f"{_range(known, 0)} {_UNITS.get(name, '')}".strip()


def _range(known: pd.Series, digits: int) -> str:
    spread = f"{known.std():.{digits + 1}f}" if len(known) > 1 else "not known"
    return (
        f"{known.mean():.{digits + 1}f} ± {spread}, "
        f"{known.min():.{digits}f} to {known.max():.{digits}f}"
    )
