"""Parsing of fields in MIMIC's tables, which does not depend on other fields of the column."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from pipeline.datasets.mimic_tables import columns
from pipeline.datasets.mimic_tables.engine import fetch, open_engine

FIELDS = [
    *(
        "12",
        "007",
        "-3",
        "+4",
        "12.0",
        "12.5",
        "4.",
        ".5",
        "1e3",
        "1E400",
        "inf",
        "nan",
        "0x10",
        "1_0",
        "+-5",
    ),
    *("9" * 15, "9" * 18, "9" * 19, "", " 12 ", "twelve", "\u0661", "1\n2"),
    *("2150-03-01 12:40:00", "2150-03-01T12:40:00", "2150-03-01 12:40", "2150-03-01 12:40:00.25"),
    *("2150-02-30 12:40:00", "2150-03-01 24:00:00", "2150-03-01", "0150-03-01 12:40:00"),
    *("2150-3-1   12:40:00", "2150-03-01 12:40:60", "2150-03-01 12:40Z  ", "01/03/2150 12:40:00"),
    *(" 2150-03-01 12:40:00.123456789 ", "infinity", "2150-03-01 (BC) 12:40:00"),
]
EXPRESSIONS = [columns.integer, columns.number, columns.time]

Parsed = list[dict[str, object]]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_field_is_parsed_the_same_alone_and_in_a_column(expression: Callable[[str], str]) -> None:
    alone = _parse(expression, *([field] for field in FIELDS))
    assert alone == _parse(expression, FIELDS)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_field_is_a_value_or_missing_or_unreadable(expression: Callable[[str], str]) -> None:
    missing = ("", " ", "NA", "N/A", "<NA>", "NaN", "nan", " nan ", "NULL", "null", None)
    assert not any(row["unreadable_x"] for row in _parse(expression, [*missing]))
    assert all(row["x"] is None for row in _parse(expression, [*missing]))
    for field, row in zip(FIELDS, _parse(expression, FIELDS), strict=True):
        known = row["x"] is not None or field in missing
        assert row["unreadable_x"] == (not known), field


def test_fields_are_parsed_to_their_values() -> None:
    def known(expression: Callable[[str], str]) -> dict[str, object]:
        rows = zip(FIELDS, _parse(expression, FIELDS), strict=True)
        return {field: row["x"] for field, row in rows if row["x"] is not None}

    whole = {"12": 12, "007": 7, "-3": -3, "+4": 4, "12.0": 12, "4.": 4, " 12 ": 12}
    big = {"9" * 15: 10**15 - 1, "9" * 18: 10**18 - 1}
    assert known(columns.integer) == whole | big
    fractions = {"12.5": 12.5, ".5": 0.5, "1e3": 1000.0, "9" * 18: 1e18, "9" * 19: 1e19}
    assert known(columns.number) == whole | big | fractions
    at = np.datetime64("2150-03-01T12:40:00", "us").item()
    times = {field: at for field in FIELDS if "2150-03-01" in field and "12:40" in field}
    for invalid in ("2150-03-01 12:40:60", "2150-03-01 12:40Z  ", "2150-03-01 (BC) 12:40:00"):
        del times[invalid]
    assert known(columns.time) == times


@pytest.mark.parametrize(
    ("field", "text"),
    [(" a b ", "a b"), ("None", "None"), ("", None), (" NA ", None), (None, None)],
)
def test_text_is_trimmed_or_missing(field: str | None, text: str | None) -> None:
    with open_engine() as connection:
        connection.register("csv", pa.table({"x": pa.array([field], pa.string())}))
        found = fetch(connection, f"SELECT {columns.text('x')} AS x FROM csv")
    assert found["x"].to_pylist() == [text]


def _parse(expression: Callable[[str], str], *tables: list[str | None]) -> Parsed:
    """Parse the fields of each table, which has one column, and return all rows."""
    rows: Parsed = []
    with open_engine() as connection:
        for fields in tables:
            connection.register("csv", pa.table({"x": pa.array(fields, pa.string())}))
            found = fetch(connection, f"SELECT {columns.parsed('x', expression)} FROM csv")
            rows += found.to_pylist()
    return rows
