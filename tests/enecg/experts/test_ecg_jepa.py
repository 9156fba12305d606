"""ECG-JEPA, compared with the outputs of its published code ("the source").

golden/README-ecgfounder-ecg-jepa.md describes the golden files.
"""

import json
from pathlib import Path
from typing import Any

import broken_checkpoints
import numpy as np
import pytest
import torch
import weights_recipe
from conformance.expert_tests import ExpertTests
from torch import Tensor

from enecg.errors import UserError
from enecg.experts import get_definition, load_expert
from enecg.experts.ecg_jepa import JEPA_LEADS, Architecture, EcgJepa, EcgJepaExpert, _positions
from enecg.signal import fourier_resample

TOLERANCE = 1e-5
"""Tolerance relative to the largest value."""

Tensors = dict[str, Tensor]


def shapes(kind: str) -> dict[str, tuple[int, ...]]:
    content = json.loads((weights_recipe.GOLDEN / "ecg_jepa.json").read_text())
    return {name: tuple(shape) for name, shape in content[kind].items()}


def load(state: Any, folder: Path, pooling: str = "default") -> EcgJepaExpert:
    path = folder / "multiblock_epoch100.pth"
    torch.save(state, path)
    expert = load_expert("ecg-jepa", str(path), pooling)
    assert isinstance(expert, EcgJepaExpert)
    return expert


@pytest.fixture(scope="module")
def tensors() -> Tensors:
    return weights_recipe.scaled_state_dict(shapes("small"))


@pytest.fixture(scope="module")
def expert(tensors: Tensors, tmp_path_factory: pytest.TempPathFactory) -> EcgJepaExpert:
    return load({"encoder": tensors, "epoch": 99}, tmp_path_factory.mktemp("ecg_jepa"))


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(weights_recipe.GOLDEN / "ecg_jepa.npz") as file:
        return dict(file)


def assert_equal(computed: Tensor, source: np.ndarray) -> None:
    deviation = weights_recipe.max_deviation(computed, source)
    assert deviation < TOLERANCE * np.abs(source).max()


def test_resampled_signals_equal_those_of_the_source(golden: dict[str, np.ndarray]) -> None:
    independent = weights_recipe.ecgs()[:, [0, 1, 6, 7, 8, 9, 10, 11]]
    assert_equal(fourier_resample(independent, 2500)[:, :, ::23], golden["resampled"])


def test_embeddings_equal_those_of_the_source(
    expert: EcgJepaExpert, golden: dict[str, np.ndarray]
) -> None:
    records = weights_recipe.ecgs()
    states = expert.states(records)
    assert states.shape == (2, 8, 50, 96)
    assert_equal(states.flatten(1, 2)[:, ::19], golden["small_tokens"])
    embedding = expert.embed(records)
    assert_equal(embedding[:, :-24], golden["small_representation"])
    assert embedding.shape[1] == expert.spec.embedding_size == 96 + 24
    assert expert.spec.weights == "checkpoint"
    assert expert.spec.architecture == {
        "size": 96,
        "layers": 2,
        "feed_forward_size": 144,
        "head_size": 48,
    }


@pytest.mark.slow
def test_embeddings_of_the_published_size_equal_those_of_the_source(
    tmp_path: Path, golden: dict[str, np.ndarray]
) -> None:
    published = load(
        {"encoder": weights_recipe.scaled_state_dict(shapes("published")), "epoch": 99}, tmp_path
    )
    assert published.model.architecture == Architecture()
    embedding = published.embed(weights_recipe.ecgs())
    assert_equal(embedding[:, :-24], golden["published_representation"])


def test_keys_are_those_of_the_published_encoder() -> None:
    with torch.device("meta"):
        own = EcgJepa(Architecture()).state_dict()
    assert {key: tuple(tensor.shape) for key, tensor in own.items()} == shapes("published")
    assert sum(tensor.numel() for tensor in own.values()) == 85_374_720


def test_initial_positions_equal_those_of_the_source(
    golden: dict[str, np.ndarray],
) -> None:
    positions = torch.from_numpy(_positions(96)).float()
    assert_equal(positions[::7], golden["small_positions"])


def test_state_dict_alone_loads(expert: EcgJepaExpert, tensors: Tensors, tmp_path: Path) -> None:
    records = weights_recipe.ecgs()
    assert torch.equal(load(tensors, tmp_path).embed(records), expert.embed(records))


def test_encoder_is_read_from_a_file_with_other_state_dicts(
    expert: EcgJepaExpert, tensors: Tensors, tmp_path: Path
) -> None:
    both = {"encoder": tensors, "model": {"other": torch.zeros(1)}, "epoch": 99}
    records = weights_recipe.ecgs()
    assert torch.equal(load(both, tmp_path).embed(records), expert.embed(records))


@pytest.mark.parametrize("damage", broken_checkpoints.KINDS)
@pytest.mark.parametrize("key", ["pos_embed", "encoder_blocks.blocks.1.attn.qkv.weight"])
def test_broken_checkpoint_is_rejected(
    damage: str, key: str, tensors: Tensors, tmp_path: Path
) -> None:
    broken_checkpoints.assert_rejected("ecg-jepa", damage, tensors, key, tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"encoder_blocks.blocks.0.mlp.fc1.weight": torch.ones(144, 100)},
            "100 features, which are not a multiple of 48",
        ),
        # A model of these sizes would take terabytes.
        (
            {"encoder_blocks.blocks.0.mlp.fc1.weight": torch.ones(1, 48 * 10**5)},
            "shape mismatches",
        ),
        ({"encoder_blocks.blocks.9.mlp.fc1.weight": torch.ones(144, 96)}, "11 missing keys"),
        ({"encoder_blocks.blocks.0.attn.qkv.bias": torch.ones(288)}, "1 unexpected keys"),
    ],
)
def test_checkpoint_of_another_model_is_rejected(
    changes: Tensors, message: str, tensors: Tensors, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        load({"encoder": tensors | changes}, tmp_path)


def test_published_weights_must_be_downloaded_manually(tmp_path: Path, tensors: Tensors) -> None:
    with pytest.raises(
        UserError,
        match=r"not on the hub; download multiblock_epoch100\.pth from https://github\.com/"
        r"sehunfromdaegu/ECG_JEPA and pass the file with --weights ecg-jepa@PATH",
    ):
        load_expert("ecg-jepa")
    load({"encoder": tensors}, tmp_path)
    assert get_definition("ecg-jepa").find_weights(str(tmp_path)).path == (
        tmp_path / "multiblock_epoch100.pth"
    )


def test_dependent_leads_change_only_the_appended_mean_and_scale(expert: EcgJepaExpert) -> None:
    records = weights_recipe.ecgs()
    changed = records.clone()
    changed[:, 2:6] = 0
    assert torch.equal(expert.embed(changed)[:, :-24], expert.embed(records)[:, :-24])
    assert [expert.spec.preprocessing.leads, len(JEPA_LEADS)] == [JEPA_LEADS, 8]


def test_patch_attends_only_to_its_lead_and_its_time(expert: EcgJepaExpert) -> None:
    mask = expert.model.mask.unflatten(0, (8, 50)).unflatten(2, (8, 50))
    attended = mask[3, 20]
    assert attended[3].all()
    assert attended[:, 20].all()
    assert attended.sum() == 50 + 7


@pytest.fixture(scope="module")
def variants(tensors: Tensors, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("ecg-jepa-variants")
    changed = tensors | {"W_P.bias": tensors["W_P.bias"] + 0.1}
    return [load(changed, folder), load(changed, folder, "mean-std")]


class TestEcgJepaConforms(ExpertTests):
    half_tolerance = 0.1
