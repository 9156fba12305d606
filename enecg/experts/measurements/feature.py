"""The description of a feature of the expert `measurements`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

Values = Mapping[str, np.ndarray]
"""Measured values by feature name, each of shape (record,). Where a value could not be measured, it
is NaN, or the feature's flag is 0."""


@dataclass(frozen=True)
class Feature:
    """A measurement.

    Attributes:
        name: Name, unique among the features.
        unit: Unit; `1` for counts, shares, ratios and flags.
        description: What is measured.
        default: Value where the feature cannot be measured, close to that of a normal ECG.
        flag: Name of the feature that indicates whether this one is measured (1) or has its default
            (0); empty if there is no such feature.
    """

    name: str
    unit: str
    description: str
    default: float = 0.0
    flag: str = ""


def impute(features: Sequence[Feature], values: Values) -> Float64[np.ndarray, "record feature"]:
    """Stack the values, with a feature's default where its flag is 0 or its value is NaN.

    Args:
        features: The features, in order.
        values: The values of exactly these features.

    Returns:
        The features of each record.

    Raises:
        ValueError: The names of features and values differ.
    """
    if values.keys() != {feature.name for feature in features}:
        different = values.keys() ^ {feature.name for feature in features}
        raise ValueError(f"Features and values differ: {', '.join(sorted(different))}.")
    columns = []
    for feature in features:
        column = np.asarray(values[feature.name], np.float64)
        if feature.flag:
            column = np.where(values[feature.flag] > 0, column, feature.default)
        columns.append(np.nan_to_num(column, nan=feature.default))
    return np.stack(columns, axis=1)
