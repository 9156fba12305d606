"""ECGs with known beats and waves, for the tests of the measurements."""

from collections.abc import Sequence

import numpy as np

from enecg.experts.measurements.measure import FEATURES, measure

SECONDS = np.arange(5000) / 500

QRS = ((-0.02, 0.006, -0.12), (0.0, 0.010, 1.0), (0.025, 0.008, -0.3))
"""Time from the R peak in s, width in s and height in mV of Q, R and S."""
P, T = (-0.16, 0.022, 0.12), (0.27, 0.045, 0.3)
"""Time, width and height of the P wave and the T wave, in the units of `QRS`."""

LEAD_GAINS = {
    "qrs": (0.7, 1.0, -0.8, -0.5, 0.3, 0.9, 1.2, 1.0),
    "p": (0.7, 1.0, 0.4, 0.5, 0.5, 0.6, 0.6, 0.5),
    "t": (0.8, 1.0, -0.2, 1.2, 1.4, 1.3, 1.0, 0.8),
}
"""Factors of the heights of the waves in leads I, II and V1 to V6."""


def regular_beats(rr: float = 0.8, first: float = 0.4) -> np.ndarray:
    """Return the times of regular beats in s."""
    return np.arange(first, 9.9, rr)


def make_ecg(
    beats: Sequence[float] | np.ndarray,
    *,
    p: tuple[float, float, float] | None = P,
    qrs: Sequence[tuple[float, float, float]] = QRS,
    t: tuple[float, float, float] | None = T,
    noise_mv: float = 0.01,
    seed: int = 0,
) -> np.ndarray:
    """Return an ECG (12, 5000) in mV: noise, and Gaussian waves at the times `beats` in s."""

    def waves(*parts: tuple[float, float, float]) -> np.ndarray:
        time = SECONDS[:, None] - np.asarray(beats)
        return sum(
            (height * np.exp(-0.5 * ((time - at) / width) ** 2)).sum(1)
            for at, width, height in parts
        )

    groups = {"p": (p,) if p else (), "qrs": qrs, "t": (t,) if t else ()}
    independent = sum(
        np.outer(LEAD_GAINS[name], waves(*parts)) for name, parts in groups.items() if parts
    ) + np.zeros((8, 5000))
    rng = np.random.default_rng(seed)
    return twelve_leads(independent + noise_mv * rng.standard_normal((8, 5000)))


def twelve_leads(independent: np.ndarray) -> np.ndarray:
    """Return twelve leads from I, II and V1 to V6, by Einthoven's and Goldberger's laws."""
    first, second = independent[:2]
    limb = [first, second, second - first, -(first + second) / 2]
    limb += [first - second / 2, second - first / 2]
    return np.concatenate([limb, independent[2:]]).astype(np.float32)


def measure_one(ecg: np.ndarray) -> dict[str, float]:
    """Return the features of an ECG by name."""
    values = measure(ecg[None].astype(np.float32))[0]
    return {feature.name: float(value) for feature, value in zip(FEATURES, values, strict=True)}
