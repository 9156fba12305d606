"""What every expert must hold to, as a class that the tests of an expert inherit.

    import pytest
    from conformance.expert_tests import ExpertTests

    @pytest.fixture(scope="module")
    def expert():
        return load_expert("mine", "random:0")

    @pytest.fixture(scope="module")
    def others():
        return [load_expert("mine", "random:1"), load_expert("mine", "random:0", "segments")]

    class TestMineConforms(ExpertTests):
        pass

`expert` is the expert on the CPU; `others` are experts whose numbers differ from its by weights,
pooling or sizes: each must have another spec.
"""

import copy
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from enecg.experts import Expert


def make_ecgs(count: int) -> Tensor:
    """Signals that differ in rate, amplitude and shape, (count, 12, 5000) in mV."""
    rng = np.random.default_rng(0)
    seconds = np.arange(5000) / 500
    ecgs = np.zeros((count, 12, 5000), np.float32)
    for ecg in ecgs:
        beats = np.arange(rng.uniform(0, 1), 10, rng.uniform(0.4, 1.3))
        wave = np.exp(-(((seconds[:, None] - beats) / rng.uniform(0.01, 0.04)) ** 2)).sum(1)
        ecg[:] = rng.normal(0, 1, (12, 1)) * wave + rng.normal(0, 0.02, (12, 5000))
    return torch.from_numpy(ecgs)


class ExpertTests:
    """Inherit this where there are fixtures `expert` and `others`."""

    count = 8
    """ECGs that are embedded."""
    float_tolerance = 1e-4
    """Between batch sizes, orders and devices, in float32, relative to the largest feature."""
    half_tolerance = 3e-2
    """Between bfloat16 and float32: the error's root mean square over the features' spread."""

    @pytest.fixture(scope="class")
    @classmethod
    def ecgs(cls) -> Tensor:
        """What is embedded."""
        return make_ecgs(cls.count)

    @pytest.fixture(scope="class")
    @classmethod
    def embedded(cls, expert: Expert, ecgs: Tensor) -> Tensor:
        """All ECGs in one batch."""
        return cls.embed(expert, ecgs)

    @staticmethod
    def embed(expert: Expert, ecgs: Tensor) -> Tensor:
        with torch.inference_mode():
            return expert.embed(ecgs)

    def assert_same(self, one: Tensor, other: Tensor) -> None:
        scale = float(one.abs().max())
        torch.testing.assert_close(one, other, rtol=0, atol=self.float_tolerance * scale)

    def test_shape_and_dtype_are_those_of_the_spec(self, expert: Expert, embedded: Tensor):
        assert embedded.shape == (self.count, expert.spec.embedding_size)
        assert embedded.dtype == torch.float32
        assert embedded.isfinite().all()

    def test_the_same_ecg_twice_is_the_same_embedding(
        self, expert: Expert, ecgs: Tensor, embedded: Tensor
    ):
        assert torch.equal(self.embed(expert, ecgs), embedded)

    def test_batch_mates_do_not_matter(self, expert: Expert, ecgs: Tensor, embedded: Tensor):
        alone = torch.cat([self.embed(expert, ecg[None]) for ecg in ecgs[:3]])
        self.assert_same(alone, embedded[:3])

    def test_the_order_does_not_matter(self, expert: Expert, ecgs: Tensor, embedded: Tensor):
        self.assert_same(self.embed(expert, ecgs.flip(0)), embedded.flip(0))

    def test_different_ecgs_have_different_embeddings(self, embedded: Tensor):
        distance = torch.pdist(embedded)
        assert distance.min() > 1e-4 * distance.max() > 0

    def test_twice_the_voltage_is_another_embedding(
        self, expert: Expert, ecgs: Tensor, embedded: Tensor
    ):
        double = self.embed(expert, 2 * ecgs[:1])
        assert (double - embedded[:1]).abs().max() > 0.05 * ecgs[0].std(-1).max()

    def test_a_flat_lead_gives_finite_numbers(self, expert: Expert, ecgs: Tensor):
        flat = ecgs[:2].clone()
        flat[0, 3] = 0.25
        both = self.embed(expert, flat)
        assert both.isfinite().all()
        self.assert_same(both[1:], self.embed(expert, ecgs[1:2]))

    def test_missing_samples_stay_with_their_record(
        self, expert: Expert, ecgs: Tensor, embedded: Tensor
    ):
        holed = ecgs[:3].clone()
        holed[1, 5, 1000:1100] = torch.nan
        self.assert_same(self.embed(expert, holed)[[0, 2]], embedded[[0, 2]])

    def test_it_is_frozen_and_in_evaluation_mode(self, expert: Expert):
        if isinstance(expert, torch.nn.Module):
            expert.train()
            assert not any(module.training for module in expert.modules())
            assert not any(parameter.requires_grad for parameter in expert.parameters())

    def test_a_gradient_flows_to_the_ecg(self, expert: Expert, ecgs: Tensor):
        asked = ecgs[:1].clone().requires_grad_()
        expert.embed(asked).square().sum().backward()
        assert asked.grad is not None
        assert asked.grad.abs().max() > 0

    def test_other_numbers_are_another_spec(
        self, expert: Expert, others: Sequence[Expert], ecgs: Tensor, embedded: Tensor
    ):
        for other in others:
            different = self.embed(other, ecgs)
            assert different.shape != embedded.shape or not torch.equal(different, embedded)
            assert other.spec != expert.spec

    def test_bfloat16_is_within_its_bound(self, expert: Expert, ecgs: Tensor, embedded: Tensor):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = self.embed(expert, ecgs).float()
        error = (half - embedded).square().mean().sqrt()
        assert error < self.half_tolerance * embedded.std()

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
    def test_the_gpu_agrees_with_the_cpu(self, expert: Expert, ecgs: Tensor, embedded: Tensor):
        moved = copy.deepcopy(expert)
        if isinstance(moved, torch.nn.Module):
            moved.to("cuda")
        self.assert_same(self.embed(moved, ecgs.to("cuda")).cpu(), embedded)
