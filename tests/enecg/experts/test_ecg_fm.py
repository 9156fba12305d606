"""ECG-FM, compared with the outputs of its source for all forms of its checkpoints.

golden/README.md describes the golden files.
"""

import json
import pickle
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conformance.expert_tests import ExpertTests
from safetensors.torch import save_file
from torch import Tensor

from enecg.ecg_format import LEADS
from enecg.errors import UserError
from enecg.experts import get_definition, list_experts, load_expert
from enecg.experts.ecg_fm import EcgFm, EcgFmExpert, standardize_leads
from enecg.experts.ecg_fm_checkpoint import Architecture, parse_convolutions, published_name

GOLDEN = Path(__file__).parent / "golden"
TOLERANCE = 1e-5
"""Tolerance relative to the largest value; the order of float32 sums changes results by 1e-6."""

State = dict[str, Any]


def golden(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((GOLDEN / f"ecg_fm_{name}.json").read_text())
    return content


def to_tensor(entry: dict[str, Any]) -> Tensor:
    return torch.tensor(entry["values"]).view(entry["shape"])


def weight(name: str, shape: tuple[int, ...]) -> Tensor:
    """Return a random parameter, seeded by its name and large enough to affect the outputs."""
    draw = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    if name.endswith("weight_g"):
        value = 1 + np.abs(draw)
    elif len(shape) < 2:
        value = (1 if name.endswith("weight") else 0) + 0.1 * draw
    else:
        value = draw / np.sqrt(np.prod(shape[1:]))
        if "out_proj" in name or "fc2" in name:
            value = value / 4  # otherwise the states of deep layers hardly depend on the input
    return torch.from_numpy(value.astype(np.float32))


def records(count: int) -> Tensor:
    """Return random walks in mV.

    The two halves of a record have different means. One lead of the second record is constant.
    """
    draw = np.random.RandomState(0).standard_normal((count, 12, 5000))
    ecg = (0.02 * np.cumsum(draw, axis=2)).astype(np.float32)
    if count > 1:
        ecg[1, 3] = np.float32(0.3)
    return torch.from_numpy(ecg)


def checkpoint(name: str = "small") -> State:
    """Return a checkpoint as fairseq-signals saves it, without optimizer state."""
    source = golden(name)
    return {
        "args": None,
        "cfg": {
            "model": source["cfg_model"],
            "task": {"_name": "ecg_pretraining", "sample_rate": None},
        },
        "model": {key: weight(key, tuple(shape)) for key, shape in source["shapes"].items()},
        "criterion": None,
        "optimizer_history": [{"criterion_name": "Wav2Vec2WithCMSCCriterion", "num_updates": 1}],
        "task_state": {},
        "extra_state": {"val_loss": None, "previous_training_time": 1.0},
    }


def with_parametrizations(state: State) -> State:
    """Rename weight norm parameters to the names of newer torch versions."""
    ends = {"weight_g": "original0", "weight_v": "original1"}
    state["model"] = {
        f"{stem}.parametrizations.weight.{ends[end]}" if end in ends else key: tensor
        for key, tensor in state["model"].items()
        for stem, _, end in [key.rpartition(".")]
    }
    return state


def fine_tuned(state: State) -> State:
    """Convert to a fine-tuned classifier: a prefix, a head, and no pretraining modules."""
    pretraining = ("mask_emb", "quantizer.", "project_q.", "final_proj.")
    state["model"] = {
        f"encoder.{key}": tensor
        for key, tensor in state["model"].items()
        if not key.startswith(pretraining)
    }
    width = state["cfg"]["model"]["encoder_embed_dim"]
    state["model"] |= {"proj.weight": torch.ones(5, width), "proj.bias": torch.ones(5)}
    state["cfg"]["model"] = {
        key: value
        for key, value in state["cfg"]["model"].items()
        if not key.startswith(("quantize", "latent"))
    } | {"_name": "ecg_transformer_classifier", "num_labels": 5, "model_path": "pretrained.pt"}
    return state


def load_file(path: Path) -> EcgFmExpert:
    expert = load_expert("ecg-fm", str(path), "per-series")
    assert isinstance(expert, EcgFmExpert)
    return expert


def load_state(state: State, folder: Path) -> EcgFmExpert:
    path = folder / "ecg_fm.pt"
    torch.save(state, path)
    return load_file(path)


def error_message(path: Path) -> str:
    """Return the message with which a checkpoint is rejected."""
    with pytest.raises(UserError) as caught:
        load_file(path)
    message = str(caught.value)
    assert str(path) in message
    assert message.endswith(".")
    return message


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> EcgFmExpert:
    return load_state(checkpoint(), tmp_path_factory.mktemp("ecg_fm"))


def compare_with_source(expert: EcgFmExpert, name: str) -> None:
    source = golden(name)
    pooled, tokens = to_tensor(source["pooled"]), to_tensor(source["tokens"])
    ecg = records(len(pooled))
    with torch.inference_mode():
        states = expert.states(ecg)
        embedding = expert.embed(ecg)
    assert states.shape == (*pooled.shape[:2], 156, pooled.shape[2])
    assert embedding.shape == (len(ecg), expert.spec.embedding_size)
    assert embedding.dtype == torch.float32
    states = states[:, :, :: source["tokens"]["every"]]
    assert (states - tokens).abs().max() <= TOLERANCE * tokens.abs().max()
    deviation = (embedding[:, :-24] - pooled.flatten(1)).abs().max()
    assert deviation <= TOLERANCE * pooled.abs().max()


def test_embeddings_equal_those_of_the_source(small: EcgFmExpert) -> None:
    compare_with_source(small, "small")
    assert small.spec.weights == "checkpoint"


@pytest.mark.slow
def test_embeddings_of_the_published_size_equal_those_of_the_source(tmp_path: Path) -> None:
    expert = load_state(checkpoint("published"), tmp_path)
    assert expert.model.architecture == Architecture()
    assert expert.spec.embedding_size == 2 * 768 + 24
    compare_with_source(expert, "published")


def test_only_pretraining_modules_of_the_published_checkpoint_are_unused() -> None:
    shapes = {key: tuple(shape) for key, shape in golden("published")["shapes"].items()}
    with torch.device("meta"):
        encoder = EcgFm(Architecture()).state_dict()
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == 90_883_072
    assert sum(tensor.numel() for tensor in encoder.values()) == 90_373_248
    ours = {published_name(key): tuple(tensor.shape) for key, tensor in encoder.items()}
    assert ours.items() <= shapes.items()
    assert {key.split(".")[0] for key in shapes.keys() - ours.keys()} == {
        "mask_emb",
        "quantizer",
        "project_q",
        "final_proj",
    }


@pytest.mark.parametrize("convert", [with_parametrizations, fine_tuned])
def test_all_forms_of_a_checkpoint_give_the_same_embedding(
    convert: Callable[[State], State], small: EcgFmExpert, tmp_path: Path
) -> None:
    other = load_state(convert(checkpoint()), tmp_path)
    assert torch.equal(other.embed(records(2)), small.embed(records(2)))


def test_fine_tuned_checkpoint_with_parametrizations_loads(
    small: EcgFmExpert, tmp_path: Path
) -> None:
    other = load_state(fine_tuned(with_parametrizations(checkpoint())), tmp_path)
    assert torch.equal(other.embed(records(2)), small.embed(records(2)))


def test_checkpoint_with_numpy_scores_loads(tmp_path: Path) -> None:
    state = checkpoint()
    state["extra_state"] |= {"best": np.float64(0.9), "metrics": [np.zeros((2, 3), np.float32)]}
    load_state(state, tmp_path)
    # numpy 1 pickles module names without the underscore.
    path = tmp_path / "ecg_fm.pt"
    torch.save(state, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes().replace(b"numpy._core.", b"numpy.core."))
    load_file(path)


def test_missing_keys_are_named(tmp_path: Path) -> None:
    state = checkpoint()
    del state["model"]["encoder.layers.1.self_attn.q_proj.bias"]
    torch.save(state, tmp_path / "a.pt")
    message = error_message(tmp_path / "a.pt")
    assert "1 missing keys (encoder.layers.1.self_attn.q_proj.bias)" in message


@pytest.mark.parametrize(
    "key",
    [
        "encoder.layers.2.fc1.bias",
        "proj.weight",
        "conv_pos.pos_conv.0.parametrizations.weight.original0",
    ],
)
def test_unexpected_keys_are_named(key: str, tmp_path: Path) -> None:
    state = checkpoint()
    state["model"][key] = torch.zeros(1)
    torch.save(state, tmp_path / "a.pt")
    assert f"1 unexpected keys ({key})" in error_message(tmp_path / "a.pt")


def test_keys_with_a_wrong_shape_are_named(tmp_path: Path) -> None:
    state = checkpoint()
    state["model"]["post_extract_proj.bias"] = torch.zeros(23)
    torch.save(state, tmp_path / "a.pt")
    message = error_message(tmp_path / "a.pt")
    assert "post_extract_proj.bias (23,) instead of (24,)" in message


class ExecutesCode:
    """An object that creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_checkpoint_that_would_execute_code_is_rejected_without_executing_it(
    tmp_path: Path,
) -> None:
    state = checkpoint()
    state["cfg"]["task"]["data"] = ExecutesCode(tmp_path / "ran")
    torch.save(state, tmp_path / "a.pt")
    assert "may execute code" in error_message(tmp_path / "a.pt")
    assert not (tmp_path / "ran").exists()
    (tmp_path / "b.pt").write_bytes(pickle.dumps(ExecutesCode(tmp_path / "ran"), protocol=2))
    error_message(tmp_path / "b.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_truncated_checkpoint_is_rejected(kept: float, tmp_path: Path) -> None:
    torch.save(checkpoint(), tmp_path / "a.pt")
    content = (tmp_path / "a.pt").read_bytes()
    (tmp_path / "a.pt").write_bytes(content[: int(kept * len(content))])
    expected = "not a valid torch checkpoint" if kept else "is empty; download it again"
    assert expected in error_message(tmp_path / "a.pt")


@pytest.mark.parametrize("content", [b"version https://git-lfs\n", b"\x85\x93e" * 50, b"\x80\x02u"])
def test_other_file_is_rejected(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(content)
    error_message(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer_norm_first": True}, "layer_norm_first=True"),
        ({"extractor_mode": "layer_norm"}, "extractor_mode='layer_norm'"),
        ({"conv_bias": True}, "conv_bias=True"),
        ({"in_d": 1}, "in_d=1"),
        ({"quantize_input": True}, "quantize_input=True"),
        ({"normalize": True}, "normalize=True"),
        ({"encoder_layers": "12"}, "encoder_layers='12'"),
        ({"conv_feature_layers": "print(1)"}, r"conv_feature_layers='print\(1\)'"),
        ({"encoder_attention_heads": 5}, "does not describe a valid model"),
        ({"conv_pos_groups": 5}, "does not describe a valid model"),
        ({"encoder_embed_dim": 16}, "no projection"),
        ({"encoder_layers": 3}, r"16 missing keys \(encoder\.layers\.2\.fc1\.bias"),
        ({"encoder_ffn_embed_dim": 96}, r"fc1\.bias \(48,\) instead of \(96,\)"),
    ],
)
def test_cfg_of_another_architecture_is_rejected(
    changes: State, message: str, tmp_path: Path
) -> None:
    state = checkpoint()
    state["cfg"]["model"] |= changes
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(UserError, match=message):
        load_file(tmp_path / "a.pt")


def test_model_of_another_sampling_rate_is_rejected(tmp_path: Path) -> None:
    state = checkpoint()
    state["cfg"]["task"]["sample_rate"] = 250
    torch.save(state, tmp_path / "a.pt")
    assert "sample_rate=250 instead of 500" in error_message(tmp_path / "a.pt")


@pytest.mark.parametrize(
    "state", [checkpoint()["model"], {"cfg": None}, {"cfg": None, "model": {}}, torch.ones(3)]
)
def test_file_without_a_cfg_is_rejected(state: object, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "a.pt")
    assert "cfg" in error_message(tmp_path / "a.pt")


def test_safetensors_without_a_cfg_are_rejected(tmp_path: Path) -> None:
    save_file(checkpoint()["model"], tmp_path / "a.safetensors")
    assert "cfg" in error_message(tmp_path / "a.safetensors")


@pytest.mark.parametrize("key", ["encoder_layers", "conv_pos"])
def test_missing_sizes_are_named(key: str, tmp_path: Path) -> None:
    state = checkpoint()
    del state["cfg"]["model"][key]
    torch.save(state, tmp_path / "a.pt")
    assert f"has no {key}" in error_message(tmp_path / "a.pt")


def test_convolutions_are_parsed_without_executing_them() -> None:
    assert parse_convolutions("[(256, 2, 2)] * 4") == ((256, 2, 2),) * 4
    assert parse_convolutions("[(8, 10, 5)] + [(8, 3, 2)] * 2 + [(4, 2, 2)]") == (
        (8, 10, 5),
        (8, 3, 2),
        (8, 3, 2),
        (4, 2, 2),
    )
    for text in ("", "[]", "__import__('os')", "[(1, 2)]", "[(0, 2, 2)]", "[(1, 2, 2)] * 10**9"):
        assert parse_convolutions(text) == ()
    assert parse_convolutions("[(1, 2, 2)]" + " * 100" * 9) == ()
    assert parse_convolutions("-" * 100_000 + "1") == ()


def test_leads_are_standardized_over_the_whole_record() -> None:
    ecg = records(1)
    exact = ecg.double().numpy()
    exact = (exact - exact.mean(-1, keepdims=True)) / exact.std(-1, keepdims=True)
    assert np.abs(standardize_leads(ecg).numpy() - exact).max() < 1e-5


@pytest.mark.parametrize("millivolts", [0.0, 0.3, -1.7e3])
def test_constant_lead_becomes_zero_with_finite_gradients(
    millivolts: float, small: EcgFmExpert
) -> None:
    ecg = records(1)
    ecg[0, 2] = millivolts
    ecg.requires_grad_()
    assert (standardize_leads(ecg)[0, 2] == 0).all()
    small.embed(ecg).square().sum().backward()
    assert ecg.grad is not None
    assert ecg.grad.isfinite().all()
    assert (ecg.grad[0, 0] != 0).any()


def test_no_state_is_zero(small: EcgFmExpert) -> None:
    """The source averages over nonzero states, which equals the mean only if no state is zero."""
    assert (small.states(records(2)) != 0).all()


def test_lead_order_is_that_of_the_pretraining_data(small: EcgFmExpert) -> None:
    order = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"]
    assert list(LEADS) == order
    ecg = records(1)
    swapped = ecg[:, [0, 1, 2, 3, 5, 4, *range(6, 12)]]
    assert not torch.allclose(small.embed(ecg), small.embed(swapped), atol=1e-3)


def test_embedding_does_not_depend_on_batch_or_order(small: EcgFmExpert) -> None:
    ecg = records(6)
    with torch.inference_mode():
        together = small.embed(ecg)
        order = [4, 2, 0, 5, 1, 3]
        assert torch.equal(small.embed(ecg[order]), together[order])
        batch = ecg.clone()
        batch[1:] = 1e3 * torch.randn(5, 12, 5000, generator=torch.Generator().manual_seed(0))
        assert torch.equal(small.embed(batch)[0], together[0])
        batch[1:] = float("nan")
        assert torch.equal(small.embed(batch)[0], together[0])
        for row in range(6):
            alone = small.embed(ecg[row : row + 1])[0]
            assert torch.allclose(alone, together[row], rtol=0, atol=1e-6)


def test_each_half_of_a_record_has_its_own_vector(small: EcgFmExpert) -> None:
    ecg = records(1)
    with torch.inference_mode():
        halves = small.embed(ecg)[:, :-24].unflatten(1, (2, -1))
        rolled = small.embed(ecg.roll(2500, -1))[:, :-24].unflatten(1, (2, -1))
    assert torch.allclose(rolled, halves.flip(1), atol=1e-5)
    assert not torch.allclose(halves[:, 0], halves[:, 1], atol=1e-2)


def test_expert_is_registered_and_frozen(small: EcgFmExpert) -> None:
    assert "ecg-fm" in list_experts()
    definition = get_definition("ecg-fm")
    assert str(definition.published) == "hub:wanglab/ecg-fm/mimic_iv_ecg_physionet_pretrained.pt"
    assert definition.license == "MIT"
    assert not any(parameter.requires_grad for parameter in small.parameters())
    assert not any(module.training for module in small.train().modules())


@pytest.mark.slow
def test_random_weights_have_the_published_size_and_depend_on_the_seed() -> None:
    first = load_expert("ecg-fm", "random:0")
    assert isinstance(first, EcgFmExpert)
    assert sum(parameter.numel() for parameter in first.parameters()) == 90_373_248
    assert first.spec.untrained
    assert first.embed(records(1)).shape == (1, first.spec.embedding_size) == (1, 1560)
    torch.manual_seed(5)
    again = load_expert("ecg-fm", "random:0")
    other = load_expert("ecg-fm", "random:1")
    assert again.spec == first.spec
    assert other.spec.weights_sha256 != first.spec.weights_sha256


@pytest.fixture(scope="module")
def expert(small: EcgFmExpert) -> EcgFmExpert:
    return small


@pytest.fixture(scope="module")
def variants(tmp_path_factory: pytest.TempPathFactory):
    state = checkpoint()
    state["model"]["layer_norm.bias"] = state["model"]["layer_norm.bias"] + 0.1
    folder = tmp_path_factory.mktemp("ecg_fm_variants")
    return [load_state(state, folder)]


class TestEcgFmConforms(ExpertTests):
    half_tolerance = 0.1
