"""Conformance tests of experts, as a test class to subclass.

    import pytest
    from conformance.expert_tests import ExpertTests

    @pytest.fixture(scope="module")
    def expert():
        return load_expert("mine", "random:0")

    @pytest.fixture(scope="module")
    def variants():
        return [load_expert("mine", "random:1"), load_expert("mine", "random:0", "segments")]

    class TestMineConforms(ExpertTests):
        pass

`expert` returns the expert on the CPU. `variants` returns experts that differ from it in weights,
pooling or sizes, so that their specs differ. For an expert without variants, it returns an empty
list.
"""

import copy
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from enecg.experts import Expert


def make_ecgs(count: int) -> Tensor:
    """Return ECGs with different rates, amplitudes and shapes: (count, 12, 5000) in mV."""
    rng = np.random.default_rng(0)
    seconds = np.arange(5000) / 500
    ecgs = np.zeros((count, 12, 5000), np.float32)
    for ecg in ecgs:
        beats = np.arange(rng.uniform(0, 1), 10, rng.uniform(0.4, 1.3))
        wave = np.exp(-(((seconds[:, None] - beats) / rng.uniform(0.01, 0.04)) ** 2)).sum(1)
        ecg[:] = rng.normal(0, 1, (12, 1)) * wave + rng.normal(0, 0.02, (12, 5000))
    return torch.from_numpy(ecgs)


class ExpertTests:
    """Conformance tests of an expert; require the fixtures `expert` and `variants`."""

    count = 8
    """Number of ECGs."""
    float_tolerance = 1e-4
    """Tolerance across batch sizes, orders and devices, relative to the largest absolute value."""
    half_tolerance = 3e-2
    """Maximum RMS error of bfloat16 against float32, relative to the SD of all feature values."""
    differentiable = True
    """Whether the embedding has gradients with respect to the input."""

    @pytest.fixture(scope="class")
    @classmethod
    def ecgs(cls) -> Tensor:
        """The ECGs of the tests, (count, 12, 5000) in mV."""
        return make_ecgs(cls.count)

    @pytest.fixture(scope="class")
    @classmethod
    def embedded(cls, expert: Expert, ecgs: Tensor) -> Tensor:
        """The embeddings of all ECGs, computed as one batch."""
        return cls.embed(expert, ecgs)

    @staticmethod
    def embed(expert: Expert, ecgs: Tensor) -> Tensor:
        with torch.inference_mode():
            return expert.embed(ecgs)

    def assert_close(self, actual: Tensor, expected: Tensor) -> None:
        scale = float(actual.abs().max())
        torch.testing.assert_close(actual, expected, rtol=0, atol=self.float_tolerance * scale)

    def test_embedding_is_finite_float32_of_the_spec_size(self, expert: Expert, embedded: Tensor):
        assert embedded.shape == (self.count, expert.spec.embedding_size)
        assert embedded.dtype == torch.float32
        assert embedded.isfinite().all()

    def test_embedding_is_deterministic(self, expert: Expert, ecgs: Tensor, embedded: Tensor):
        assert torch.equal(self.embed(expert, ecgs), embedded)

    def test_embedding_does_not_depend_on_the_batch(
        self, expert: Expert, ecgs: Tensor, embedded: Tensor
    ):
        alone = torch.cat([self.embed(expert, ecg[None]) for ecg in ecgs[:3]])
        self.assert_close(alone, embedded[:3])

    def test_embedding_does_not_depend_on_the_order_of_the_batch(
        self, expert: Expert, ecgs: Tensor, embedded: Tensor
    ):
        self.assert_close(self.embed(expert, ecgs.flip(0)), embedded.flip(0))

    def test_different_ecgs_have_different_embeddings(self, embedded: Tensor):
        distance = torch.pdist(embedded)
        assert distance.min() > 1e-4 * distance.max() > 0

    def test_doubling_the_voltage_changes_the_embedding(
        self, expert: Expert, ecgs: Tensor, embedded: Tensor
    ):
        double = self.embed(expert, 2 * ecgs[:1])
        assert (double - embedded[:1]).abs().max() > 0.05 * ecgs[0].std(-1).max()

    def test_flat_lead_is_finite_and_affects_only_its_record(self, expert: Expert, ecgs: Tensor):
        flat = ecgs[:2].clone()
        flat[0, 3] = 0.25
        both = self.embed(expert, flat)
        assert both.isfinite().all()
        self.assert_close(both[1:], self.embed(expert, ecgs[1:2]))

    def test_nan_samples_affect_only_their_record(
        self, expert: Expert, ecgs: Tensor, embedded: Tensor
    ):
        with_gap = ecgs[:3].clone()
        with_gap[1, 5, 1000:1100] = torch.nan
        self.assert_close(self.embed(expert, with_gap)[[0, 2]], embedded[[0, 2]])

    def test_module_is_frozen_and_stays_in_evaluation_mode(self, expert: Expert):
        if isinstance(expert, torch.nn.Module):
            expert.train()
            assert not any(module.training for module in expert.modules())
            assert not any(parameter.requires_grad for parameter in expert.parameters())

    def test_gradient_reaches_the_input_of_differentiable_experts_only(
        self, expert: Expert, ecgs: Tensor
    ):
        ecg = ecgs[:1].clone().requires_grad_()
        if not self.differentiable:
            assert not expert.embed(ecg).requires_grad
            return
        expert.embed(ecg).square().sum().backward()
        assert ecg.grad is not None
        assert ecg.grad.abs().max() > 0

    def test_variants_have_different_embeddings_and_specs(
        self, expert: Expert, variants: Sequence[Expert], ecgs: Tensor
    ):
        embedded = self.embed(expert, ecgs[:2])
        for variant in variants:
            different = self.embed(variant, ecgs[:2])
            assert different.shape != embedded.shape or not torch.equal(different, embedded)
            assert variant.spec != expert.spec

    def test_bfloat16_error_is_within_tolerance(
        self, expert: Expert, ecgs: Tensor, embedded: Tensor
    ):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = self.embed(expert, ecgs).float()
        error = (half - embedded).square().mean().sqrt()
        assert error < self.half_tolerance * embedded.std()

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="requires a GPU")
    def test_gpu_agrees_with_cpu(self, expert: Expert, ecgs: Tensor, embedded: Tensor):
        moved = copy.deepcopy(expert)
        if isinstance(moved, torch.nn.Module):
            moved.to("cuda")
        self.assert_close(self.embed(moved, ecgs.to("cuda")).cpu(), embedded)
