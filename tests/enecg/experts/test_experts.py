"""What holds for every expert that is registered here."""

import numpy as np
import pytest
import torch

from enecg.errors import UserError
from enecg.experts import Expert, get_definition, list_experts, load_expert
from enecg.leads import LeadsSample

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


def in_batches(expert: Expert, ecgs: torch.Tensor, size: int) -> torch.Tensor:
    with torch.inference_mode():
        return torch.cat([expert.embed(batch) for batch in ecgs.split(size)])


def assert_same_to_half_precision(one: torch.Tensor, other: torch.Tensor) -> None:
    """Equal but for the last bit of float16, which rounding in float32 may flip."""
    torch.testing.assert_close(one, other, rtol=2**-10, atol=1e-4)


@pytest.mark.parametrize("name", [*FAST, "leads"])
def test_an_embedding_does_not_depend_on_its_batch_or_its_order(name: str, ecgs: torch.Tensor):
    expert = LeadsSample() if name == "leads" else load_expert(name, RANDOM)
    together = in_batches(expert, ecgs, 64)
    assert together.shape == (64, expert.spec.embedding_size)
    assert together.isfinite().all()
    assert_same_to_half_precision(in_batches(expert, ecgs, 1), together)
    assert_same_to_half_precision(in_batches(expert, ecgs, 7), together)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(1))
    assert_same_to_half_precision(in_batches(expert, ecgs[order], 64), together[order])


def test_moment_does_not_depend_on_its_batch(ecgs: torch.Tensor):
    expert = load_expert("moment", RANDOM)
    together = in_batches(expert, ecgs[:7], 7)
    assert together.shape == (7, expert.spec.embedding_size)
    assert_same_to_half_precision(in_batches(expert, ecgs[:3], 1), together[:3])


@pytest.mark.slow
def test_moment_does_not_depend_on_its_batch_or_its_order_at_length(ecgs: torch.Tensor):
    expert = load_expert("moment", RANDOM)
    together = in_batches(expert, ecgs, 64)
    assert_same_to_half_precision(in_batches(expert, ecgs, 1), together)
    assert_same_to_half_precision(in_batches(expert, ecgs, 7), together)
    assert_same_to_half_precision(in_batches(expert, ecgs.flip(0), 64), together.flip(0))


@pytest.mark.parametrize("name", FAST)
def test_different_ecgs_have_different_embeddings(name: str, ecgs: torch.Tensor):
    embedded = in_batches(load_expert(name, RANDOM), ecgs, 64)
    distance = torch.cdist(embedded, embedded) + 1e9 * torch.eye(64)
    assert distance.min() > 1e-2


@pytest.mark.parametrize("name", FAST)
def test_a_seed_gives_the_same_weights_and_another_seed_others(name: str):
    torch.rand(3)
    first = load_expert(name, RANDOM).spec
    assert load_expert(name, RANDOM).spec == first
    other = load_expert(name, "random:1").spec
    assert other.weights_sha256 != first.weights_sha256
    assert first.untrained
    assert first.weights == "random:0"


def test_every_definition_tells_the_sizes_of_what_it_builds():
    for name in ("dlinear", "timesnet", "moment", "moment-windows"):
        definition, expert = get_definition(name), load_expert(name, "random:0")
        assert isinstance(expert, torch.nn.Module)
        assert expert.spec.embedding_size == definition.embedding_size
        assert sum(one.numel() for one in expert.parameters()) == definition.parameters


@pytest.mark.slow
@pytest.mark.parametrize("name", ["moment-base", "moment-large", "tempo", "ecg-fm"])
def test_every_large_definition_tells_the_sizes_of_what_it_builds(name: str):
    definition, expert = get_definition(name), load_expert(name, "random:0")
    assert isinstance(expert, torch.nn.Module)
    assert expert.spec.embedding_size == definition.embedding_size
    assert sum(one.numel() for one in expert.parameters()) == definition.parameters


def test_a_pooling_that_an_expert_cannot_have_is_refused():
    with pytest.raises(UserError, match="dlinear has no pooling 'segments'; it has per-series"):
        load_expert("dlinear", "random:0", "segments")


@pytest.mark.parametrize("name", FAST)
def test_an_expert_is_frozen_and_stays_so(name: str):
    expert = load_expert(name, RANDOM)
    assert isinstance(expert, torch.nn.Module)
    expert.train()
    assert not any(module.training for module in expert.modules())
    assert not any(parameter.requires_grad for parameter in expert.parameters())


@pytest.mark.parametrize("name", FAST)
def test_amplitude_is_not_lost_to_normalisation(name: str, ecgs: torch.Tensor):
    expert = load_expert(name, RANDOM)
    one, double = in_batches(expert, ecgs[:1], 1), in_batches(expert, 2 * ecgs[:1], 1)
    assert (one - double).abs().max() > 0.05


def test_an_unknown_expert_is_refused_by_naming_those_there_are():
    with pytest.raises(UserError, match=r"no expert 'nonesuch'; there are dlinear, timesnet"):
        get_definition("nonesuch")


def test_every_registered_expert_has_a_definition_of_its_name():
    assert [get_definition(name).name for name in list_experts()] == list_experts()
