"""What an ECG is here: twelve leads in one order, 10 s, 500 Hz, millivolts; and how it is resampled."""

from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from scipy.signal import firwin
from torch import Tensor

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
"""The order of leads everywhere past the decoder (that of the standard 12-lead printout)."""

SAMPLE_RATE_HZ = 500
SECONDS = 10
SAMPLES = SAMPLE_RATE_HZ * SECONDS


@cache
def _low_pass(up: int, down: int) -> Tensor:
    """An FIR low-pass at the lower of the two Nyquist rates, gain `up`, ten zero crossings a side."""
    widest = max(up, down)
    taps = firwin(20 * widest + 1, 1 / widest, window=("kaiser", 5.0)) * up
    return torch.from_numpy(taps.astype(np.float32))


def resample(ecg: Float[Tensor, "*batch time"], steps: int) -> Float[Tensor, "*batch steps"]:
    """Bring a signal to `steps` samples over the same time, low-passed first so nothing aliases.

    Rational polyphase resampling (upsample, windowed-sinc low-pass, downsample) with the edge
    samples held beyond the ends. Each series is resampled alone: its result does not depend
    on its batch mates.
    """
    time = ecg.shape[-1]
    if time == steps:
        return ecg
    common = int(np.gcd(time, steps))
    up, down = steps // common, time // common
    taps = _low_pass(up, down).to(device=ecg.device, dtype=ecg.dtype)
    half = (len(taps) - 1) // 2
    # Edge samples enough that the filter never reaches past what is held.
    margin = -(-half // up) + 1
    series = ecg.reshape(-1, 1, time)
    series = torch.nn.functional.pad(series, (margin, margin), mode="replicate")
    if up == 1:
        filtered = torch.nn.functional.conv1d(series, taps.view(1, 1, -1), stride=down)
        start = margin - half
        filtered = torch.nn.functional.conv1d(
            series[..., start:], taps.view(1, 1, -1), stride=down
        )
    else:
        # A transposed convolution is upsampling with zeros and filtering in one step.
        filtered = torch.nn.functional.conv_transpose1d(series, taps.view(1, 1, -1), stride=up)
        filtered = filtered[..., half + margin * up :: down]
    return filtered[..., :steps].reshape(*ecg.shape[:-1], steps)
