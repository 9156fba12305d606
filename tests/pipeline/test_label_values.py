"""Labels from users' columns: values, reasons for absence, and counts."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from pipeline.datasets.label_values import parse_label, parse_table

COUNTED = "mine.csv: values of "


def parse(name: str, values: list[object]) -> tuple[list[object], list[str | None], dict[str, int]]:
    """Parse a column of records a, b, c, ...; return its values, reasons for absence and counts."""
    column = pd.Series(values, [chr(ord("a") + row) for row in range(len(values))])
    counts: Counter[str] = Counter()
    labels = parse_label(name, column, "mine.csv", counts)
    assert labels.index.tolist() == column.index.tolist()
    reasons = [None if pd.isna(reason) else reason for reason in labels[f"{name}_absent"]]
    return labels[name].tolist(), reasons, dict(counts)


AGES = [56, 300, 999, -1, np.nan, 89, 90, 91, 120, 121]
EXPECTED_AGES = [56, 90, *[np.nan] * 3, 89, 90, 90, 90, np.nan]
REASONS_OF_AGES = [
    *(None, None, "implausible", "implausible", "not_stated"),
    *(None, None, None, None, "implausible"),
]


@pytest.mark.parametrize("as_text", [False, True])
def test_ages_over_89_are_90_and_others_outside_0_to_120_are_absent(as_text: bool):
    column = [str(age) for age in AGES] if as_text else AGES
    values, reasons, counts = parse("age", column)
    np.testing.assert_array_equal(values, EXPECTED_AGES)
    assert reasons == REASONS_OF_AGES
    assert counts == {
        "mine.csv: ages over 89, set to 90": 4,
        f"{COUNTED}age outside 0 to 120, such as '999' of record c, treated as missing": 3,
    }


@pytest.mark.parametrize("word", [">89", "> 89", ">=90", "≥90", "≥ 90", "90+", " 90 + "])
def test_words_for_ages_over_89_are_read_as_90(word: str):
    values, reasons, counts = parse("age", ["40", word])
    assert (values, reasons) == ([40, 90], [None, None])
    assert counts == {"mine.csv: ages over 89, set to 90": 1}


@pytest.mark.parametrize("word", ["abc", "56,5", "fifty", "Unknown", "0x20", "inf", ">60", "1_0"])
@pytest.mark.parametrize("name", ["age", "rr_interval"])
def test_one_unreadable_number_is_counted_with_its_record(name: str, word: str):
    number = {"age": "56.5", "rr_interval": "800"}[name]
    values, reasons, counts = parse(name, [number, word, "NaN", "", None])
    np.testing.assert_array_equal(values, [float(number), *[np.nan] * 4])
    assert reasons == [None, "unreadable", *["not_stated"] * 3]
    description = f"{name} that are not numbers, such as {word!r} of record b, treated as missing"
    assert counts == {COUNTED + description: 1}


def test_rr_intervals_in_seconds_are_reported_as_such():
    values, reasons, counts = parse("rr_interval", [0.8, 0.3, 2.5, 800, 29999, 0, 5])
    np.testing.assert_array_equal(values, [*[np.nan] * 3, 800, *[np.nan] * 3])
    assert reasons == [*["implausible"] * 3, None, *["implausible"] * 3]
    assert counts == {
        f"{COUNTED}rr_interval from 0.2 to 3, which look like seconds instead of ms, such as '0.8' "
        "of record a, treated as missing": 3,
        f"{COUNTED}rr_interval outside 200 to 3000, such as '29999' of record e, treated as "
        "missing": 3,
    }


@pytest.mark.parametrize("word", ["Unknown", "unknown", "U", "man", "x", "2", "0.5", "M/F"])
def test_unknown_words_of_sex_are_absent_and_counted(word: str):
    values, reasons, counts = parse("sex", ["M", word, "", "F", None, "NaN"])
    np.testing.assert_array_equal(values, [1, np.nan, np.nan, 0, np.nan, np.nan])
    assert reasons == [None, "unknown_word", "not_stated", None, "not_stated", "not_stated"]
    description = (
        f"sex other than 0, 1, false, true, female, male, f and m, such as {word!r} of record b"
    )
    assert counts == {f"{COUNTED}{description}, treated as missing": 1}


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("sex", ["M", "F"]),
        ("sex", ["male", "Female"]),
        ("sex", [" MALE", "f "]),
        ("sex", [1, 0]),
        ("sex", [1.0, 0.0]),
        ("sex", ["1.0", "0."]),
        ("sex", [True, False]),
        ("sex", ["True", "false"]),
        ("potassium", ["abnormal", "Normal"]),
        ("potassium", ["1", "0"]),
    ],
)
def test_known_words_are_read_as_1_or_0(name: str, column: list[object]):
    assert parse(name, column) == ([1, 0], [None, None], {})


def test_unknown_words_of_potassium_are_absent():
    values, reasons, counts = parse("potassium", ["normal", "high", "abnormal"])
    np.testing.assert_array_equal(values, [0, np.nan, 1])
    assert reasons == [None, "unknown_word", None]
    assert list(counts.values()) == [1]


def test_extra_columns_of_a_table_are_kept_and_ids_and_reasons_are_not():
    table = pd.DataFrame(
        {"subject_id": ["1"], "age": ["x"], "age_absent": ["mine"], "ward": ["Unknown"]}, ["a"]
    )
    found = pd.concat(parse_table(table, "mine.csv", Counter()), axis=1)
    assert list(found) == ["age", "age_absent", "ward"]
    assert found.loc["a", ["age_absent", "ward"]].tolist() == ["unreadable", "Unknown"]


def test_bad_cells_of_other_quantities_are_counted():
    counts: Counter[str] = Counter()
    column = pd.Series(["4.1", "abc", "999999"], list("abc"))
    found = parse_label("potassium_mmol_l", column, "mine.csv", counts)
    np.testing.assert_array_equal(found["potassium_mmol_l"], [4.1, np.nan, np.nan])
    assert list(found) == ["potassium_mmol_l"]
    assert sorted(counts.values()) == [1, 1]
