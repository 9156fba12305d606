"""Effect of replacing all windows of one name by straight lines; requires no gradients."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor

from enecg.attribution.windows import WINDOWS, WaveWindows


def occlude_windows(
    output: Callable[[Float[Tensor, "batch 12 time"]], Float[Tensor, " batch"]],
    ecg: Float[Tensor, "12 time"],
    windows: WaveWindows,
) -> dict[str, float]:
    """Compute how much each window contributes to an output, by captum's feature ablation.

    For each window name, all windows of this name are replaced by straight lines in all leads.

    Args:
        output: Function of a batch of ECGs, which need not be differentiable.
        ecg: ECG to explain, in mV.
        windows: Wave windows of the ECG.

    Returns:
        By window name, the output minus the output for the ECG without these windows; 0 for windows
        that the ECG does not contain.
    """
    # Imported here because only attributions require captum.
    from captum.attr import FeatureAblation

    lines = torch.from_numpy(draw_lines(ecg.cpu().numpy(), windows.index)).to(ecg)
    mask = torch.from_numpy(windows.index).to(ecg.device).expand(1, *ecg.shape)
    effects = FeatureAblation(output).attribute(ecg[None], lines[None], feature_mask=mask)
    found = {}
    for number, name in enumerate(WINDOWS):
        samples = np.flatnonzero(windows.index == number)
        found[name] = float(effects[0, 0, samples[0]]) if len(samples) else 0.0
    return found


def draw_lines(
    ecg: Float32[np.ndarray, "12 time"], index: Int[np.ndarray, " time"]
) -> Float32[np.ndarray, "12 time"]:
    """Replace each window of an ECG with straight lines between the samples before and after it.

    Args:
        ecg: The ECG.
        index: Number of each sample's window. Consecutive samples with equal numbers are one
            window.

    Returns:
        The lines. Those of the first and the last window are constant.
    """
    edges = np.flatnonzero(np.diff(index, prepend=-1, append=-1))
    lines = np.empty_like(ecg)
    last = ecg.shape[1] - 1
    for start, stop in pairwise(edges.tolist()):
        # At the ends of the record, there is a sample on one side only.
        before, after = max(start - 1, 0), min(stop, last)
        before = after if start == 0 else before
        after = before if stop > last else after
        weight = np.linspace(0, 1, stop - start + 2, dtype=np.float32)[1:-1]
        first, final = ecg[:, before, None], ecg[:, after, None]
        lines[:, start:stop] = first + weight * (final - first)
    return lines
