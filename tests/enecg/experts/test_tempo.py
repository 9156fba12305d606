"""TEMPO, compared with the outputs of its public source for all forms of its checkpoints."""

import json
from collections.abc import Callable
from inspect import signature
from pathlib import Path

import broken_checkpoints
import numpy as np
import pytest
import torch
import weights_recipe
from conformance.expert_tests import ExpertTests

from enecg import experts
from enecg.errors import UserError
from enecg.experts.tempo import Tempo, TempoExpert

TOLERANCE = 5e-5
"""Absolute tolerance for states of order 1, after two layers of GPT-2 in float32."""

PEFT = "gpt2_trend.base_model.model."
PUBLISHED_CONFIG = {
    "model_id": "TEMPO_checkpoints/TEMPO-80M_v1",
    "gpt_layers": 2,
    "d_model": 48,
    "seq_len": 336,
    "patch_size": 16,
    "stride": 8,
    "num_nodes": 1,
    "is_gpt": 1,
    "prompt": 1,
    "pool": False,
    "n_heads": 4,
    "use_token": 0,
}


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    shapes = json.loads((weights_recipe.GOLDEN / "tempo.json").read_text())
    return weights_recipe.state_dict(shapes)


def load(tensors: dict[str, torch.Tensor], folder: Path) -> TempoExpert:
    path = folder / "TEMPO-80M_v1.pth"
    torch.save(tensors, path)
    expert = experts.load_expert("tempo", str(path))
    assert isinstance(expert, TempoExpert)
    return expert


@pytest.fixture(scope="module")
def expert(
    tensors: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory
) -> TempoExpert:
    return load(tensors, tmp_path_factory.mktemp("tempo"))


@pytest.fixture(scope="module")
def embedding(expert: TempoExpert) -> torch.Tensor:
    return expert.embed(weights_recipe.ecgs())


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(weights_recipe.GOLDEN / "tempo.npz") as file:
        return dict(file)


def test_embeddings_equal_those_of_the_source(
    embedding: torch.Tensor, expert: TempoExpert, golden: dict[str, np.ndarray]
) -> None:
    source = golden["embedding"][:, :-24]  # followed by each lead's mean and scale at 33.6 Hz
    assert weights_recipe.max_deviation(embedding[:, :-24], source) < TOLERANCE
    assert embedding.dtype == torch.float32
    assert embedding.shape[1] == expert.spec.embedding_size == 2 * 3 * 48 + 24


def test_stl_inputs_do_not_affect_the_states(
    expert: TempoExpert, golden: dict[str, np.ndarray]
) -> None:
    # The source computed the golden tokens with random STL inputs, and the golden embedding
    # without them. This implementation has no such inputs.
    states = expert.states(weights_recipe.ecgs())
    assert states.shape == (2, 12, 42, 3 * 48)
    # The golden file has the tokens of the trend, then of the season and of the residual.
    tokens = states.unflatten(3, (3, 48)).transpose(2, 3).flatten(2, 3)
    assert weights_recipe.max_deviation(tokens[:, ::11, ::2], golden["tokens"]) < TOLERANCE
    assert [*signature(expert.embed).parameters] == [*signature(expert.states).parameters]
    assert [*signature(expert.embed).parameters] == ["ecg"]


def test_embedding_is_the_pooled_states(expert: TempoExpert, embedding: torch.Tensor) -> None:
    season = expert.states(weights_recipe.ecgs())[..., 48:96]
    torch.testing.assert_close(embedding[:, 48:96], season.mean(2).mean(1))
    torch.testing.assert_close(embedding[:, 192:240], season.std(2, unbiased=False).mean(1))


def first_peft(key: str) -> str:
    return key.replace(".base_layer.", ".").replace(".default.", ".")


def peft_0_3(key: str) -> str:
    return key.replace(".base_layer.", ".")


def without_prefix(key: str) -> str:
    return key.replace(PEFT, "gpt2_trend.")


@pytest.mark.parametrize("rename", [first_peft, peft_0_3, without_prefix])
def test_all_key_forms_of_peft_give_the_same_embedding(
    rename: Callable[[str], str],
    tensors: dict[str, torch.Tensor],
    embedding: torch.Tensor,
    tmp_path: Path,
) -> None:
    renamed = {rename(key): tensor for key, tensor in tensors.items()}
    assert renamed.keys() != tensors.keys()
    other = load(renamed, tmp_path).embed(weights_recipe.ecgs())
    assert torch.equal(other, embedding)


def test_merged_lora_equals_unmerged_lora(
    expert: TempoExpert, tensors: dict[str, torch.Tensor]
) -> None:
    layer = PEFT + "h.1.attn.c_attn."
    states = torch.randn(5, 48, generator=torch.Generator().manual_seed(0))
    weight, bias, down, up = (
        tensors[layer + key]
        for key in (
            "base_layer.weight",
            "base_layer.bias",
            "lora_A.default.weight",
            "lora_B.default.weight",
        )
    )
    unmerged = states @ weight + bias + (states @ down.T) @ up.T
    merged = expert.model.gpt2_trend.h[1].attn.c_attn(states)
    torch.testing.assert_close(merged, unmerged)
    assert (merged - states @ weight - bias).abs().max() > 0.1


def test_lora_changes_the_embedding(
    tensors: dict[str, torch.Tensor], embedding: torch.Tensor, tmp_path: Path
) -> None:
    disabled = {key: 0 * tensor if "lora_B" in key else tensor for key, tensor in tensors.items()}
    other = load(disabled, tmp_path).embed(weights_recipe.ecgs())
    assert (other - embedding).abs().max() > 100 * TOLERANCE


def test_causal_masks_in_old_checkpoints_are_ignored(
    tensors: dict[str, torch.Tensor], embedding: torch.Tensor, tmp_path: Path
) -> None:
    masks = {
        f"{PEFT}h.{layer}.attn.{name}": mask
        for layer in range(2)
        for name, mask in (
            ("bias", torch.ones(1, 1, 8, 8, dtype=torch.bool).tril()),
            ("masked_bias", torch.tensor(-1e4)),
        )
    }
    other = load(tensors | masks, tmp_path).embed(weights_recipe.ecgs())
    assert torch.equal(other, embedding)


def test_incomplete_lora_is_rejected(tensors: dict[str, torch.Tensor], tmp_path: Path) -> None:
    half = {key: tensor for key, tensor in tensors.items() if "h.1.attn.c_attn.lora_B" not in key}
    with pytest.raises(UserError, match=r"1 unexpected keys \(.*h\.1\.attn\.c_attn\.lora_A"):
        load(half, tmp_path)


@pytest.mark.parametrize("shape", [(16, 47), (16,), ()])
def test_lora_of_the_wrong_shape_is_rejected(
    shape: tuple[int, ...], tensors: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    wrong = tensors | {PEFT + "h.0.attn.c_attn.lora_A.default.weight": torch.zeros(shape)}
    with pytest.raises(UserError, match=r"LoRA update of gpt2_trend\.h\.0\.attn\.c_attn.*not fit"):
        load(wrong, tmp_path)


def test_lora_of_rank_0_is_rejected(tensors: dict[str, torch.Tensor], tmp_path: Path) -> None:
    layer = PEFT + "h.0.attn.c_attn."
    empty = {
        layer + "lora_A.default.weight": torch.zeros(0, 48),
        layer + "lora_B.default.weight": torch.zeros(144, 0),
    }
    with pytest.raises(UserError, match=r"LoRA update of gpt2_trend\.h\.0\.attn\.c_attn.*not fit"):
        load(tensors | empty, tmp_path)


def test_matching_config_is_accepted(
    tensors: dict[str, torch.Tensor], embedding: torch.Tensor, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(PUBLISHED_CONFIG))
    assert torch.equal(load(tensors, tmp_path).embed(weights_recipe.ecgs()), embedding)


@pytest.mark.parametrize(
    ("key", "value"),
    [("gpt_layers", 6), ("d_model", 768), ("patch_size", 8), ("pool", True), ("prompt", 0)],
)
def test_config_of_another_model_is_rejected(
    key: str, value: int, tensors: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(PUBLISHED_CONFIG | {key: value}))
    with pytest.raises(UserError, match=rf"config\.json has {key} = {value}, but TEMPO-80M_v1"):
        load(tensors, tmp_path)


def test_invalid_config_is_rejected(tensors: dict[str, torch.Tensor], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"gpt_layers": ')
    with pytest.raises(UserError, match=r"config\.json is not valid JSON"):
        load(tensors, tmp_path)


@pytest.mark.parametrize("damage", broken_checkpoints.KINDS)
@pytest.mark.parametrize("key", ["gpt2_trend.wte.weight", "map_season.0.weight"])
def test_broken_checkpoint_is_rejected(
    damage: str, key: str, tensors: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    merged = {without_prefix(name): tensor for name, tensor in tensors.items()}
    broken_checkpoints.assert_rejected("tempo", damage, merged, key, tmp_path)


def test_large_layer_index_is_rejected(
    tensors: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_checkpoints.assert_index_rejected(
        *("tempo", Tempo, tensors, "gpt2_trend.h.1500.ln_1.weight", tmp_path, monkeypatch)
    )


def test_record_does_not_depend_on_its_batch(expert: TempoExpert, embedding: torch.Tensor) -> None:
    records = weights_recipe.ecgs()
    alone = torch.cat([expert.embed(record[None]) for record in records])
    torch.testing.assert_close(alone, embedding, rtol=0, atol=TOLERANCE)
    flipped = expert.embed(records.flip(0)).flip(0)
    torch.testing.assert_close(flipped, embedding, rtol=0, atol=TOLERANCE)
    # More series than GPT-2 processes in one forward pass.
    repeated = expert.embed(records.repeat(9, 1, 1))
    torch.testing.assert_close(repeated, embedding.repeat(9, 1), rtol=0, atol=TOLERANCE)


def test_expert_is_frozen_and_gradients_reach_every_lead(expert: TempoExpert) -> None:
    expert.train()
    assert not expert.model.gpt2_trend.drop.training
    assert not any(parameter.requires_grad for parameter in expert.parameters())
    ecg = weights_recipe.ecgs()[:1].requires_grad_()
    expert.embed(ecg).sum().backward()
    assert ecg.grad is not None
    assert ecg.grad.abs().amax(-1).min() > 0


def test_amplitude_is_appended_to_the_embedding(
    expert: TempoExpert, embedding: torch.Tensor
) -> None:
    doubled = expert.embed(2 * weights_recipe.ecgs())
    torch.testing.assert_close(doubled[:, -24:-12], 2 * embedding[:, -24:-12])
    torch.testing.assert_close(doubled[:, -12:], 2 * embedding[:, -12:], rtol=1e-3, atol=0)
    flat = expert.embed(torch.zeros(1, 12, 5000))
    assert flat.isfinite().all()


@pytest.mark.slow
def test_random_weights_have_the_published_architecture() -> None:
    expert = experts.load_expert("tempo", "random:0")
    assert isinstance(expert, TempoExpert)
    assert expert.spec.architecture == {"width": 768, "layers": 6, "vocabulary": 50257}
    assert sum(p.numel() for p in expert.model.gpt2_trend.parameters()) == 81_912_576
    size = expert.embed(weights_recipe.ecgs()[:1]).shape[1]
    assert expert.spec.embedding_size == size == 4632
    again = experts.load_expert("tempo", "random:0")
    other = experts.load_expert("tempo", "random:1")
    assert expert.spec == again.spec
    assert expert.spec.weights_sha256 != other.spec.weights_sha256


@pytest.fixture(scope="module")
def variants(tensors: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("tempo-variants")
    changed = tensors | {"map_trend.bias": tensors["map_trend.bias"] + 0.1}
    path = folder / "TEMPO-80M_v1.pth"
    load(changed, folder)
    return [
        experts.load_expert("tempo", str(path)),
        experts.load_expert("tempo", str(path), "segments"),
    ]


class TestTempoConforms(ExpertTests):
    half_tolerance = 0.1
