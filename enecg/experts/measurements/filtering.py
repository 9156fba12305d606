"""Zero-phase filters of the independent leads, applied in the frequency domain."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.fft
from jaxtyping import Float32

from enecg.ecg_format import SAMPLE_RATE_HZ

INDEPENDENT_LEADS = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
"""The leads that are filtered; III and the augmented leads are linear combinations of I and II."""

DETECTION_RATE_HZ = 250
"""Sampling rate of the signal for the detection of beats."""

PADDING = 200
"""Samples by which each end is extended, by point reflection about the first or last sample."""


@dataclass(frozen=True)
class FilteredLeads:
    """Filtered independent leads of a batch.

    Attributes:
        clean: Leads in mV at 500 Hz without baseline wander, mains hum and noise above 100 Hz.
        detection: Leads at 250 Hz in the band of the QRS complex.
        spectrum: Squared magnitudes of the discrete Fourier transform of the unfiltered leads,
            extended by `PADDING`.
    """

    clean: Float32[np.ndarray, "record 8 time"]
    detection: Float32[np.ndarray, "record 8 half_time"]
    spectrum: Float32[np.ndarray, "record 8 frequency"]


def filter_leads(leads: Float32[np.ndarray, "record 8 time"]) -> FilteredLeads:
    """Filter the independent leads.

    Args:
        leads: Leads in mV at 500 Hz.

    Returns:
        The filtered leads and their spectrum.
    """
    steps = leads.shape[-1]
    first, last = leads[..., :1], leads[..., -1:]
    extended = np.concatenate(
        [
            2 * first - leads[..., PADDING:0:-1],
            leads,
            2 * last - leads[..., -2 : -PADDING - 2 : -1],
        ],
        axis=-1,
    )
    length = extended.shape[-1]
    clean_gain, detection_gain = _gains(length)
    transform = scipy.fft.rfft(extended, axis=-1)
    clean = scipy.fft.irfft(transform * clean_gain, length, axis=-1)
    # Truncating the spectrum halves the sampling rate.
    half = transform[..., : len(detection_gain)] * detection_gain
    detection = scipy.fft.irfft(half, length // 2, axis=-1)
    return FilteredLeads(
        clean=clean[..., PADDING : PADDING + steps],
        detection=detection[..., PADDING // 2 : PADDING // 2 + steps // 2],
        spectrum=transform.real**2 + transform.imag**2,
    )


def frequencies(bins: int) -> Float32[np.ndarray, " frequency"]:
    """Return the frequency of each bin of `FilteredLeads.spectrum` in Hz."""
    return np.linspace(0, SAMPLE_RATE_HZ / 2, bins, dtype=np.float32)


@lru_cache(maxsize=4)
def _gains(
    length: int,
) -> tuple[Float32[np.ndarray, " frequency"], Float32[np.ndarray, " half_frequency"]]:
    """Return the gains of the two filters for a transform of this length."""
    hz = np.fft.rfftfreq(length, 1 / SAMPLE_RATE_HZ)
    mains = np.prod([1 - np.exp(-(((hz - peak) / 1.0) ** 2)) for peak in (50, 60, 100)], axis=0)
    clean = _high_pass(hz, 0.5, 2) * _low_pass(hz, 100, 3) * mains
    half = hz[: length // 4 + 1]
    detection = 0.5 * _high_pass(half, 6.5, 2) * _low_pass(half, 28, 2)
    return clean.astype(np.float32), detection.astype(np.float32)


def _low_pass(hz: np.ndarray, corner_hz: float, order: int) -> np.ndarray:
    """Return the gain of a Butterworth filter that is run forward and backward."""
    gain: np.ndarray = 1 / (1 + (hz / corner_hz) ** (2 * order))
    return gain


def _high_pass(hz: np.ndarray, corner_hz: float, order: int) -> np.ndarray:
    return 1 - _low_pass(hz, corner_hz, order)
