"""TimesNet, compared with the outputs of Time-Series-Library for one record per batch."""

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
from enecg.experts.timesnet import TimesNet, TimesNetExpert
from enecg.signal import resample, standardize

TOLERANCE = 1e-4
"""Absolute tolerance for states of order 1, after two blocks in float32."""

CHANNELS = (1, 12)


def checkpoint(channels: int) -> dict[str, torch.Tensor]:
    shapes = json.loads((weights_recipe.GOLDEN / "timesnet.json").read_text())[str(channels)]
    size = shapes["layer_norm.weight"][0]
    angle = np.arange(5000)[:, None] / 10000 ** (np.arange(0, size, 2) / size)
    positions = np.stack([np.sin(angle), np.cos(angle)], axis=-1).reshape(1, 5000, size)
    pe = torch.from_numpy(positions.astype(np.float32))
    return weights_recipe.state_dict(shapes) | {"enc_embedding.position_embedding.pe": pe}


def load(
    tensors: dict[str, torch.Tensor], folder: Path, pooling: str = "per-series-mean-std"
) -> TimesNetExpert:
    path = folder / "checkpoint.pth"
    torch.save(tensors, path)
    # The golden files were written with top_k=3.
    expert = experts.load_expert("timesnet", str(path), pooling, {"top_k": 3})
    assert isinstance(expert, TimesNetExpert)
    return expert


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(weights_recipe.GOLDEN / "timesnet.npz") as file:
        return dict(file)


@pytest.mark.parametrize("channels", CHANNELS)
def test_states_and_embeddings_equal_those_of_the_source(
    channels: int, golden: dict[str, np.ndarray], tmp_path: Path
) -> None:
    expert = load(checkpoint(channels), tmp_path)
    records = weights_recipe.ecgs()
    states = expert.model(standardize(resample(records, 500)))[:, ::7]
    assert weights_recipe.max_deviation(states, golden[f"{channels}_states"]) < TOLERANCE
    embedding = expert.embed(records)
    # Per series, the golden file has the pooled states, then its leads' mean and scale at 50 Hz.
    source = golden[f"{channels}_embedding"].reshape(len(records), 12 // channels, -1)
    pooled = source[:, :, : -2 * channels].reshape(len(records), -1)
    assert weights_recipe.max_deviation(embedding[:, :-24], pooled) < TOLERANCE
    assert embedding.shape[1] == expert.spec.embedding_size
    assert expert.spec.architecture == {
        "channels": channels,
        "model_size": 8,
        "feed_forward_size": 6,
        "layers": 2,
        "kernels": 3,
        "periods": 3,
    }


@pytest.mark.parametrize("channels", CHANNELS)
def test_records_with_different_rates_keep_their_own_periods(channels: int, tmp_path: Path) -> None:
    expert = load(checkpoint(channels), tmp_path)
    records = torch.stack(
        [weights_recipe.ecg(rate, seed) for seed, rate in enumerate((45, 61, 118, 61, 150))]
    )
    together = expert.embed(records)
    alone = torch.cat([expert.embed(record[None]) for record in records])
    torch.testing.assert_close(together, alone, rtol=0, atol=TOLERANCE)
    flipped = expert.embed(records.flip(0)).flip(0)
    torch.testing.assert_close(together, flipped, rtol=0, atol=TOLERANCE)
    # The mean spectrum of the batch, as published, would select other periods.
    block = expert.model.model[0]
    leads = standardize(resample(records, 500))
    states = expert.model.enc_embedding(leads.reshape(-1, channels, 500))
    states = states.reshape(5, 12 // channels, *states.shape[1:])
    as_one = block(states.reshape(1, -1, *states.shape[2:])).reshape(states.shape)
    assert (as_one - block(states)).abs().max() > 100 * TOLERANCE


@pytest.mark.parametrize("damage", broken_checkpoints.KINDS)
@pytest.mark.parametrize("channels", CHANNELS)
def test_broken_checkpoint_is_rejected(damage: str, channels: int, tmp_path: Path) -> None:
    broken_checkpoints.assert_rejected(
        "timesnet", damage, checkpoint(channels), "model.0.conv.0.kernels.1.bias", tmp_path
    )


def test_large_layer_index_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken_checkpoints.assert_index_rejected(
        *("timesnet", TimesNet, checkpoint(1), "model.1500.conv.0.kernels.1.weight"),
        *(tmp_path, monkeypatch),
    )


def test_model_size_may_be_odd() -> None:
    states = TimesNet(model_size=33)(torch.randn(1, 1, 500))
    assert states.shape == (1, 1, 500, 33)


def test_checkpoint_with_three_channels_is_rejected(tmp_path: Path) -> None:
    key = "enc_embedding.value_embedding.tokenConv.weight"
    with pytest.raises(UserError, match="3 input channels are not"):
        load(checkpoint(12) | {key: torch.zeros(8, 3, 3)}, tmp_path)


def test_scalar_kernel_is_rejected(tmp_path: Path) -> None:
    key = "model.0.conv.0.kernels.1.weight"
    with pytest.raises(UserError, match="shape mismatches"):
        load(checkpoint(12) | {key: torch.tensor(0.0)}, tmp_path)


@pytest.fixture(scope="module")
def expert(tmp_path_factory: pytest.TempPathFactory) -> TimesNetExpert:
    """An expert that is much smaller than the default one."""
    return load(checkpoint(1), tmp_path_factory.mktemp("timesnet"))


@pytest.fixture(scope="module")
def variants(tmp_path_factory: pytest.TempPathFactory) -> list[TimesNetExpert]:
    folder = tmp_path_factory.mktemp("variants")
    return [
        load(checkpoint(12), folder),
        *(load(checkpoint(1), folder, pooling) for pooling in ("mean", "per-series")),
    ]


class TestTimesNetConforms(ExpertTests):
    count = 4
