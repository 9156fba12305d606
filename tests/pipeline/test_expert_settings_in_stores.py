"""Stores of the same weights with different expert settings."""

from pathlib import Path

import pytest

from enecg.errors import UserError
from flows.jobs.extract import estimate
from pipeline.datasets.registry import open_dataset
from pipeline.extract import extract
from pipeline.extraction.options import ExtractOptions
from pipeline.extraction.recompute import recompute
from pipeline.extraction.request import StoreSelection
from pipeline.training.store_selection import open_cache
from stores.opening import open_store

OTHER = ("dlinear.moving_avg=51",)


def test_settings_select_the_store(synthetic_dir: Path, tmp_path: Path):
    dataset = open_dataset(f"mimic-iv-ecg:{synthetic_dir}")

    def extract_with(settings: tuple[str, ...]) -> Path:
        options = ExtractOptions(
            weights=("random:0",), expert_settings=settings, device="cpu", limit=3
        )
        return extract(dataset, tmp_path, ["dlinear"], options=options).stores[0]

    def select(settings: tuple[str, ...]) -> object:
        selection = StoreSelection(("dlinear",), ("random:0",), expert_settings=settings)
        return open_cache(tmp_path, dataset.namespace, selection).experts["dlinear"].location

    default = extract_with(())
    assert select(()) == default
    with pytest.raises(UserError, match="no float16 embeddings of dlinear"):
        select(OTHER)
    changed = extract_with(OTHER)
    assert changed != default
    assert select(OTHER) == changed
    assert select(("dlinear.moving_avg=25",)) == default
    with pytest.raises(UserError, match=r"moving_avg = .*--expert-setting dlinear\.moving_avg="):
        select(())
    assert recompute(open_store(changed), dataset, 2, device="cpu").different == ()


def test_assumed_setting_is_reported_on_the_command_line(
    synthetic_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    import torch

    from enecg.experts.dlinear import DLinear

    torch.save(DLinear().state_dict(), tmp_path / "a.pth")
    estimate(
        f"mimic-iv-ecg:{synthetic_dir}",
        str(tmp_path / "store"),
        ["dlinear"],
        weights=[str(tmp_path / "a.pth")],
        limit=2,
    )
    assert "does not state moving_avg of dlinear; assumed 25" in capsys.readouterr().err
