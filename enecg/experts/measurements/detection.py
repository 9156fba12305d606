"""Detection of heart beats over all leads."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int

from enecg.ecg_format import SAMPLE_RATE_HZ
from enecg.experts.measurements.averaging import average_beats
from enecg.experts.measurements.bursts import is_smooth
from enecg.experts.measurements.candidates import Candidates
from enecg.experts.measurements.envelope import Envelope
from enecg.experts.measurements.filtering import DETECTION_RATE_HZ
from enecg.experts.measurements.refractory import remove_close_peaks, search_gaps

HALF_WIDTH = 17
"""Half of the template's length in samples at 250 Hz: 68 ms."""
MAX_LAG = 6
"""Largest correction of a beat's position in samples at 250 Hz: 24 ms."""

_SIMILAR = 0.6
"""Correlation above which two peaks have the same shape, before they are aligned."""

_STRONG, _ABOVE_NOISE = 0.42, 1.6
"""Smallest height of a beat that does not resemble the template, relative to the level and to the
envelope's median."""
_EDGE = 15
"""Samples at each end of a record in which a beat must resemble the template: 60 ms."""

LIKE_TEMPLATE = 0.7
"""Correlation with the template above which a low peak is a beat."""
MIN_TYPICAL_CORRELATION = 0.55
"""Smallest typical correlation of a record's beats with their template. A record with a smaller one
has no repeated shape and therefore no beats."""
FEW_BEATS = 4
ALIKE = 0.8
MIN_CONTRAST, MIN_CONTRAST_ALIKE, MIN_CONTRAST_FEW = 3.0, 2.5, 5.0
"""Smallest ratio of the envelope's level to its median for records with beats: in general; if the
typical correlation exceeds `ALIKE`; and for fewer than `FEW_BEATS` beats, because few beats always
correlate with their own template. White noise that is the same in all leads reaches a ratio of 2.9
and a correlation of 0.87, so beats are detected in about 1 % of such records. Records of LUDB and
PTB-XL have ratios of at least 5, and wide synthetic QRS complexes 2.9."""


@dataclass(frozen=True)
class Beats:
    """The beats of a batch, one element per beat, sorted by record and position.

    Attributes:
        record: Row of the record in the batch.
        position: Position in samples at 500 Hz, interpolated.
        correlation: Correlation with the record's template of the QRS complex over all leads.
        typical_correlation: Average (`average_beats`) of the correlations of a record's accepted
            peaks. A record below `MIN_TYPICAL_CORRELATION` has no beats.
        records: Number of records.
    """

    record: Int[np.ndarray, " beat"]
    position: Float64[np.ndarray, " beat"]
    correlation: Float32[np.ndarray, " beat"]
    typical_correlation: Float32[np.ndarray, " record"]
    records: int

    @property
    def count(self) -> Int[np.ndarray, " record"]:
        """Number of beats per record."""
        return np.bincount(self.record, minlength=self.records)


def detect_beats(envelope: Envelope, clean: Float32[np.ndarray, "record lead time"]) -> Beats:
    """Detect the beats of a batch.

    Peaks of the envelope are beats if they resemble the record's template of the QRS complex, or
    if they are high, isolated, smooth and present in most leads, as ectopic beats are.

    Args:
        envelope: The detection envelope.
        clean: Filtered leads at 500 Hz.

    Returns:
        The beats.
    """
    records = len(envelope.leads)
    record, peak = envelope.find_peaks()
    height = envelope.energy[record, peak] / np.maximum(envelope.level[record], 1e-9)
    contrast = envelope.level / np.maximum(envelope.noise, 1e-9)
    windows = _cut_windows(envelope, record, peak)
    center = windows[..., MAX_LAG:-MAX_LAG]
    strong = (height > _STRONG) & _is_isolated(envelope, record, peak)
    initial = strong & _is_in_most_leads(center, strong, record, envelope)
    majority = _find_majority(center, initial, record)
    template = _make_template(center, majority, record, records)
    lag, correlation = _align(windows, template, record)
    # The second template is made of aligned beats, and is sharper.
    shifted = _cut_at_lag(windows, lag)
    like = initial & (correlation > LIKE_TEMPLATE)
    template = _make_template(shifted, like, record, records)
    lag, correlation = _align(windows, template, record)
    candidates = Candidates(record, peak + lag, height, correlation)
    like = correlation > LIKE_TEMPLATE
    # At the ends of a record, a part of a T wave may look like a beat.
    time = envelope.energy.shape[1]
    inner = (np.minimum(peak, time - 1 - peak) >= _EDGE) | (correlation > 0.5)
    accepted = (
        initial
        & inner
        & (height * contrast[record] > _ABOVE_NOISE)
        & is_smooth(clean, record, 2 * peak, initial & like)
    ) | (like & (height > 0.2))
    accepted = remove_close_peaks(candidates, accepted)
    accepted = search_gaps(candidates, accepted, envelope)
    typical = _typical(correlation, accepted, record, records)
    repeated = typical >= MIN_TYPICAL_CORRELATION
    few = np.bincount(record[accepted], minlength=records) < FEW_BEATS
    usual = np.where(typical > ALIKE, MIN_CONTRAST_ALIKE, MIN_CONTRAST)
    distinct = contrast > np.where(few, MIN_CONTRAST_FEW, usual)
    accepted &= (repeated & distinct)[record]
    ratio = SAMPLE_RATE_HZ / DETECTION_RATE_HZ
    return Beats(
        record[accepted],
        ratio * candidates.position[accepted],
        correlation[accepted],
        typical,
        records,
    )


def _cut_windows(
    envelope: Envelope, record: Int[np.ndarray, " peak"], peak: Int[np.ndarray, " peak"]
) -> Float32[np.ndarray, "peak lead window"]:
    """Cut the weighted leads around each peak; samples beyond the ends are 0."""
    reach = HALF_WIDTH + MAX_LAG
    leads = envelope.leads * np.sqrt(envelope.weight)[..., None]
    padded = np.pad(leads, ((0, 0), (0, 0), (reach, reach)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1, axis=-1)
    cut: np.ndarray = windows[record, :, peak]
    return cut


def _is_isolated(
    envelope: Envelope, record: Int[np.ndarray, " peak"], peak: Int[np.ndarray, " peak"]
) -> Bool[np.ndarray, " peak"]:
    """Return whether a peak exceeds twice the envelope's mean 140 to 320 ms before or after it."""
    near, far = 35, 80
    padded = np.pad(envelope.energy, ((0, 0), (far, far)), mode="reflect")
    total = np.pad(np.cumsum(padded, axis=1, dtype=np.float64), ((0, 0), (1, 0)))
    position = peak + far

    def mean(start: int, stop: int) -> np.ndarray:
        span = total[record, position + stop] - total[record, position + start]
        value: np.ndarray = span / (stop - start)
        return value

    surrounding = np.minimum(mean(-far, -near), mean(near + 1, far + 1))
    isolated: np.ndarray = envelope.energy[record, peak] > 2 * surrounding
    return isolated


def _is_in_most_leads(
    windows: Float32[np.ndarray, "peak lead window"],
    strong: Bool[np.ndarray, " peak"],
    record: Int[np.ndarray, " peak"],
    envelope: Envelope,
) -> Bool[np.ndarray, " peak"]:
    """Return whether leads with half of the weight exceed a fifth of a usual beat's energy."""
    energy = (windows**2).mean(-1)
    usual = average_beats(energy[strong], record[strong], len(envelope.leads))
    present = energy > 0.2 * usual[record]
    share = (present * envelope.weight[record]).sum(1)
    most: np.ndarray = share >= 0.5
    return most


def _find_majority(
    windows: Float32[np.ndarray, "peak lead window"],
    chosen: Bool[np.ndarray, " peak"],
    record: Int[np.ndarray, " peak"],
) -> Bool[np.ndarray, " peak"]:
    """Return the mask of the largest group of each record's chosen peaks that resemble one peak."""
    majority = np.zeros_like(chosen)
    index = np.flatnonzero(chosen)
    for own in np.split(index, np.flatnonzero(np.diff(record[index])) + 1):
        flat = windows[own].reshape(len(own), windows.shape[1] * windows.shape[2])
        flat = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-9)
        similar = flat @ flat.T > _SIMILAR
        if len(own):
            majority[own[similar[similar.sum(1).argmax()]]] = True
    return majority


def _make_template(
    windows: Float32[np.ndarray, "peak lead window"],
    chosen: Bool[np.ndarray, " peak"],
    record: Int[np.ndarray, " peak"],
    records: int,
) -> Float32[np.ndarray, "record lead window"]:
    flat = windows[chosen].reshape(int(chosen.sum()), windows.shape[1] * windows.shape[2])
    return average_beats(flat, record[chosen], records).reshape(records, *windows.shape[1:])


def _align(
    windows: Float32[np.ndarray, "peak lead window"],
    template: Float32[np.ndarray, "record lead template"],
    record: Int[np.ndarray, " peak"],
) -> tuple[Float64[np.ndarray, " peak"], Float32[np.ndarray, " peak"]]:
    """Find the lag of the highest correlation of each peak with its record's template.

    Args:
        windows: Samples around each peak, `MAX_LAG` longer than the template at both ends.
        template: Template of each record.
        record: Row of each peak's record.

    Returns:
        Lag in samples, interpolated by a parabola, and highest correlation at a whole lag.
    """
    width = template.shape[-1]
    reference = template[record]
    reference_power = (reference**2).sum((1, 2))
    power = np.cumsum(np.pad((windows**2).sum(1), ((0, 0), (1, 0))), axis=1)
    correlations = np.empty((2 * MAX_LAG + 1, len(windows)), np.float32)
    for lag in range(2 * MAX_LAG + 1):
        product = (windows[..., lag : lag + width] * reference).sum((1, 2))
        scale = np.sqrt(np.maximum(power[:, lag + width] - power[:, lag], 0) * reference_power)
        correlations[lag] = product / np.maximum(scale, 1e-9)
    best = correlations.argmax(0)
    peaks = np.arange(len(windows))
    inner = best.clip(1, 2 * MAX_LAG - 1)
    left, middle, right = (correlations[inner + step, peaks] for step in (-1, 0, 1))
    curvature = 2 * middle - left - right
    offset = np.where(curvature > 1e-6, 0.5 * (right - left) / np.maximum(curvature, 1e-6), 0)
    lags = inner + offset.clip(-1, 1).astype(np.float64) - MAX_LAG
    return lags, correlations[best, peaks]


def _cut_at_lag(
    windows: Float32[np.ndarray, "peak lead window"], lag: Float64[np.ndarray, " peak"]
) -> Float32[np.ndarray, "peak lead template"]:
    """Cut the template's length out of each window, at the nearest whole lag."""
    width = 2 * HALF_WIDTH + 1
    cuts = np.lib.stride_tricks.sliding_window_view(windows, width, axis=-1)
    shifted: np.ndarray = cuts[np.arange(len(windows)), :, np.rint(lag).astype(int) + MAX_LAG]
    return shifted


def _typical(
    values: Float32[np.ndarray, " peak"],
    chosen: Bool[np.ndarray, " peak"],
    record: Int[np.ndarray, " peak"],
    records: int,
) -> Float32[np.ndarray, " record"]:
    return average_beats(values[chosen][:, None], record[chosen], records)[:, 0]
