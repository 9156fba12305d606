"""Registered experts and their definitions."""

import numpy as np
import pytest
import torch

from enecg.errors import UserError
from enecg.experts import Expert, get_definition, list_experts, load_expert
from enecg.leads import LeadsSample
from enecg.names import LEADS_SAMPLE

FAST = ("dlinear", "timesnet")
RANDOM = "random:0"


@pytest.fixture(scope="module")
def ecgs() -> torch.Tensor:
    """64 synthetic ECGs, (64, 12, 5000) in mV."""
    from pipeline.synthetic.patient import draw_patient
    from pipeline.synthetic.rhythms import draw_rhythm
    from pipeline.synthetic.simulation import simulate

    rng = np.random.default_rng(0)
    signals = [
        simulate(
            draw_patient(rng, age=60, male=bool(number % 2)), draw_rhythm(rng, 60), 4.0, rng
        ).ecg_mv
        for number in range(64)
    ]
    return torch.from_numpy(np.stack(signals))


def embed_in_batches(expert: Expert, ecgs: torch.Tensor, size: int) -> torch.Tensor:
    with torch.inference_mode():
        return torch.cat([expert.embed(batch) for batch in ecgs.split(size)])


def assert_equal_in_half_precision(actual: torch.Tensor, expected: torch.Tensor) -> None:
    """Assert equality within a rounding step of float16, or 1e-4 for values near zero."""
    torch.testing.assert_close(actual, expected, rtol=2**-10, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "records"),
    [
        ("dlinear", 64),
        pytest.param("timesnet", 8, marks=pytest.mark.slow),
        (LEADS_SAMPLE, 64),
    ],
)
def test_embedding_depends_on_the_ecg_but_not_on_batch_or_order(
    name: str, records: int, ecgs: torch.Tensor
):
    expert = LeadsSample() if name == LEADS_SAMPLE else load_expert(name, RANDOM)
    ecgs = ecgs[:records]
    together = embed_in_batches(expert, ecgs, records)
    assert together.shape == (records, expert.spec.embedding_size)
    assert together.isfinite().all()
    assert_equal_in_half_precision(embed_in_batches(expert, ecgs, 1), together)
    assert_equal_in_half_precision(embed_in_batches(expert, ecgs, 7), together)
    order = torch.randperm(records, generator=torch.Generator().manual_seed(1))
    assert_equal_in_half_precision(embed_in_batches(expert, ecgs[order], records), together[order])
    if name in FAST:
        distance = torch.cdist(together, together) + 1e9 * torch.eye(records)
        assert distance.min() > 1e-2, "different ECGs have the same embedding"


@pytest.mark.slow
def test_embedding_of_moment_does_not_depend_on_the_batch(ecgs: torch.Tensor):
    expert = load_expert("moment", RANDOM)
    together = embed_in_batches(expert, ecgs[:2], 2)
    assert together.shape == (2, expert.spec.embedding_size)
    assert_equal_in_half_precision(embed_in_batches(expert, ecgs[:2], 1), together)


@pytest.mark.slow
def test_embedding_of_moment_does_not_depend_on_batch_or_order_of_64_records(ecgs: torch.Tensor):
    expert = load_expert("moment", RANDOM)
    together = embed_in_batches(expert, ecgs, 64)
    assert_equal_in_half_precision(embed_in_batches(expert, ecgs, 1), together)
    assert_equal_in_half_precision(embed_in_batches(expert, ecgs, 7), together)
    assert_equal_in_half_precision(embed_in_batches(expert, ecgs.flip(0), 64), together.flip(0))


@pytest.mark.parametrize("name", FAST)
def test_random_weights_depend_only_on_the_seed(name: str):
    first = load_expert(name, RANDOM).spec
    torch.rand(3)
    assert load_expert(name, RANDOM).spec == first
    other = load_expert(name, "random:1").spec
    assert other.weights_sha256 != first.weights_sha256
    assert first.untrained
    assert first.weights == "random:0"


def assert_sizes(name: str) -> None:
    definition, expert = get_definition(name), load_expert(name, RANDOM)
    assert isinstance(expert, torch.nn.Module)
    assert expert.spec.embedding_size == definition.embedding_size
    assert sum(parameter.numel() for parameter in expert.parameters()) == definition.parameters


@pytest.mark.parametrize("name", [*FAST, "moment", "moment-windows", "ecgfounder"])
def test_definition_states_the_sizes_of_the_expert(name: str):
    assert_sizes(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["moment-base", "moment-large", "tempo", "ecg-fm", "ecg-jepa"])
def test_definition_states_the_sizes_of_a_large_expert(name: str):
    assert_sizes(name)


def test_unsupported_pooling_is_an_error():
    with pytest.raises(
        UserError, match=r"dlinear does not support .*'segments'; available: per-series"
    ):
        load_expert("dlinear", RANDOM, "segments")


@pytest.mark.parametrize("name", FAST)
def test_expert_is_frozen_and_stays_in_evaluation_mode(name: str):
    expert = load_expert(name, RANDOM)
    assert isinstance(expert, torch.nn.Module)
    expert.train()
    assert not any(module.training for module in expert.modules())
    assert not any(parameter.requires_grad for parameter in expert.parameters())


@pytest.mark.parametrize("name", FAST)
def test_embedding_depends_on_the_amplitude(name: str, ecgs: torch.Tensor):
    expert = load_expert(name, RANDOM)
    single = embed_in_batches(expert, ecgs[:1], 1)
    double = embed_in_batches(expert, 2 * ecgs[:1], 1)
    assert (single - double).abs().max() > 0.05


def test_unknown_expert_is_an_error_that_lists_the_available_ones():
    with pytest.raises(UserError, match=r"Unknown expert 'nonesuch'; available: dlinear, timesnet"):
        get_definition("nonesuch")


def test_registered_names_equal_those_of_the_definitions():
    assert [get_definition(name).name for name in list_experts()] == list_experts()
