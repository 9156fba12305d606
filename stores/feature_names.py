"""Names and units of a store's features, as coordinate arrays that xarray shows.

They are optional: the features of most experts have no names.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, VLenUTF8Codec

NAME, UNIT = "feature", "feature_unit"
"""Names of the arrays. xarray makes the first one the index of the dimension `feature`."""

_CODECS = (VLenUTF8Codec, Crc32cCodec)


@dataclass(frozen=True)
class FeatureNames:
    """Names and units of the features of an embedding.

    Attributes:
        names: Name of each feature, unique.
        units: Unit of each feature; `1` for numbers without a unit.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.names) != len(self.units) or len(set(self.names)) != len(self.names):
            raise ValueError("Features must have different names, and one unit for each name.")


def write_feature_names(group: zarr.Group, features: FeatureNames) -> None:
    """Add the arrays of names and units to the group of a new store.

    Args:
        group: Zarr group of the store.
        features: Names and units.
    """
    for array, values, title in (
        (NAME, features.names, "name of the feature"),
        (UNIT, features.units, "unit of the feature"),
    ):
        created = group.create_array(
            array,
            shape=(len(values),),
            dtype="string",
            chunks=(len(values),),
            compressors=[Crc32cCodec()],
            fill_value="",
            dimension_names=["feature"],
            attributes={"long_name": title},
        )
        created[:] = np.array(values, object)


def read_feature_names(group: zarr.Group, features: int) -> FeatureNames | None:
    """Read the names and units of a store's features.

    Args:
        group: Zarr group of the store.
        features: Number of features.

    Returns:
        The names and units; None if the store has none, or if their arrays are not valid.

    Raises:
        ValueError: A chunk does not match its checksum.
    """
    texts = [_read_text(group.get(name), features) for name in (NAME, UNIT)]
    names, units = texts
    if names is None or units is None or len(set(names)) != len(names):
        return None
    return FeatureNames(names, units)


def _read_text(array: Any, features: int) -> tuple[str, ...] | None:
    if not isinstance(array, zarr.Array) or not array.shape == array.chunks == (features,):
        return None
    # Reject compression, because a small compressed file could fill the memory.
    codecs = getattr(array.metadata, "codecs", (None,))
    if not all(isinstance(codec, _CODECS) for codec in codecs):
        return None
    values: Sequence[Any] = np.asarray(array[:]).tolist()
    return tuple(values) if all(isinstance(value, str) for value in values) else None
