"""All measurements of a batch of ECGs."""

import numpy as np
from jaxtyping import Float32, Float64

from enecg.experts.measurements import (
    amplitudes,
    axes,
    intervals,
    quality,
    rhythm,
    spectrum,
    voltages,
)
from enecg.experts.measurements.analysis import analyze
from enecg.experts.measurements.deflections import find_deflections
from enecg.experts.measurements.feature import Feature, impute

FEATURES: tuple[Feature, ...] = (
    *rhythm.FEATURES,
    *intervals.FEATURES,
    *amplitudes.FEATURES,
    *axes.FEATURES,
    *voltages.FEATURES,
    *spectrum.FEATURES,
    *quality.FEATURES,
)
"""All features, in the order of the embedding."""

LIMIT = 60_000.0
"""Largest absolute value of a feature; larger ones are clipped. float16 represents up to 65,504."""

_CHUNK = 32
"""Number of records per block, chosen so that intermediate arrays fit into the CPU's cache."""


def measure(ecg: Float32[np.ndarray, "record 12 5000"]) -> Float64[np.ndarray, "record feature"]:
    """Measure a batch of ECGs.

    Args:
        ecg: ECGs in mV at 500 Hz.

    Returns:
        The values of `FEATURES`; all NaN for a record with a sample that is not finite.
    """
    values = np.full((len(ecg), len(FEATURES)), np.nan)
    finite = np.flatnonzero(np.isfinite(ecg).all((1, 2)))
    for first in range(0, len(finite), _CHUNK):
        rows = finite[first : first + _CHUNK]
        values[rows] = _measure_finite(ecg[rows])
    return values.clip(-LIMIT, LIMIT)


def _measure_finite(
    ecg: Float32[np.ndarray, "record 12 5000"],
) -> Float64[np.ndarray, "record feature"]:
    analysis = analyze(ecg)
    waves = analysis.waves
    qrs = find_deflections(waves)
    non_qrs = amplitudes.measure_non_qrs_waves(waves)
    values = {
        **rhythm.measure_rhythm(analysis.beats, analysis.average),
        **intervals.measure_intervals(waves),
        **amplitudes.measure_amplitudes(qrs, non_qrs),
        **axes.measure_axes(waves, qrs, non_qrs),
        **voltages.measure_voltages(waves, qrs, non_qrs),
        **spectrum.measure_spectrum(analysis.filtered.spectrum),
        **quality.measure_quality(ecg, analysis),
    }
    return impute(FEATURES, values)
