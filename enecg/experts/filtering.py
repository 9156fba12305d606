"""Filters that are applied to each lead before a model, as part of an expert's spec."""

from dataclasses import dataclass
from functools import cache

from jaxtyping import Float
from torch import Tensor

from enecg.ecg_format import SAMPLE_RATE_HZ
from enecg.running_median import running_median
from enecg.zero_phase import Sections, filter_zero_phase


@dataclass(frozen=True)
class Filtering:
    """Zero-phase filters of each lead, applied in this order before all other processing.

    Attributes:
        notch_hz: Center of the notch filter in Hz.
        notch_quality: Quality factor of the notch filter: its center divided by its width.
        band_hz: Corner frequencies of the Butterworth band-pass filter in Hz.
        band_order: Order of each edge of the band-pass filter.
        baseline_steps: Window of the running median that is subtracted, in samples; odd.
    """

    notch_hz: float
    notch_quality: float
    band_hz: tuple[float, float]
    band_order: int
    baseline_steps: int

    def __str__(self) -> str:
        low, high = self.band_hz
        return (
            f"notch {self.notch_hz:g} Hz, band-pass {low:g} to {high:g} Hz, baseline median of "
            f"{self.baseline_steps} samples"
        )


@cache
def _design_filters(filtering: Filtering) -> tuple[Sections, Sections]:
    """Return the second-order sections of the notch filter and of the band-pass filter."""
    # Imported here because training, which does not filter, should not wait for scipy.signal.
    from scipy.signal import butter, iirnotch, tf2sos

    notch = tf2sos(*iirnotch(filtering.notch_hz, filtering.notch_quality, SAMPLE_RATE_HZ))
    band = butter(
        filtering.band_order, filtering.band_hz, "bandpass", fs=SAMPLE_RATE_HZ, output="sos"
    )
    first, second = (
        tuple(tuple(map(float, section)) for section in sections) for sections in (notch, band)
    )
    return first, second


def apply_filters(
    ecg: Float[Tensor, "batch lead time"], filtering: Filtering
) -> Float[Tensor, "batch lead time"]:
    """Filter each lead: notch, band-pass, then subtraction of the running median.

    Args:
        ecg: ECGs at 500 Hz.
        filtering: The filters.

    Returns:
        The filtered ECGs, in the data type of the input.
    """
    notch, band = _design_filters(filtering)
    filtered = filter_zero_phase(filter_zero_phase(ecg, notch), band).to(ecg.dtype)
    return filtered - running_median(filtered, filtering.baseline_steps)
