"""Fields of MIMIC's tables are parsed independently of the others in their block."""

import numpy as np
import pyarrow as pa
import pytest

from pipeline.datasets.mimic_tables.fields import (
    ParsedColumn,
    parse_integers,
    parse_numbers,
    parse_times,
)

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
    ),
    *("9" * 15, "9" * 18, "9" * 19, "", " 12 ", "twelve", "\u0661", "1\n2"),
    *("2150-03-01 12:40:00", "2150-03-01T12:40:00", "2150-03-01 12:40", "2150-03-01 12:40:00.25"),
    *("2150-02-30 12:40:00", "2150-03-01 24:00:00", "2150-03-01", "0150-03-01 12:40:00"),
    *("2150-3-1   12:40:00", "2150-03-01 12:40:60", "2150-03-01 12:40Z  ", "01/03/2150 12:40:00"),
]


@pytest.mark.parametrize("parse", [parse_integers, parse_numbers, parse_times])
def test_field_alone_parses_as_in_block(parse: object) -> None:
    together = _read(parse, [*FIELDS, None])
    for place, field in enumerate(FIELDS):
        alone = _read(parse, [field])
        assert alone.known[0] == together.known[place], field
        if alone.known[0]:
            assert alone.values[0] == together.values[place], field
    assert together.unreadable == sum(_read(parse, [field]).unreadable for field in FIELDS)


def test_parsed_values() -> None:
    def known(parsed: ParsedColumn) -> dict[str, object]:
        return {
            field: parsed.values[place].item()
            for place, field in enumerate(FIELDS)
            if parsed.known[place]
        }

    whole = {"12": 12, "007": 7, "-3": -3, "+4": 4, "12.0": 12, "4.": 4, " 12 ": 12}
    big = {"9" * 15: 10**15 - 1, "9" * 18: 10**18 - 1}
    assert known(_read(parse_integers, FIELDS)) == whole | big
    fractions = {"12.5": 12.5, ".5": 0.5, "1e3": 1000.0, "9" * 18: 1e18, "9" * 19: 1e19}
    assert known(_read(parse_numbers, FIELDS)) == whole | big | fractions
    at = int(np.datetime64("2150-03-01T12:40:00", "s").astype(int))
    times = {field: at for field in FIELDS if field.startswith("2150-03-01") and "12:40" in field}
    for invalid in ("2150-03-01 12:40:60", "2150-03-01 12:40Z  "):
        del times[invalid]
    assert known(_read(parse_times, FIELDS)) == times


def _read(parse: object, fields: list[str | None]) -> ParsedColumn:
    encoded = [None if field is None else field.encode() for field in fields]
    parsed = parse(pa.array(encoded, pa.binary()))  # type: ignore[operator]
    assert isinstance(parsed, ParsedColumn)
    return parsed
