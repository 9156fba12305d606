"""Filtering of ECGs."""

from functools import cache

from jaxtyping import Float
from torch import Tensor

from enecg.ecg_format import SAMPLE_RATE_HZ
from enecg.experts.filtering import Filtering
from enecg.running_median import running_median
from enecg.zero_phase import Sections, filter_zero_phase


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
        ecg: ECGs at 500 Hz, float32 or float64.
        filtering: The filters.

    Returns:
        The filtered ECGs, in the data type of the input.
    """
    notch, band = _design_filters(filtering)
    filtered = filter_zero_phase(filter_zero_phase(ecg, notch), band).to(ecg.dtype)
    return filtered - running_median(filtered, filtering.baseline_steps)
