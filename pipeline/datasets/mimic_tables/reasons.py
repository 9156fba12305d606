"""SQL expressions for the reasons why labels are absent."""

from pipeline.datasets.absence_reasons import REASONS, reason_column
from pipeline.datasets.mimic_tables.sql import quote_list, quote_text


def first_reason(label: str, *reasons: tuple[str, str]) -> str:
    """Return an SQL column for a SELECT: the reason why a label is absent.

    Args:
        label: A key of `REASONS`.
        *reasons: Pairs of a condition and its reason, in order of precedence.

    Returns:
        A column of type ENUM over all reasons of the label; NULL if no condition holds.
    """
    cases = " ".join(f"WHEN {condition} THEN {quote_text(reason)}" for condition, reason in reasons)
    return f"(CASE {cases} END)::ENUM{quote_list(REASONS[label])} AS {reason_column(label)}"
