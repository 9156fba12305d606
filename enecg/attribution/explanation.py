"""Attributions of the outputs of all experts and of their mixture, for one ECG."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from enecg.attribution.integrated_gradients import Attribution, integrate_gradients
from enecg.attribution.occlusion import occlude_windows
from enecg.attribution.task_output import TaskOutput
from enecg.attribution.windows import WINDOWS, WaveWindows


@dataclass(frozen=True)
class Explanation:
    """Contributions to the output of one expert, or of the mixture.

    Attributes:
        output: Output for the ECG, in the task's unit, or a probability.
        effects: Effect of each window on the output, by window name; see `occlude_windows`.
        attribution: Integrated gradients; None for an expert that is not differentiable.
        shares: Share of each window in the sum of the absolute contributions of all samples; NaN if
            the sum is 0, None without integrated gradients.
    """

    output: float
    effects: Mapping[str, float]
    attribution: Attribution | None = None
    shares: Mapping[str, float] | None = None

    @property
    def occlusion_shares(self) -> dict[str, float]:
        """Share of each window in the sum of the absolute effects; NaN if all effects are 0."""
        total = sum(map(abs, self.effects.values()))
        return {
            name: abs(effect) / total if total else float("nan")
            for name, effect in self.effects.items()
        }


def explain_ecg(
    output: TaskOutput,
    ecg: Float[Tensor, "12 5000"],
    baseline: Float[Tensor, "12 5000"],
    windows: WaveWindows,
    *,
    steps: int,
    mixture: str,
) -> dict[str, Explanation]:
    """Explain the outputs of all experts and of their mixture.

    In the integrated gradients of the mixture, the predictions of experts that are not
    differentiable are constant: those for `ecg`.

    Args:
        output: Task output to explain.
        ecg: ECG in mV at 500 Hz.
        baseline: ECG at which the integration starts, in mV at 500 Hz.
        windows: Wave windows of the ECG.
        steps: Number of points between `baseline` and `ecg` at which the gradient is computed.
        mixture: Name of the mixture in the result.

    Returns:
        The explanations of all experts and of the mixture, by name. The mixture is omitted if there
        is only one expert.
    """
    found = {}
    for name in output.experts:
        function = partial(output.expert, name)
        found[name] = _explain(
            function,
            function if output.is_differentiable(name) else None,
            *(ecg, baseline, windows, steps),
        )
    if len(output.experts) > 1:
        held = output.hold(ecg[None])
        found[mixture] = _explain(
            output.ensemble,
            partial(output.ensemble, held=held),
            *(ecg, baseline, windows, steps),
        )
    return found


def _explain(
    output: Callable[[Tensor], Tensor],
    differentiable: Callable[[Tensor], Tensor] | None,
    ecg: Tensor,
    baseline: Tensor,
    windows: WaveWindows,
    steps: int,
) -> Explanation:
    with torch.no_grad():
        value = float(output(ecg[None])[0])
    effects = occlude_windows(output, ecg, windows)
    if differentiable is None:
        return Explanation(value, effects)
    attribution = integrate_gradients(differentiable, ecg, baseline, steps=steps)
    return Explanation(value, effects, attribution, _sum_by_window(attribution, windows))


def _sum_by_window(attribution: Attribution, windows: WaveWindows) -> dict[str, float]:
    assert attribution.values is not None
    size = attribution.values.abs().double().sum(0).cpu().numpy()
    sums = np.bincount(windows.index, weights=size, minlength=len(WINDOWS))
    total = sums.sum()
    shares = sums / total if total > 0 else np.full(len(WINDOWS), np.nan)
    return dict(zip(WINDOWS, shares.tolist(), strict=True))
