"""Selection of the stores of a training run that names no experts."""

from pathlib import Path

import pytest

from enecg.errors import UserError
from flows.checks import check_sweep
from pipeline.datasets.registry import open_dataset
from pipeline.extract import extract
from pipeline.extraction.options import ExtractOptions
from pipeline.extraction.request import StoreSelection
from pipeline.training.store_selection import open_cache


@pytest.fixture(scope="module")
def root(synthetic_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stores of DLinear with the pooling `mean`, and of the measurements, which have none."""
    root = tmp_path_factory.mktemp("stores")
    options = ExtractOptions(
        weights=("random:0",), pooling=("dlinear@mean",), device="cpu", limit=2
    )
    extract(f"mimic-iv-ecg:{synthetic_dir}", root, ["dlinear", "measurements"], options=options)
    return root


def select(root: Path, dataset: Path, *pooling: str) -> list[str]:
    namespace = open_dataset(f"mimic-iv-ecg:{dataset}").namespace
    selection = StoreSelection(weights=("random:0",), pooling=pooling)
    return list(open_cache(root, namespace, selection).experts)


def test_experts_without_the_pooling_are_skipped(root: Path, synthetic_dir: Path):
    assert select(root, synthetic_dir, "mean") == ["dlinear"]
    assert select(root, synthetic_dir, "dlinear@mean") == ["dlinear", "measurements"]
    check_sweep(
        f"mimic-iv-ecg:{synthetic_dir}",
        str(root),
        weights=("random:0",),
        poolings=("mean",),
        out=root / "out",
    )


def test_pooling_requested_for_one_expert_is_not_ignored(root: Path, synthetic_dir: Path):
    with pytest.raises(UserError, match="measurements does not support pooling 'mean'"):
        select(root, synthetic_dir, "measurements@mean")


def test_unknown_pooling_is_named(root: Path, synthetic_dir: Path):
    with pytest.raises(UserError, match="with weights random:0 and pooling median"):
        select(root, synthetic_dir, "median")


def test_omitted_experts_are_listed_with_their_weights(root: Path, synthetic_dir: Path):
    namespace = open_dataset(f"mimic-iv-ecg:{synthetic_dir}").namespace
    pooling = ("dlinear@mean",)
    with_weights = StoreSelection(weights=("random:0",), pooling=pooling)
    assert open_cache(root, namespace, with_weights).omitted == ()
    without = open_cache(root, namespace, StoreSelection(pooling=pooling))
    assert (list(without.experts), without.omitted) == (["measurements"], ("dlinear (random:0)",))
    named = StoreSelection(experts=("measurements",))
    assert open_cache(root, namespace, named).omitted == ()
