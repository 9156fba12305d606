"""Feature names are optional coordinates of a store."""

from pathlib import Path

import numpy as np
import pytest
import xarray
import zarr
from conformance.store_tests import LAYOUT, PROVENANCE, random_rows, whole_status, writable_store

from stores.copying import copy_store
from stores.creation import open_for_writing
from stores.errors import DamagedStore
from stores.feature_names import FeatureNames
from stores.locate import locate
from stores.opening import open_store
from stores.verify import verify

NAMES = FeatureNames(
    tuple(f"größe_{number}" for number in range(8)), ("mV", "ms", "1", "µV", "deg", "1", "1", "dB")
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Path of a store whose features have names, with one shard of rows."""
    options = LAYOUT | {"feature_names": NAMES}
    with open_for_writing(tmp_path, PROVENANCE, record_id=np.arange(4), **options) as store:
        store.write_shard(0, random_rows(0), whole_status())
        return Path(str(store.location))


def test_written_names_are_read_back(path: Path):
    store = open_store(path)
    assert store.feature_names == NAMES
    assert verify(store).intact


def test_xarray_alone_selects_features_by_name(path: Path):
    dataset = xarray.open_zarr(path, consolidated=False)
    assert dataset.feature.values.tolist() == list(NAMES.names)
    assert dataset.feature_unit.values.tolist() == list(NAMES.units)
    assert "feature_unit" in dataset.embedding.coords
    chosen = dataset.embedding.sel(feature="größe_3").values
    np.testing.assert_array_equal(chosen, random_rows(0)[:, 3])


def test_to_xarray_has_names_and_units(path: Path):
    dataset = open_store(path).to_xarray()
    assert dataset.feature.values.tolist() == list(NAMES.names)
    assert dataset.embedding.sel(feature="größe_3").feature_unit.item() == "µV"


def test_growth_and_copies_keep_the_names(path: Path, tmp_path: Path):
    with open_for_writing(tmp_path, PROVENANCE, record_id=np.arange(9), **LAYOUT) as grown:
        assert grown.feature_names == NAMES
    copy = tmp_path / "copy"
    copy.mkdir()
    result = copy_store(open_store(path), locate(copy), reference="leads")
    assert open_store(result.location).feature_names == NAMES


def test_store_without_feature_names_is_readable(tmp_path: Path):
    with writable_store(tmp_path) as store:
        assert store.feature_names is None
    assert "feature" not in open_store(store.location).to_xarray().coords
    assert not (Path(str(store.location)) / "feature").exists()


def test_foreign_array_named_feature_is_ignored(tmp_path: Path):
    with writable_store(tmp_path) as store:
        pass
    group = zarr.open_group(str(store.location))
    group.create_array("feature", data=np.arange(8))
    assert open_store(store.location).feature_names is None


def test_damaged_names_are_reported(path: Path):
    chunk = path / "feature" / "c" / "0"
    value = bytearray(chunk.read_bytes())
    value[10] ^= 1
    chunk.write_bytes(value)
    with pytest.raises(DamagedStore, match="names of its features do not match their checksum"):
        _ = open_store(path).feature_names


def test_duplicate_names_or_missing_units_raise():
    with pytest.raises(ValueError, match="different names"):
        FeatureNames(("a", "a"), ("1", "1"))
    with pytest.raises(ValueError, match="one unit"):
        FeatureNames(("a", "b"), ("1",))
