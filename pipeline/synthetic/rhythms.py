"""Heart rhythms, named as in machine reports, and their beat times in a 10 s recording."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int8
from numpy.random import Generator

from enecg.ecg_format import SECONDS

Atria = Literal["sinus", "ectopic", "paced", "fibrillating", "fluttering", "none", "retrograde"]
Premature = Literal["", "ventricular", "atrial"]

NORMAL, VENTRICULAR, ATRIAL = 0, 1, 2
"""Beat types: regular, premature ventricular, premature atrial."""

_MARGIN_S = 1.5
"""Seconds before and after the recording for which beats are drawn too, because their waves may
extend into the recording."""


@dataclass(frozen=True)
class Rhythm:
    """A rhythm, its frequency and its simulation parameters.

    Attributes:
        report: Line in the machine report.
        weight: Relative frequency at age 60.
        rate_bpm: Lowest and highest ventricular rate in beats per minute.
        atria: Atrial activity; ``"none"`` means no P wave.
        jitter: Standard deviation of the RR interval, as a fraction of the interval.
        breathing: Multiplier of the patient's respiratory variation.
        delay_s: Prolongation of the PR interval in seconds.
        paced_ventricles: Whether a pacemaker stimulates the ventricles.
        premature: Origin of premature beats; empty for none.
        aging: Change of the logarithm of `weight` per decade of age.
    """

    report: str
    weight: float
    rate_bpm: tuple[float, float]
    atria: Atria = "sinus"
    jitter: float = 0.008
    breathing: float = 1.0
    delay_s: float = 0.0
    paced_ventricles: bool = False
    premature: Premature = ""
    aging: float = 0.0


RHYTHMS = (
    Rhythm("Sinus rhythm", 35.0, (61, 99)),
    Rhythm("Sinus bradycardia", 11.0, (42, 58)),
    Rhythm("Sinus tachycardia", 11.0, (102, 145), aging=-0.2),
    Rhythm("Atrial fibrillation", 6.5, (62, 98), "fibrillating", jitter=0.2, aging=0.5),
    Rhythm("Sinus rhythm with 1st degree A-V block", 4.5, (61, 95), delay_s=0.09, aging=0.3),
    Rhythm("Sinus rhythm with PVC(s)", 4.5, (61, 95), premature="ventricular", aging=0.2),
    Rhythm("Sinus rhythm with PAC(s)", 4.5, (61, 95), premature="atrial", aging=0.2),
    Rhythm(
        "Atrial fibrillation with rapid ventricular response",
        3.5,
        (105, 155),
        "fibrillating",
        jitter=0.2,
        aging=0.4,
    ),
    Rhythm("Sinus arrhythmia", 3.0, (58, 88), breathing=5.0, aging=-0.4),
    Rhythm(
        "Ventricular-paced rhythm",
        2.5,
        (60, 85),
        "none",
        jitter=0.002,
        breathing=0.0,
        paced_ventricles=True,
        aging=0.5,
    ),
    Rhythm("Atrial flutter", 2.2, (62, 165), "fluttering", jitter=0.0, aging=0.4),
    Rhythm("Sinus tachycardia with PVC(s)", 1.6, (102, 130), premature="ventricular"),
    Rhythm("Atrial-paced rhythm", 1.5, (60, 85), "paced", jitter=0.002, breathing=0.0, aging=0.5),
    Rhythm(
        "A-V dual-paced rhythm",
        1.5,
        (60, 85),
        "paced",
        jitter=0.002,
        breathing=0.0,
        paced_ventricles=True,
        aging=0.5,
    ),
    Rhythm("Sinus bradycardia with 1st degree A-V block", 1.5, (42, 58), delay_s=0.09, aging=0.3),
    Rhythm(
        "Atrial fibrillation with slow ventricular response",
        1.2,
        (42, 57),
        "fibrillating",
        jitter=0.2,
        aging=0.5,
    ),
    Rhythm("Junctional rhythm", 1.2, (42, 62), "retrograde", breathing=0.2),
    Rhythm("Ectopic atrial rhythm", 1.2, (55, 95), "ectopic"),
    Rhythm("Supraventricular tachycardia", 1.1, (155, 200), "none", 0.004, breathing=0.0),
)
"""All rhythms by decreasing frequency, in the same order as in the machine reports of MIMIC-IV-ECG.
The weights imitate the imbalance in a hospital; they are not counts from MIMIC-IV-ECG."""


@dataclass(frozen=True)
class Beats:
    """The ventricular beats in a recording and in a margin before and after it.

    Attributes:
        time_s: Seconds from the first sample.
        kind: Type of each beat: `NORMAL`, `VENTRICULAR` or `ATRIAL`.
        mean_rr_s: Mean RR interval of the rhythm in seconds.
        atrial_hz: Rate of the flutter waves; 0 without flutter.
    """

    time_s: Float64[np.ndarray, " beat"]
    kind: Int8[np.ndarray, " beat"]
    mean_rr_s: float
    atrial_hz: float = 0.0


def draw_rhythm(rng: Generator, age: float) -> Rhythm:
    """Draw a rhythm.

    Args:
        rng: Random generator.
        age: Age in years, which changes the frequencies of the rhythms.

    Returns:
        One of `RHYTHMS`.
    """
    weights = np.array([r.weight * np.exp(r.aging * (age - 60) / 10) for r in RHYTHMS])
    return RHYTHMS[int(rng.choice(len(RHYTHMS), p=weights / weights.sum()))]


def draw_beats(
    rng: Generator, rhythm: Rhythm, breathing_depth: float, breathing_hz: float
) -> Beats:
    """Draw the beats of a ten-second recording.

    Args:
        rng: Random generator.
        rhythm: The rhythm.
        breathing_depth: Respiratory variation of the RR interval, as a fraction of the interval.
        breathing_hz: Respiratory rate in Hz.

    Returns:
        The beats, sorted by time.
    """
    if rhythm.atria == "fluttering":
        return _draw_flutter(rng)
    low, high = rhythm.rate_bpm
    mean = 60 / (low + (high - low) * rng.beta(2, 2))
    count = int((SECONDS + 2 * _MARGIN_S) / mean * 1.6) + 4
    if rhythm.atria == "fibrillating":
        # Intervals are independent, and at least the refractory period of the AV node.
        sigma = rhythm.jitter * rng.uniform(0.8, 1.2)
        interval = np.maximum(mean * np.exp(rng.normal(-(sigma**2) / 2, sigma, count)), 0.29)
        # The report may call the rate rapid or slow, so the mean interval must be as drawn.
        interval *= mean / interval.mean()
        time = np.cumsum(interval) - _MARGIN_S - rng.uniform(0, mean)
        time = time[time < SECONDS + _MARGIN_S]
        return Beats(time, np.zeros(len(time), np.int8), mean)
    depth = min(breathing_depth * rhythm.breathing, 0.22)
    phase = rng.uniform(0, 2 * np.pi)
    nominal = np.arange(count) * mean
    interval = mean * (
        1
        + depth * np.sin(2 * np.pi * breathing_hz * nominal + phase)
        + rhythm.jitter * rng.standard_normal(count)
    )
    time = np.cumsum(interval) - _MARGIN_S - rng.uniform(0, mean)
    kind = np.zeros(count, np.int8)
    if rhythm.premature:
        time, kind = _add_premature(rng, time, rhythm.premature)
    keep = time < SECONDS + _MARGIN_S
    return Beats(time[keep], kind[keep], mean)


def _draw_flutter(rng: Generator) -> Beats:
    """Draw the beats of flutter (250 to 330 per minute) with 2:1, 3:1, 4:1 or variable AV block."""
    flutter_hz = rng.uniform(250, 330) / 60
    count = int((SECONDS + 2 * _MARGIN_S) * flutter_hz / 2) + 2
    ratio = int(rng.choice([2, 3, 4], p=[0.4, 0.15, 0.45]))
    ratios = np.full(count, ratio)
    if rng.random() < 0.25:  # variable block
        ratios = rng.choice([2, 4], size=count)
    time = np.cumsum(ratios) / flutter_hz - _MARGIN_S - rng.uniform(0, ratio / flutter_hz)
    time += 0.004 * rng.standard_normal(count)
    time = time[time < SECONDS + _MARGIN_S]
    mean_rr_s = float(ratios.mean() / flutter_hz)
    return Beats(time, np.zeros(len(time), np.int8), mean_rr_s, flutter_hz)


def _add_premature(
    rng: Generator, time: np.ndarray, origin: Premature
) -> tuple[np.ndarray, np.ndarray]:
    """Make one to four beats premature, and return the times and types of all beats."""
    time, kind = time.copy(), np.zeros(len(time), np.int8)
    eligible = np.flatnonzero((time > 1.0) & (time < SECONDS - 1.0))
    count = int(rng.choice([1, 2, 3, 4], p=[0.35, 0.3, 0.2, 0.15]))
    premature = rng.permutation(eligible[:: 2 if len(eligible) > 6 else 1])[:count]
    for beat in np.sort(premature):
        interval = time[beat] - time[beat - 1]
        advance = interval * rng.uniform(0.28, 0.42)
        if origin == "ventricular":
            # The beat does not reset the sinus node, so a full compensatory pause follows.
            time[beat] -= advance
            kind[beat] = VENTRICULAR
        else:
            # The beat resets the sinus node, so all later beats shift.
            time[beat:] -= advance
            time[beat + 1 :] += 0.08 * interval
            kind[beat] = ATRIAL
    return time, kind
