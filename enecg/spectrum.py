"""Log spectrum of the sampled leads, the default input of the gate."""

import torch
from jaxtyping import Float
from torch import Tensor

from enecg.leads import SAMPLED_LEADS, STEPS

BANDS = 50
"""Bands per lead, each 0.4 Hz wide, from 0.1 to 20 Hz."""

BAND_FREQUENCIES = 4
"""Frequencies per band, 0.1 Hz apart because the leads are 10 s long."""

MIN_POWER = 1e-6
"""Constant added to the power, so that its logarithm is finite for a flat lead."""


def log_spectrum(
    leads: Float[Tensor, "record sample"], window: Float[Tensor, " step"] | None = None
) -> Float[Tensor, "record band"]:
    """Compute the log power of each sampled lead in bands of its spectrum.

    Unlike the samples, these values hardly depend on the times of the heart beats.

    Args:
        leads: Sampled leads in mV, as in `LeadsSample`.
        window: Window that each lead is multiplied by. Default: Hann.

    Returns:
        `BANDS` values per lead.
    """
    signal = leads.float().unflatten(-1, (len(SAMPLED_LEADS), STEPS))
    signal = signal - signal.mean(-1, keepdim=True)
    window = hann_window().to(signal.device) if window is None else window
    power = torch.fft.rfft(signal * window).abs().square()
    banded = power[..., 1 : 1 + BANDS * BAND_FREQUENCIES].unflatten(-1, (BANDS, -1)).mean(-1)
    spectrum: Tensor = (banded + MIN_POWER).log().flatten(-2)
    return spectrum


def hann_window() -> Float[Tensor, " step"]:
    """Return a periodic Hann window of `STEPS` samples."""
    return torch.hann_window(STEPS)
