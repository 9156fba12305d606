"""Integrated gradients (Sundararajan et al., ICML 2017, arXiv 1703.01365), computed by captum."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

BATCH = {"cpu": 1, "cuda": 16}
"""Steps per backward pass, by device type. A pass keeps the states of all layers in memory."""


@dataclass(frozen=True)
class Attribution:
    """Contributions of the samples of an ECG to the change in an output.

    Attributes:
        change: Output for the ECG minus the output for the baseline.
        total: Sum of the contributions.
        absolute_sum: Sum of the absolute values of the contributions.
        values: Contribution of each sample, in the unit of the output; None if not kept.
    """

    change: float
    total: float
    absolute_sum: float
    values: Float[Tensor, "12 time"] | None

    @property
    def error(self) -> float:
        """Completeness error: the sum of the contributions minus the change in the output."""
        return self.total - self.change


def integrate_gradients(
    output: Callable[[Float[Tensor, "batch 12 time"]], Float[Tensor, " batch"]],
    ecg: Float[Tensor, "12 time"],
    baseline: Float[Tensor, "12 time"],
    *,
    steps: int,
) -> Attribution:
    """Attribute the difference between the outputs for an ECG and a baseline to the ECG's samples.

    The gradient is integrated along the straight line from the baseline to the ECG, with the
    Gauss-Legendre rule.

    Args:
        output: Differentiable function of a batch of ECGs; output i depends only on ECG i.
        ecg: ECG to explain, in mV.
        baseline: ECG at which the integration starts, in mV.
        steps: Number of points on the line at which the gradient is computed.

    Returns:
        The contributions of the samples.
    """
    # Imported here because only attributions require captum.
    from captum.attr import IntegratedGradients

    with torch.no_grad():
        before, after = (float(output(signal[None])[0]) for signal in (baseline, ecg))
    with torch.enable_grad():
        (values,) = IntegratedGradients(output).attribute(
            ecg[None],
            baselines=baseline[None],
            n_steps=steps,
            method="gausslegendre",
            internal_batch_size=BATCH.get(ecg.device.type, 1),
        )
    values = values.detach()
    total, absolute_sum = float(values.double().sum()), float(values.double().abs().sum())
    return Attribution(after - before, total, absolute_sum, values.float())
