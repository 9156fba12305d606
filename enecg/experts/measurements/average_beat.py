"""Average of the beats that have the dominant shape of their record."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int

from enecg.ecg_format import SAMPLE_RATE_HZ
from enecg.experts.measurements.averaging import average_beats
from enecg.experts.measurements.detection import Beats

BEFORE, AFTER = 210, 360
"""Samples of an average beat before and after its fiducial point at 500 Hz: 420 and 720 ms."""

_DOMINANT = 0.85
"""Correlation of the QRS complex with the template above which a beat has the dominant shape."""


@dataclass(frozen=True)
class AverageBeat:
    """Average beats of a batch in the independent leads, at 500 Hz.

    Attributes:
        leads: Average beats in mV; the fiducial point is sample `BEFORE`. Zeros without beats.
        windows: The single beats that were averaged, in mV.
        record: Row in the batch of the record of each averaged beat.
        used: Number of averaged beats per record.
        dominant: Share of the record's beats that have the dominant shape.
        previous_s: Typical interval in s from the previous beat to an averaged one; 1 if unknown.
        next_s: Typical interval in s from an averaged beat to the next one; 1 if unknown.
    """

    leads: Float32[np.ndarray, "record lead window"]
    windows: Float32[np.ndarray, "beat lead window"]
    record: Int[np.ndarray, " beat"]
    used: Int[np.ndarray, " record"]
    dominant: Float32[np.ndarray, " record"]
    previous_s: Float64[np.ndarray, " record"]
    next_s: Float64[np.ndarray, " record"]


def make_average_beat(clean: Float32[np.ndarray, "record lead time"], beats: Beats) -> AverageBeat:
    """Average the beats of the dominant shape whose window lies within the record.

    If a record has none, all its beats of the dominant shape are used, with the first or last
    sample repeated beyond the ends.

    Args:
        clean: Filtered leads in mV at 500 Hz.
        beats: The beats.

    Returns:
        The average beats.
    """
    records, leads, steps = clean.shape
    position = np.rint(beats.position).astype(int)
    complete = (position >= BEFORE) & (position + AFTER <= steps)
    dominant = find_dominant(beats)
    chosen = dominant & complete
    has_complete = np.bincount(beats.record[chosen], minlength=records) > 0
    chosen |= dominant & ~has_complete[beats.record]
    record, position = beats.record[chosen], position[chosen].clip(0, steps - 1)
    padded = np.pad(clean, ((0, 0), (0, 0), (BEFORE, AFTER)), mode="edge")
    cuts = np.lib.stride_tricks.sliding_window_view(padded, BEFORE + AFTER, axis=-1)
    windows = cuts[record, :, position]
    # Beats have different offsets after the high-pass filter. Subtract the level of each beat
    # before its QRS complex.
    windows = windows - windows[..., BEFORE - 60 : BEFORE - 20].mean(-1, keepdims=True)
    flat = windows.reshape(len(windows), leads * (BEFORE + AFTER))
    average = average_beats(flat, record, records)
    return AverageBeat(
        leads=average.reshape(records, leads, BEFORE + AFTER),
        windows=windows,
        record=record,
        used=np.bincount(record, minlength=records),
        dominant=_share(dominant, beats),
        previous_s=_typical_interval(beats, chosen, 0),
        next_s=_typical_interval(beats, chosen, 1),
    )


def _typical_interval(
    beats: Beats, chosen: Bool[np.ndarray, " beat"], side: Literal[0, 1]
) -> Float64[np.ndarray, " record"]:
    """Return the typical interval before (0) or after (1) the chosen beats; 1 s if none exists."""
    interval_s = np.diff(beats.position) / SAMPLE_RATE_HZ
    same = np.diff(beats.record) == 0
    usable = np.flatnonzero(same & (chosen[:-1] if side else chosen[1:]))
    typical = average_beats(
        interval_s[usable, None].astype(np.float32), beats.record[usable], beats.records
    )[:, 0]
    return np.where(typical > 0, typical, 1.0).astype(np.float64)


def find_dominant(beats: Beats) -> Bool[np.ndarray, " beat"]:
    """Return the mask of the beats with the dominant shape.

    A beat has the dominant shape if its correlation with the template exceeds `_DOMINANT`. If this
    holds for fewer than two fifths of a record's beats, the threshold is 0.1 below the record's
    typical correlation instead.
    """
    dominant = beats.correlation > _DOMINANT
    rare = _share(dominant, beats) < 0.4
    typical = beats.typical_correlation[beats.record]
    result: np.ndarray = np.where(rare[beats.record], beats.correlation >= typical - 0.1, dominant)
    return result


def _share(mask: Bool[np.ndarray, " beat"], beats: Beats) -> Float32[np.ndarray, " record"]:
    marked = np.bincount(beats.record[mask], minlength=beats.records)
    share: np.ndarray = (marked / np.maximum(beats.count, 1)).astype(np.float32)
    return share
