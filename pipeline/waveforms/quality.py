"""Signal quality: findings on the leads of a record.

A finding is named by a word from `waveforms.decode.REASONS` if it makes the record unreadable, or
from `FINDINGS` if the record is used as it is. Precordial leads do not determine each other, so
a swap among them is not found.
"""

from dataclasses import dataclass
from itertools import permutations

import numpy as np
from jaxtyping import Bool, Float64

from enecg.signal import LEADS
from pipeline.waveforms.decode import MIN_SECONDS, LeadSignals

FINDINGS = (
    "clipped",
    "lead_off",
    "duplicated_leads",
    "swapped_leads",
    "inconsistent_limb_leads",
    "implausible_amplitude",
)
"""Findings that do not exclude a record."""

LIMB_LEADS = LEADS[:6]
"""I, II, III, aVR, aVL, aVF: any two of them determine the others."""

MIN_PLATEAU_SAMPLES = 5
"""Equal consecutive samples at a lead's minimum or maximum that form a plateau."""

MIN_CLIPPED_S = 0.02
"""Total duration of the plateaus of a clipped lead; a wave has a single peak."""

MIN_CLIPPED_RANGE_MV = 0.2
"""Smallest range of a clipped lead; plateaus of smaller leads result from the file's resolution."""

LEAD_OFF_S = 1.0
"""Duration of a constant signal that indicates a detached electrode: a cardiac pause has noise."""

LEAD_OFF_RANGE_MV = 0.01
"""Range below which a lead has no electrode: two units of MIMIC-IV-ECG's files."""

MAX_AMPLITUDE_MV = 20.0
"""Largest plausible amplitude; above it, the gain or unit is wrong, or a defibrillator fired."""

MIN_RANGE_MV = 0.1
"""If all leads have a smaller range, the gain or unit is wrong."""

LIMB_TOLERANCE = 0.1
"""Largest error of `_RELATIONS` (RMS), relative to the RMS of the limb leads."""

LIMB_NOISE_MV = 0.03
"""Error of `_RELATIONS` (RMS) that is always tolerated, for noise in small ECGs."""

_RELATIONS = np.array(
    [
        [1, -1, 1, 0, 0, 0],  # III = II - I (Einthoven)
        [0.5, 0.5, 0, 1, 0, 0],  # aVR = -(I + II) / 2 (Goldberger)
        [-1, 0.5, 0, 0, 1, 0],  # aVL = I - II / 2
        [0.5, -1, 0, 0, 0, 1],  # aVF = II - I / 2
    ]
)
"""Linear combinations of the limb leads that are 0 in every ECG."""

_ORDERS = np.array(list(permutations(range(len(LIMB_LEADS)))))


@dataclass(frozen=True)
class Finding:
    """A quality problem of a record.

    Attributes:
        reason: A word from `waveforms.decode.REASONS` or `FINDINGS`.
        leads: Affected leads; empty if it concerns the whole record.
    """

    reason: str
    leads: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.reason} ({', '.join(self.leads)})" if self.leads else self.reason


def examine(signals: LeadSignals) -> tuple[Finding, ...]:
    """Return all findings on a record, first those that make it unreadable."""
    rate_hz = signals.rate_hz
    missing = np.isnan(signals.mv).any(1)
    # An implausible gain may produce voltages whose squares overflow float32.
    voltage = np.nan_to_num(signals.mv).astype(np.float64)
    range_mv = np.ptp(voltage, axis=1)
    flat = (range_mv == 0) & ~missing
    usable = ~missing & ~flat
    lead_off = np.array([_longest_run(lead) >= LEAD_OFF_S * rate_hz for lead in voltage])
    lead_off |= range_mv < LEAD_OFF_RANGE_MV
    clipped = np.array([_clipped_samples(lead) >= MIN_CLIPPED_S * rate_hz for lead in voltage])
    masks = {
        "nan_samples": missing,
        "flat_lead": flat,
        "wrong_checksum": np.isin(LEADS, signals.checksum_mismatches),
        "clipped": clipped & usable,
        "lead_off": lead_off & usable,
        "duplicated_leads": _duplicated(voltage) & usable,
        "implausible_amplitude": (np.abs(voltage) > MAX_AMPLITUDE_MV).any(1)
        | (usable.all() & (range_mv < MIN_RANGE_MV).all()),
    }
    findings = [Finding(reason, _lead_names(mask)) for reason, mask in masks.items() if mask.any()]
    if voltage.shape[1] < MIN_SECONDS * rate_hz:
        findings.insert(0, Finding("too_short"))
    if usable[: len(LIMB_LEADS)].all():
        findings += _check_limb_leads(voltage[: len(LIMB_LEADS)])
    return tuple(findings)


def _lead_names(mask: Bool[np.ndarray, "12"]) -> tuple[str, ...]:
    return tuple(lead for lead, selected in zip(LEADS, mask, strict=True) if selected)


def _runs(lead: Float64[np.ndarray, " time"]) -> tuple[np.ndarray, np.ndarray]:
    """Return the first index and the length of every run of equal samples."""
    first = np.flatnonzero(np.append(True, lead[1:] != lead[:-1]))
    return first, np.diff(np.append(first, len(lead)))


def _longest_run(lead: Float64[np.ndarray, " time"]) -> int:
    return int(_runs(lead)[1].max())


def _clipped_samples(lead: Float64[np.ndarray, " time"]) -> int:
    """Return the number of samples in plateaus at the minimum or maximum, whichever is larger."""
    lowest, highest = lead.min(), lead.max()
    range_mv = highest - lowest
    if range_mv < MIN_CLIPPED_RANGE_MV:
        return 0
    first, length = _runs(lead)
    middle = np.median(lead)
    most = 0
    for extreme in (lowest, highest):
        # An extreme near the median is the baseline, not a peak.
        if abs(extreme - middle) >= range_mv / 2:
            plateau = (lead[first] == extreme) & (length >= MIN_PLATEAU_SAMPLES)
            # Filters repeat the first and the last sample of a record.
            plateau[[0, -1]] = False
            most = max(most, int(length[plateau].sum()))
    return most


def _duplicated(voltage: Float64[np.ndarray, "12 time"]) -> Bool[np.ndarray, "12"]:
    """Mark leads whose samples all equal those of another lead."""
    contents = [lead.tobytes() for lead in voltage]
    return np.array([contents.count(content) > 1 for content in contents])


def _check_limb_leads(voltage: Float64[np.ndarray, "6 time"]) -> list[Finding]:
    """Find limb leads that contradict each other, swapped or otherwise inconsistent."""
    # Each lead has an arbitrary offset.
    voltage = voltage - voltage.mean(1, keepdims=True)
    products = voltage @ voltage.T / voltage.shape[1]
    if _relative_errors(products, _ORDERS[:1])[0] <= LIMB_TOLERANCE:
        return []
    errors = _relative_errors(products, _ORDERS)
    best = int(errors.argmin())
    if errors[best] > LIMB_TOLERANCE:
        return [Finding("inconsistent_limb_leads")]
    moved = _ORDERS[best] != np.arange(len(LIMB_LEADS))
    return [Finding("swapped_leads", tuple(np.array(LIMB_LEADS)[moved].tolist()))]


def _relative_errors(
    products: Float64[np.ndarray, "6 6"], orders: np.ndarray
) -> Float64[np.ndarray, " order"]:
    """Compute from the covariance the largest error of `_RELATIONS` for each order of the leads."""
    permuted = products[orders[:, :, None], orders[:, None, :]]
    squares = np.einsum("ki,oij,kj->ok", _RELATIONS, permuted, _RELATIONS).clip(0)
    scale = max(np.sqrt(np.trace(products) / len(LIMB_LEADS)), LIMB_NOISE_MV / LIMB_TOLERANCE)
    errors: np.ndarray = np.sqrt(squares.max(1)) / scale
    return errors
