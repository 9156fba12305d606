"""What is wrong with an ECG, as far as its signals tell.

A finding has a word out of `waveforms.decode.REASONS`, where no embedding can be had of such a
record, or out of `FINDINGS`, which leave the record as it is.
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
"""What is told of records besides the reasons for which they cannot be used."""

LIMB = LEADS[:6]
"""I, II, III, aVR, aVL, aVF: any two of them tell the others."""

LEAST_RUN = 5
"""Equal samples after each other at the highest or lowest voltage of a lead: a plateau."""

LEAST_PLATEAU_S = 0.02
"""So long must the plateaus at an extreme be together to be clipping: a wave has one peak."""

LEAST_RANGE_MV = 0.2
"""Of a lead that can be clipped: in a smaller one, a plateau is the resolution of its file."""

LEAD_OFF_S = 1.0
"""So long without any change an electrode is off: no pause of a heart is free of noise."""

LARGEST_MV = 20.0
"""Beyond what a heart gives at the skin: a wrong gain or unit, or a defibrillator."""

SMALLEST_MV = 0.1
"""Below it no lead of a record has any wave: a wrong gain or unit."""

LEAST_NOISE_MV = 0.01
"""A lead whose whole range is less has no electrode: two steps of MIMIC-IV-ECG's files."""

LIMB_TOLERANCE = 0.1
"""What limb leads may miss of what the others say, root mean square over that of all six."""

LIMB_NOISE_MV = 0.03
"""What they may miss in any case: noise of a few microvolts in each lead of a small ECG."""

_RELATIONS = np.array(
    [
        [1, -1, 1, 0, 0, 0],  # III = II - I (Einthoven)
        [0.5, 0.5, 0, 1, 0, 0],  # aVR = -(I + II) / 2 (Goldberger)
        [-1, 0.5, 0, 0, 1, 0],  # aVL = I - II / 2
        [0.5, -1, 0, 0, 0, 1],  # aVF = II - I / 2
    ]
)
"""Sums of the limb leads that are 0 in every ECG."""

_ORDERS = np.array(list(permutations(range(len(LIMB)))))


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a record: a word for it, and the leads that it is about."""

    reason: str
    leads: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.reason} ({', '.join(self.leads)})" if self.leads else self.reason


def examine(leads: LeadSignals) -> tuple[Finding, ...]:
    """All findings on a record's leads, those first for which it cannot be used."""
    rate_hz = leads.rate_hz
    missing = np.isnan(leads.mv).any(1)
    # Wide enough for what a hostile gain makes of a sample.
    voltage = np.nan_to_num(leads.mv).astype(np.float64)
    range_mv = np.ptp(voltage, axis=1)
    flat = (range_mv == 0) & ~missing
    whole = ~missing & ~flat
    off = np.array([_longest_plateau(lead) >= LEAD_OFF_S * rate_hz for lead in voltage])
    off |= range_mv < LEAST_NOISE_MV
    clipped = np.array([_clipped(lead) >= LEAST_PLATEAU_S * rate_hz for lead in voltage])
    marked = {
        "nan_samples": missing,
        "flat_lead": flat,
        "wrong_checksum": np.isin(LEADS, leads.checksum_mismatches),
        "clipped": clipped & whole,
        "lead_off": off & whole,
        "duplicated_leads": _duplicated(voltage) & whole,
        "implausible_amplitude": (np.abs(voltage) > LARGEST_MV).any(1)
        | (whole.all() & (range_mv < SMALLEST_MV).all()),
    }
    found = [Finding(reason, _named(mask)) for reason, mask in marked.items() if mask.any()]
    if voltage.shape[1] < MIN_SECONDS * rate_hz:
        found.insert(0, Finding("too_short"))
    if whole[: len(LIMB)].all():
        found += _limb_leads(voltage[: len(LIMB)])
    return tuple(found)


def _named(mask: Bool[np.ndarray, "12"]) -> tuple[str, ...]:
    return tuple(lead for lead, marked in zip(LEADS, mask, strict=True) if marked)


def _plateaus(lead: Float64[np.ndarray, " time"]) -> tuple[np.ndarray, np.ndarray]:
    """Where runs of equal samples begin, and how long they are, in samples."""
    first = np.flatnonzero(np.append(True, lead[1:] != lead[:-1]))
    return first, np.diff(np.append(first, len(lead)))


def _longest_plateau(lead: Float64[np.ndarray, " time"]) -> int:
    return int(_plateaus(lead)[1].max())


def _clipped(lead: Float64[np.ndarray, " time"]) -> int:
    """Samples in plateaus at the lead's own extreme, if that is a peak and no baseline.

    Those at the ends of the record do not count: filters hold the first and the last sample.
    """
    lowest, highest = lead.min(), lead.max()
    range_mv = highest - lowest
    if range_mv < LEAST_RANGE_MV:
        return 0
    first, length = _plateaus(lead)
    middle = np.median(lead)
    most = 0
    for extreme in (lowest, highest):
        if abs(extreme - middle) >= range_mv / 2:
            at = (lead[first] == extreme) & (length >= LEAST_RUN)
            at[[0, -1]] = False
            most = max(most, int(length[at].sum()))
    return most


def _duplicated(voltage: Float64[np.ndarray, "12 time"]) -> Bool[np.ndarray, "12"]:
    """Leads that are another one's, sample by sample."""
    contents = [lead.tobytes() for lead in voltage]
    return np.array([contents.count(one) > 1 for one in contents])


def _limb_leads(voltage: Float64[np.ndarray, "6 time"]) -> list[Finding]:
    """Whether the limb leads say what they must of each other, and else whether they would under
    each other's names. (Precordial leads do not tell each other, so their order is not seen.)
    """
    # Each lead has an offset of its own, which says nothing.
    voltage = voltage - voltage.mean(1, keepdims=True)
    products = voltage @ voltage.T / voltage.shape[1]
    if _missed(products, _ORDERS[:1])[0] <= LIMB_TOLERANCE:
        return []
    missed = _missed(products, _ORDERS)
    best = int(missed.argmin())
    if missed[best] > LIMB_TOLERANCE:
        return [Finding("inconsistent_limb_leads")]
    moved = _ORDERS[best] != np.arange(len(LIMB))
    return [Finding("swapped_leads", tuple(np.array(LIMB)[moved].tolist()))]


def _missed(
    products: Float64[np.ndarray, "6 6"], orders: np.ndarray
) -> Float64[np.ndarray, " order"]:
    """How far the limb leads, taken in each order, are from `_RELATIONS` (see `LIMB_TOLERANCE`)."""
    permuted = products[orders[:, :, None], orders[:, None, :]]
    squares = np.einsum("ki,oij,kj->ok", _RELATIONS, permuted, _RELATIONS).clip(0)
    own = max(np.sqrt(np.trace(products) / len(LIMB)), LIMB_NOISE_MV / LIMB_TOLERANCE)
    missed: np.ndarray = np.sqrt(squares.max(1)) / own
    return missed
