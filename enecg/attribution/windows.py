"""P, PR, QRS, ST and T windows of the beats of an ECG."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float32, Int

from enecg.ecg_format import SAMPLE_RATE_HZ
from enecg.experts.measurements.analysis import analyze
from enecg.experts.measurements.average_beat import BEFORE, find_dominant

REST = "rest"
"""Name for the samples in no other window, such as those from a T end to the next P onset."""

WINDOWS = ("P", "PR", "QRS", "ST", "T", REST)
"""Names of the windows. PR is the PR segment, from the P offset to the QRS onset; the PR interval
is the union of P and PR. ST is from the J point to the T onset, and is missing without a T wave."""


@dataclass(frozen=True)
class WaveWindows:
    """The window of each sample of an ECG.

    Attributes:
        index: Index into `WINDOWS` of each sample.
        beats: Number of beats whose waves are marked.
        other_beats: Number of beats of other shapes, whose waves are not marked.
        has_p: Whether there are P waves.
        has_t: Whether there are T waves.
    """

    index: Int[np.ndarray, " time"]
    beats: int
    other_beats: int
    has_p: bool
    has_t: bool

    def spans(self) -> dict[str, list[tuple[float, float]]]:
        """Return the start and end in s of each window, by name, without `REST`."""
        edges = np.flatnonzero(np.diff(self.index, prepend=-1, append=-1))
        spans: dict[str, list[tuple[float, float]]] = {name: [] for name in WINDOWS[:-1]}
        for start, stop in pairwise(edges.tolist()):
            name = WINDOWS[self.index[start]]
            if name != REST:
                spans[name].append((start / SAMPLE_RATE_HZ, stop / SAMPLE_RATE_HZ))
        return spans

    def seconds(self) -> dict[str, float]:
        """Return the total duration of each window in s."""
        counts = np.bincount(self.index, minlength=len(WINDOWS)) / SAMPLE_RATE_HZ
        return dict(zip(WINDOWS, counts.tolist(), strict=True))


def find_windows(ecg: Float32[np.ndarray, "12 time"]) -> WaveWindows | None:
    """Find the windows with the delineation of the expert `measurements`.

    The waves of the average beat are transferred to each beat of the dominant shape. Where windows
    overlap, the order of precedence is QRS, P, PR, T, ST.

    Args:
        ecg: ECG in mV at 500 Hz, leads in the order of `enecg.ecg_format.LEADS`.

    Returns:
        The windows; None if no beat was found.
    """
    analysis = analyze(ecg[None])
    if not analysis.average.used[0]:
        return None
    waves = analysis.waves
    is_dominant = find_dominant(analysis.beats)
    shifts = np.rint(analysis.beats.position[is_dominant]).astype(int) - BEFORE
    qrs, p, t = waves.qrs, waves.p, waves.t
    has_p, has_t = bool(waves.has_p[0]), bool(waves.has_t[0])
    t_onset = t.onset[0]
    # Later entries overwrite earlier ones.
    bounds = [
        ("ST", qrs.offset[0] + 1, t_onset, has_t),
        ("T", t_onset, t.end[0] + 1, has_t),
        ("PR", p.offset[0] + 1, qrs.onset[0], has_p),
        ("P", p.onset[0], p.offset[0] + 1, has_p),
        ("QRS", qrs.onset[0], qrs.offset[0] + 1, True),
    ]
    index = np.full(ecg.shape[1], WINDOWS.index(REST))
    for name, start, stop, is_found in bounds:
        for shift in shifts if is_found else ():
            index[max(0, start + shift) : max(0, stop + shift)] = WINDOWS.index(name)
    return WaveWindows(index, len(shifts), int((~is_dominant).sum()), has_p, has_t)
