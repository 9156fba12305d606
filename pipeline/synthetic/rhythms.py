"""What a heart does in ten seconds: rhythms by the machine's words, and when the beats fall."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64
from numpy.random import Generator

from enecg.signal import SECONDS

Atria = Literal["sinus", "ectopic", "paced", "fibrillating", "fluttering", "silent", "retrograde"]
Premature = Literal["", "ventricular", "atrial"]

NORMAL, VENTRICULAR, ATRIAL = 0, 1, 2
"""Kinds of beats: as the rhythm has them, premature ventricular, premature atrial."""

_MARGIN_S = 1.5  # beats just outside the ten seconds reach in with their waves


@dataclass(frozen=True)
class Rhythm:
    """One rhythm: the words of the machine for it, how common it is, and how it is made.

    `weight` is the relative frequency at 60 years of age and `ageing` the change of its logarithm
    a decade; `jitter` is the standard deviation of an interval as a part of it, `breathing`
    multiplies the patient's own respiratory swing, `delay_s` is added to the PR interval.
    """

    words: str
    weight: float
    rate_bpm: tuple[float, float]
    atria: Atria = "sinus"
    jitter: float = 0.008
    breathing: float = 1.0
    delay_s: float = 0.0
    paced_ventricles: bool = False
    premature: Premature = ""
    ageing: float = 0.0


RHYTHMS = (
    Rhythm("Sinus rhythm", 35.0, (61, 99)),
    Rhythm("Sinus bradycardia", 11.0, (42, 58)),
    Rhythm("Sinus tachycardia", 11.0, (102, 145), ageing=-0.2),
    Rhythm("Atrial fibrillation", 6.5, (62, 98), "fibrillating", jitter=0.2, ageing=0.5),
    Rhythm("Sinus rhythm with 1st degree A-V block", 4.5, (61, 95), delay_s=0.09, ageing=0.3),
    Rhythm("Sinus rhythm with PVC(s)", 4.5, (61, 95), premature="ventricular", ageing=0.2),
    Rhythm("Sinus rhythm with PAC(s)", 4.5, (61, 95), premature="atrial", ageing=0.2),
    Rhythm(
        "Atrial fibrillation with rapid ventricular response",
        *(3.5, (105, 155), "fibrillating"),
        jitter=0.2,
        ageing=0.4,
    ),
    Rhythm("Sinus arrhythmia", 3.0, (58, 88), breathing=5.0, ageing=-0.4),
    Rhythm(
        "Ventricular-paced rhythm",
        *(2.5, (60, 85), "silent"),
        jitter=0.002,
        breathing=0.0,
        paced_ventricles=True,
        ageing=0.5,
    ),
    Rhythm("Atrial flutter", 2.2, (62, 165), "fluttering", jitter=0.0, ageing=0.4),
    Rhythm("Sinus tachycardia with PVC(s)", 1.6, (102, 130), premature="ventricular"),
    Rhythm("Atrial-paced rhythm", 1.5, (60, 85), "paced", jitter=0.002, breathing=0.0, ageing=0.5),
    Rhythm(
        "A-V dual-paced rhythm",
        *(1.5, (60, 85), "paced"),
        jitter=0.002,
        breathing=0.0,
        paced_ventricles=True,
        ageing=0.5,
    ),
    Rhythm(
        "Sinus bradycardia with 1st degree A-V block",
        *(1.5, (42, 58)),
        delay_s=0.09,
        ageing=0.3,
    ),
    Rhythm(
        "Atrial fibrillation with slow ventricular response",
        *(1.2, (42, 57), "fibrillating"),
        jitter=0.2,
        ageing=0.5,
    ),
    Rhythm("Junctional rhythm", 1.2, (42, 62), "retrograde", breathing=0.2),
    Rhythm("Ectopic atrial rhythm", 1.2, (55, 95), "ectopic"),
    Rhythm("Supraventricular tachycardia", 1.1, (155, 200), "silent", 0.004, breathing=0.0),
)
"""The rhythms of the synthetic hospital, the most common first; the frequencies are uneven like a
hospital's, after the order of MIMIC-IV-ECG's machine reports, not after their counts."""


@dataclass(frozen=True)
class Beats:
    """When the ventricles beat, in s from the first sample, some just outside the recording.

    `kind` (beat,) of NORMAL, VENTRICULAR, ATRIAL; `mean_rr_s` the rhythm's own interval;
    `atrial_hz` the rate of flutter waves, 0 where the atria do not flutter.
    """

    time_s: Float64[np.ndarray, " beat"]
    kind: np.ndarray
    mean_rr_s: float
    atrial_hz: float = 0.0


def draw_rhythm(rng: Generator, age: float) -> Rhythm:
    """A rhythm as frequent as it is at this age (years)."""
    weights = np.array([r.weight * np.exp(r.ageing * (age - 60) / 10) for r in RHYTHMS])
    return RHYTHMS[int(rng.choice(len(RHYTHMS), p=weights / weights.sum()))]


def draw_beats(
    rng: Generator, rhythm: Rhythm, breathing_depth: float, breathing_hz: float
) -> Beats:
    """Beat times of a rhythm; `breathing_depth` is the swing of an interval as a part of it."""
    if rhythm.atria == "fluttering":
        return _flutter(rng)
    low, high = rhythm.rate_bpm
    mean = 60 / (low + (high - low) * rng.beta(2, 2))
    count = int((SECONDS + 2 * _MARGIN_S) / mean * 1.6) + 4
    if rhythm.atria == "fibrillating":
        # Intervals without memory; the node's refractory time is the floor.
        spread = rhythm.jitter * rng.uniform(0.8, 1.2)
        interval = np.maximum(mean * np.exp(rng.normal(-(spread**2) / 2, spread, count)), 0.29)
        # Rapid or slow is said of the mean, so the ten seconds have the rate that was drawn.
        interval *= mean / interval.mean()
        time = np.cumsum(interval) - _MARGIN_S - rng.uniform(0, mean)
        return Beats(time[time < SECONDS + _MARGIN_S], _kinds(time), mean)
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
        time, kind = _premature(rng, time, rhythm.premature)
    keep = time < SECONDS + _MARGIN_S
    return Beats(time[keep], kind[keep], mean)


def _kinds(time: np.ndarray) -> np.ndarray:
    return np.zeros(int((time < SECONDS + _MARGIN_S).sum()), np.int8)


def _flutter(rng: Generator) -> Beats:
    """Flutter waves at 250 to 330 a minute, every second, third or fourth of them conducted."""
    hz = rng.uniform(250, 330) / 60
    count = int((SECONDS + 2 * _MARGIN_S) * hz / 2) + 2
    ratio = int(rng.choice([2, 3, 4], p=[0.4, 0.15, 0.45]))
    ratios = np.full(count, ratio)
    if rng.random() < 0.25:  # variable block
        ratios = rng.choice([2, 4], size=count)
    time = np.cumsum(ratios) / hz - _MARGIN_S - rng.uniform(0, ratio / hz)
    time += 0.004 * rng.standard_normal(count)
    keep = time < SECONDS + _MARGIN_S
    return Beats(time[keep], np.zeros(int(keep.sum()), np.int8), float(ratios.mean() / hz), hz)


def _premature(
    rng: Generator, time: np.ndarray, origin: Premature
) -> tuple[np.ndarray, np.ndarray]:
    """Bring one to four beats forward: a ventricular one is followed by a full pause, an atrial
    one resets the sinus node."""
    time, kind = time.copy(), np.zeros(len(time), np.int8)
    inside = np.flatnonzero((time > 1.0) & (time < SECONDS - 1.0))
    wanted = int(rng.choice([1, 2, 3, 4], p=[0.35, 0.3, 0.2, 0.15]))
    candidates = rng.permutation(inside[:: 2 if len(inside) > 6 else 1])[:wanted]
    for beat in np.sort(candidates):
        interval = time[beat] - time[beat - 1]
        early = interval * rng.uniform(0.28, 0.42)
        if origin == "ventricular":
            time[beat] -= early
            kind[beat] = VENTRICULAR
        else:
            time[beat:] -= early
            time[beat + 1 :] += 0.08 * interval
            kind[beat] = ATRIAL
    return time, kind
