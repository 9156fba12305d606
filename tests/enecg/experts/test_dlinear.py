"""DLinear, compared with the outputs of Time-Series-Library."""

import json
from pathlib import Path

import broken_checkpoints
import numpy as np
import pytest
import torch
import weights_recipe
from conformance.expert_tests import ExpertTests

from enecg import experts
from enecg.errors import UserError
from enecg.experts.dlinear import DLinearExpert

TOLERANCE = 1e-5
"""Absolute tolerance for outputs of order 1, which are sums of 500 products in float32."""

KINDS = {"shared": "Linear_Trend.bias", "individual": "Linear_Trend.7.bias"}


def checkpoint(kind: str) -> dict[str, torch.Tensor]:
    shapes = json.loads((weights_recipe.GOLDEN / "dlinear.json").read_text())[kind]
    return weights_recipe.state_dict(shapes)


def load(tensors: dict[str, torch.Tensor], folder: Path) -> DLinearExpert:
    path = folder / "checkpoint.pth"
    torch.save(tensors, path)
    expert = experts.load_expert("dlinear", str(path))
    assert isinstance(expert, DLinearExpert)
    return expert


@pytest.mark.parametrize("kind", KINDS)
def test_embeddings_equal_those_of_the_source(kind: str, tmp_path: Path) -> None:
    expert = load(checkpoint(kind), tmp_path)
    embedding = expert.embed(weights_recipe.ecgs())
    with np.load(weights_recipe.GOLDEN / "dlinear.npz") as golden:
        # Per lead, the golden file has both branches, then mean and scale at 50 Hz.
        branches = golden[kind].reshape(2, 12, -1)[:, :, :-2].reshape(2, -1)
    assert weights_recipe.max_deviation(embedding[:, :-24], branches) < TOLERANCE
    assert embedding.shape[1] == expert.spec.embedding_size == 12 * (2 * 10 + 2)
    assert expert.spec.architecture == {
        "forecast_steps": 10,
        "individual": kind == "individual",
        "moving_average": 25,
    }


def test_individual_layer_affects_only_its_lead(tmp_path: Path) -> None:
    tensors = checkpoint("individual")
    records = weights_recipe.ecgs()
    before = load(tensors, tmp_path).embed(records)[:, :-24].reshape(2, 12, -1)
    tensors["Linear_Seasonal.7.weight"] = tensors["Linear_Seasonal.7.weight"] + 1e-2
    after = load(tensors, tmp_path).embed(records)[:, :-24].reshape(2, 12, -1)
    changed = (before != after).any(0).any(-1)
    assert changed.nonzero().flatten().tolist() == [7]


@pytest.mark.parametrize("kind", KINDS)
def test_record_does_not_depend_on_its_batch(kind: str, tmp_path: Path) -> None:
    expert = load(checkpoint(kind), tmp_path)
    records = weights_recipe.ecgs()
    together = expert.embed(records)
    alone = torch.cat([expert.embed(record[None]) for record in records])
    torch.testing.assert_close(alone, together, rtol=0, atol=TOLERANCE)
    flipped = expert.embed(records.flip(0)).flip(0)
    torch.testing.assert_close(flipped, together, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("damage", broken_checkpoints.KINDS)
@pytest.mark.parametrize("kind", KINDS)
def test_broken_checkpoint_is_rejected(kind: str, damage: str, tmp_path: Path) -> None:
    broken_checkpoints.assert_rejected("dlinear", damage, checkpoint(kind), KINDS[kind], tmp_path)


def test_checkpoint_for_seven_series_is_rejected(tmp_path: Path) -> None:
    tensors = {key: t for key, t in checkpoint("individual").items() if int(key.split(".")[1]) < 7}
    with pytest.raises(UserError, match="linear layers for 7 series"):
        load(tensors, tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_scalar_weights_are_rejected(kind: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not fit DLinear"):
        load({key: torch.tensor(0.0) for key in checkpoint(kind)}, tmp_path)


@pytest.fixture(scope="module")
def expert():
    return experts.load_expert("dlinear", "random:0")


@pytest.fixture(scope="module")
def variants():
    return [
        experts.load_expert("dlinear", "random:1"),
        experts.load_expert("dlinear", "random:0", "mean"),
    ]


class TestDLinearConforms(ExpertTests):
    pass
