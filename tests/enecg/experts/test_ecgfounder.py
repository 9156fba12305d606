"""ECGFounder, compared with the outputs of its published code ("the source").

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
from enecg.experts.ecgfounder import EcgFounder, EcgFounderExpert, preprocess
from enecg.experts.ecgfounder_checkpoint import Architecture

TOLERANCE = 1e-5
"""Tolerance: relative to the largest absolute value in `assert_equal`, absolute elsewhere."""

Tensors = dict[str, Tensor]


def shapes(kind: str) -> dict[str, tuple[int, ...]]:
    content = json.loads((weights_recipe.GOLDEN / "ecgfounder.json").read_text())
    return {name: tuple(shape) for name, shape in content[kind].items()}


def checkpoint(tensors: Tensors) -> dict[str, Any]:
    """Return a checkpoint as the source saves it after an epoch."""
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    scheduler.step(np.float64(0.92))
    return {
        "epoch": 3,
        "step": 10_000,
        "state_dict": tensors,
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "val_auroc": np.float64(0.92),
    }


def load(state: Any, folder: Path, pooling: str = "default") -> EcgFounderExpert:
    path = folder / "12_lead_ECGFounder.pth"
    torch.save(state, path)
    expert = load_expert("ecgfounder", str(path), pooling)
    assert isinstance(expert, EcgFounderExpert)
    return expert


@pytest.fixture(scope="module")
def tensors() -> Tensors:
    return weights_recipe.scaled_state_dict(shapes("small"))


@pytest.fixture(scope="module")
def expert(tensors: Tensors, tmp_path_factory: pytest.TempPathFactory) -> EcgFounderExpert:
    return load(checkpoint(tensors), tmp_path_factory.mktemp("ecgfounder"))


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(weights_recipe.GOLDEN / "ecgfounder.npz") as file:
        return dict(file)


def assert_equal(computed: Tensor, source: np.ndarray, tolerance: float = TOLERANCE) -> None:
    deviation = weights_recipe.max_deviation(computed, source)
    assert deviation < tolerance * np.abs(source).max()


def test_filtered_signals_equal_those_of_the_source(golden: dict[str, np.ndarray]) -> None:
    assert_equal(preprocess(weights_recipe.ecgs())[:, :, ::41], golden["signal"])


def test_embeddings_equal_those_of_the_source(
    expert: EcgFounderExpert, golden: dict[str, np.ndarray]
) -> None:
    records = weights_recipe.ecgs()
    states = expert.states(records)
    assert states.shape == (2, 1, 313, 48)
    assert_equal(states[:, 0, ::8].transpose(1, 2), golden["small_tokens"])
    embedding = expert.embed(records)
    assert_equal(embedding[:, :-24], golden["small_features"])
    assert embedding.shape[1] == expert.spec.embedding_size == 48 + 24
    assert expert.spec.weights == "checkpoint"
    assert expert.spec.architecture == {
        "stem": 8,
        "widths": (16, 32, 48),
        "blocks": (2, 1, 2),
        "kernel": 16,
        "group_width": 8,
    }


@pytest.mark.slow
def test_embeddings_of_the_published_size_equal_those_of_the_source(
    tmp_path: Path, golden: dict[str, np.ndarray]
) -> None:
    published = load(checkpoint(weights_recipe.scaled_state_dict(shapes("published"))), tmp_path)
    assert published.model.architecture == Architecture()
    assert_equal(published.embed(weights_recipe.ecgs())[:, :-24], golden["published_features"])


def test_only_the_classifier_and_batch_normalizations_of_the_source_are_unused() -> None:
    with torch.device("meta"):
        own = EcgFounder(Architecture()).state_dict()
    source = shapes("published")
    assert {key: tuple(tensor.shape) for key, tensor in own.items()}.items() <= source.items()
    unused = source.keys() - own.keys()
    assert {key.split(".")[-2] for key in unused} == {"dense", "first_bn", "bn1", "bn2", "bn3"}
    assert sum(tensor.numel() for tensor in own.values()) == 30_598_896


def test_state_dict_alone_and_without_unused_keys_loads(
    expert: EcgFounderExpert, tensors: Tensors, tmp_path: Path
) -> None:
    used = {key: tensor for key, tensor in tensors.items() if key in expert.model.state_dict()}
    assert len(used) < len(tensors)
    records = weights_recipe.ecgs()
    assert torch.equal(load(used, tmp_path).embed(records), expert.embed(records))


@pytest.mark.parametrize("damage", broken_checkpoints.KINDS)
@pytest.mark.parametrize("key", ["first_conv.conv.bias", "stage_list.2.block_list.1.se_fc2.weight"])
def test_broken_checkpoint_is_rejected(
    damage: str, key: str, tensors: Tensors, tmp_path: Path
) -> None:
    broken_checkpoints.assert_rejected("ecgfounder", damage, tensors, key, tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"first_conv.conv.weight": torch.ones(8, 1, 16)}, "leads is 1; use the one for 12 leads"),
        (
            {"stage_list.1.block_list.0.bn2.num_batches_tracked": torch.tensor(7)},
            "was trained with batch normalization",
        ),
        ({"stage_list.1.block_list.3.bn2.bias": torch.zeros(32)}, "1 unexpected keys"),
        (
            {"stage_list.1.block_list.0.conv2.conv.weight": torch.ones(36, 8, 16)},
            "36 channels are not a multiple of 8",
        ),
        # A model of these sizes would take terabytes.
        ({"stage_list.1.block_list.0.conv2.conv.weight": torch.ones(10**6, 8, 1)}, "mismatches"),
        ({"stage_list.999999999.block_list.0.conv2.conv.weight": torch.ones(8, 8, 1)}, "missing"),
    ],
)
def test_checkpoint_of_another_model_is_rejected(
    changes: Tensors, message: str, tensors: Tensors, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        load(checkpoint(tensors | changes), tmp_path)


def test_record_does_not_depend_on_its_batch(expert: EcgFounderExpert) -> None:
    records = weights_recipe.ecgs()
    together = expert.embed(records)
    alone = torch.cat([expert.embed(record[None]) for record in records])
    torch.testing.assert_close(alone, together, rtol=0, atol=TOLERANCE)


def test_amplitude_and_offset_change_only_the_appended_mean_and_scale(
    expert: EcgFounderExpert,
) -> None:
    records = weights_recipe.ecgs()
    changed = expert.embed(3 * records + 2)
    torch.testing.assert_close(
        changed[:, :-24], expert.embed(records)[:, :-24], rtol=0, atol=TOLERANCE
    )
    torch.testing.assert_close(changed[:, -24:-12], 3 * records.mean(-1) + 2)


def test_constant_record_becomes_zero_with_finite_gradients() -> None:
    records = torch.full((1, 12, 5000), 0.3, requires_grad=True)
    result = preprocess(records)
    assert result.abs().max() < 1e-3
    result.square().sum().backward()
    assert records.grad is not None
    assert records.grad.isfinite().all()


def test_definition_names_the_published_checkpoint() -> None:
    definition = get_definition("ecgfounder")
    assert str(definition.published) == "hub:PKUDigitalHealth/ECGFounder/12_lead_ECGFounder.pth"
    assert str(definition.preprocessing) == (
        "12 leads, notch 50 Hz, band-pass 0.67 to 40 Hz, baseline median of 201 samples, 5000 "
        "samples at 500 Hz, normalization: zscore-all-leads"
    )


@pytest.fixture(scope="module")
def variants(tensors: Tensors, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("ecgfounder-variants")
    changed = tensors | {"first_conv.conv.bias": tensors["first_conv.conv.bias"] + 0.1}
    return [load(changed, folder), load(changed, folder, "segments")]


class TestEcgFounderConforms(ExpertTests):
    pass
