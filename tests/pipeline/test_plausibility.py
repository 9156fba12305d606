"""Plausible ranges of known columns, and suspicious values of other columns."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from pipeline.datasets.plausibility import PLAUSIBLE, find_suspicious_values, remove_implausible

CODES = (29999, 65535, 32767, -32768, -9999, 99999)
"""Values that ECG machines and tables use for missing measurements."""


@pytest.mark.parametrize("name", PLAUSIBLE)
def test_codes_and_values_outside_the_range_are_removed_and_counted(name: str):
    low, high = PLAUSIBLE[name]
    column = pd.Series([*CODES, low - 1, high + 1, low, (low + high) / 2, np.nan], dtype=float)
    found = remove_implausible(name, column, "mine.csv", counts := Counter())
    assert found.notna().tolist() == [False] * 8 + [True, True, False]
    description = f"mine.csv: values of {name} outside {low:g} to {high:g}, such as '29999' of "
    assert counts[f"{description}record 0, treated as missing"] == 8


def test_zero_is_plausible_for_an_axis_but_not_for_an_rr_interval():
    zero = pd.Series([0.0])
    assert remove_implausible("rr_interval", zero, "mine.csv", Counter()).isna().all()
    assert remove_implausible("p_axis", zero, "mine.csv", Counter()).tolist() == [0]


def test_ages_over_89_are_set_to_90_and_counted():
    # PTB-XL uses 300 for ages over 89.
    ages = pd.Series([0, 89, 90, 91, 120, 300, 999, -1, np.nan], dtype=float)
    found = remove_implausible("age", ages, "mine.csv", counts := Counter())
    np.testing.assert_array_equal(found, [0, 89, *[90] * 4, *[np.nan] * 3])
    implausible = "mine.csv: values of age outside 0 to 120, such as '999' of record 6"
    assert dict(counts) == {
        f"{implausible}, treated as missing": 2,
        "mine.csv: ages over 89, set to 90": 4,
    }


def test_unknown_column_is_kept():
    column = pd.Series([1.0, 29999.0])
    assert remove_implausible("lvef", column, "mine.csv", counts := Counter()) is column
    assert not counts


@pytest.mark.parametrize(
    ("codes", "times"), [((29999,), 1), ((-32768, 32767), 40), ((-999,), 500), ((9999, 99999), 3)]
)
def test_values_far_outside_the_rest_are_found(codes: tuple[int, ...], times: int):
    values = np.random.default_rng(0).normal(60, 15, 300)
    column = pd.Series([*values, *np.repeat(codes, times), np.nan], dtype=float)
    assert find_suspicious_values(column) == dict.fromkeys(sorted(map(float, codes)), times)
    grades = pd.Series([*np.arange(200) % 5, *np.repeat(codes, times)], dtype=float)
    assert find_suspicious_values(grades) == dict.fromkeys(sorted(map(float, codes)), times)


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(0).lognormal(0, 1, 2000),
        np.random.default_rng(0).standard_cauchy(300).clip(-50, 50),
        np.arange(100),
        np.repeat([0, 1, 100], 50),
        np.repeat(7, 100),
        np.empty(0),
    ],
    ids=["lognormal", "heavy-tailed", "uniform", "three", "one", "none"],
)
def test_ordinary_columns_have_no_suspicious_values(values: np.ndarray):
    assert find_suspicious_values(pd.Series(values, dtype=float)) == {}
