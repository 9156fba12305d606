"""Integrated gradients through experts, heads and gate, and MOMENT's normalization."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from conformance.expert_tests import make_ecgs
from momentfm.models.layers.revin import RevIN
from torch import Tensor, nn

from enecg.attribution.integrated_gradients import integrate_gradients
from enecg.attribution.task_output import TaskOutput
from enecg.ecg_format import LEADS
from enecg.experts import FrozenExpert, load_expert, moment
from enecg.experts.ecg_fm import EcgFm, EcgFmExpert
from enecg.experts.ecg_fm_checkpoint import Architecture
from enecg.experts.moment_normalization import DifferentiableRevIN
from enecg.experts.tempo import Tempo, TempoExpert
from enecg.experts.timesnet import TimesNet, TimesNetExpert
from enecg.gate import Gate
from enecg.leads import SAMPLED_LEADS

ECGS = make_ecgs(8)
ECG, BASELINE = ECGS[0], ECGS[1:].mean(0)


@pytest.fixture
def tiny_moment() -> FrozenExpert:
    with pytest.MonkeyPatch.context() as patch:
        sizes = {"d_model": 32, "d_ff": 48, "num_heads": 2, "num_layers": 2}
        patch.setitem(moment.T5_SIZES, "small", sizes)
        expert = load_expert("moment", "random:0")
    assert isinstance(expert, FrozenExpert)
    return expert


def make_expert(kind: type[FrozenExpert], model: nn.Module) -> FrozenExpert:
    """Return an expert with a small model; of its spec, only pooling and precision are used."""
    return kind(replace(load_expert("dlinear", "random:0").spec, pooling="mean-std"), model)


def make_experts(tiny_moment: FrozenExpert) -> dict[str, FrozenExpert]:
    torch.manual_seed(0)
    sizes = Architecture(
        2, 24, 48, 4, conv_feature_layers=((16, 2, 2),) * 4, conv_pos=16, conv_pos_groups=4
    )
    dlinear = load_expert("dlinear", "random:0")
    assert isinstance(dlinear, FrozenExpert)
    return {
        "dlinear": dlinear,
        "timesnet": make_expert(
            TimesNetExpert, TimesNet(model_size=8, feed_forward_size=8, layers=1)
        ),
        "moment": tiny_moment,
        "tempo": make_expert(TempoExpert, Tempo(width=24, layers=1)),
        "ecg-fm": make_expert(EcgFmExpert, EcgFm(sizes)),
    }


def make_head(expert: FrozenExpert) -> Callable[[Tensor], Tensor]:
    """Return a random network that standardizes its input, the embedding."""
    with torch.no_grad():
        known = expert.embed(ECGS)
    mean, scale = known.mean(0), known.std(0).clamp_min(1e-4)
    torch.manual_seed(1)
    network = nn.Sequential(nn.Linear(len(mean), 16), nn.GELU(), nn.Linear(16, 1))
    return lambda embedding: network((embedding - mean) / scale)


def test_contributions_through_each_expert_sum_to_the_change_in_the_output(
    tiny_moment: FrozenExpert,
):
    experts = make_experts(tiny_moment)
    output = TaskOutput(
        experts,
        {name: make_head(expert) for name, expert in experts.items()},
        lambda leads: torch.full((len(leads), 1, len(experts)), 0.2),
        "regression",
        scale=100.0,
    )
    for name in experts:
        found = integrate_gradients(
            lambda ecg, name=name: output.expert(name, ecg), ECG, BASELINE, steps=16
        )
        assert found.values is not None
        assert found.values.shape == ECG.shape
        # The output of TimesNet jumps where its selected periods change along the path.
        tolerance = 0.02 if name == "timesnet" else 1e-3
        assert abs(found.error) < tolerance * found.absolute_sum, name
        assert (found.values.abs().sum(1) > 0).all(), name


def test_gate_contributes_only_through_the_sampled_leads():
    dlinear = load_expert("dlinear", "random:0")
    torch.manual_seed(2)
    gate = Gate(150, {"task": 1}, 2, hidden=8, dropout=0.0, spectrum=True).eval()
    nn.init.normal_(gate.ffn["task"].prediction.weight)
    with torch.no_grad():
        output = TaskOutput(
            {"a": dlinear, "b": dlinear},
            {
                "a": lambda embedding: torch.zeros(len(embedding), 1),
                "b": lambda embedding: torch.ones(len(embedding), 1),
            },
            lambda leads: gate(leads)["task"],
            "regression",
        )
    found = integrate_gradients(output.ensemble, ECG, BASELINE, steps=64)
    assert abs(found.change) > 0.01
    assert found.values is not None
    assert abs(found.error) < 0.01 * found.absolute_sum
    used = [LEADS[row] for row in found.values.abs().sum(1).nonzero()[:, 0].tolist()]
    assert tuple(used) == SAMPLED_LEADS


def test_predictions_of_experts_without_gradients_are_held_constant():
    experts = {
        "dlinear": load_expert("dlinear", "random:0"),
        "measurements": load_expert("measurements", "none"),
    }
    output = TaskOutput(
        experts,
        {name: lambda embedding: embedding[:, :1] for name in experts},
        lambda leads: torch.full((len(leads), 1, 2), 0.5),
        "regression",
    )
    held = output.hold(ECG[None])
    assert [*held] == ["measurements"]
    assert output.ensemble(ECG[None], held) == output.ensemble(ECG[None])
    found = integrate_gradients(lambda ecg: output.ensemble(ecg, held), ECG, BASELINE, steps=8)
    alone = integrate_gradients(lambda ecg: output.expert("dlinear", ecg), ECG, BASELINE, steps=8)
    assert found.change == pytest.approx(alone.change / 2, abs=1e-5)
    assert found.values is not None
    torch.testing.assert_close(found.values, alone.values / 2)


def test_moment_normalization_is_bitwise_equal_to_that_of_momentfm():
    series = torch.cat([ECGS[:2].flatten(0, 1), torch.full((1, 5000), 0.3)])[None]
    mask = torch.ones(1, 5000)
    expected = RevIN(1)(series, "norm", mask)
    assert DifferentiableRevIN(1)(series, "norm", mask).equal(expected)


def test_gradient_of_moment_normalization_equals_finite_differences():
    series = ECG[:2, :64].double()[None]
    direction = torch.randn(series.shape, generator=torch.Generator().manual_seed(3)).double()
    weights = torch.randn(series.shape, generator=torch.Generator().manual_seed(4)).double()
    mask = torch.ones(1, 64)

    def slopes(normalizer: RevIN) -> tuple[float, float]:
        inputs = series.clone().requires_grad_()
        (normalizer(inputs, "norm", mask) * weights).sum().backward()
        assert inputs.grad is not None
        ends = [
            (normalizer(series + step * direction, "norm", mask) * weights).sum()
            for step in (1e-6, -1e-6)
        ]
        return float((inputs.grad * direction).sum()), float((ends[0] - ends[1]) / 2e-6)

    gradient, difference = slopes(DifferentiableRevIN(1))
    assert gradient == pytest.approx(difference, rel=1e-4)
    detached, difference = slopes(RevIN(1))
    assert detached != pytest.approx(difference, rel=1e-2)


def test_gradient_of_a_constant_series_is_finite():
    series = torch.full((1, 1, 64), 0.3, requires_grad=True)
    DifferentiableRevIN(1)(series, "norm", torch.ones(1, 64)).square().sum().backward()
    assert series.grad is not None
    assert series.grad.isfinite().all()
