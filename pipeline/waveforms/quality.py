"""Signal quality: findings on the leads of a record.

The reason of a finding is in `failures.REASONS` if the finding excludes the record, or in
`FINDINGS` if the record can be used. Swapped precordial leads are not detected, because no
equations relate them to each other.
"""

from dataclasses import dataclass
from itertools import permutations

import numpy as np
from jaxtyping import Bool, Float64

from enecg.ecg_format import LEADS
from pipeline.waveforms.failures import find_failures
from pipeline.waveforms.lead_signals import LeadSignals
from pipeline.waveforms.limb_leads import LIMB_LEADS
from pipeline.waveforms.options import DEFAULT_OPTIONS, DecodeOptions

DUPLICATE_RECORDING = "duplicate_recording"

FINDINGS = {
    "short_record": "record is shorter than 10 s, and was extended with its end in reverse",
    "clipped": "plateaus at the minimum or maximum of {leads}",
    "lead_off": "constant signal for 1 s, or a range below 10 uV, in {leads}",
    "repeated_lead": "several signals of lead {leads} have the same samples",
    "duplicated_leads": "the leads {leads} are equal",
    "swapped_leads": "the leads {leads} are probably swapped",
    "inconsistent_limb_leads": "the limb leads contradict each other",
    "implausible_amplitude": "the gain or unit is probably wrong in {leads}",
    DUPLICATE_RECORDING: "same samples as record {record} of patient {patient}",
}
"""Findings that do not exclude a record, with their descriptions."""

MIN_PLATEAU_SAMPLES = 5
"""Minimum number of equal consecutive samples of a plateau at a lead's minimum or maximum."""

MIN_CLIPPED_S = 0.02
"""Minimum total duration of the plateaus of a clipped lead; a single rounded peak is shorter."""

MIN_CLIPPED_RANGE_MV = 0.2
"""Minimum range of a clipped lead. With a smaller range, plateaus result from the resolution."""

LEAD_OFF_S = 1.0
"""Minimum duration of a constant signal for which an electrode is considered detached. A cardiac
pause is not constant, because of noise."""

LEAD_OFF_RANGE_MV = 0.01
"""Range of a lead below which an electrode is considered detached: 2 ADC units of MIMIC-IV-ECG."""

MAX_AMPLITUDE_MV = 20.0
"""Largest plausible amplitude. Larger values indicate a wrong gain or unit, or a defibrillation."""

MIN_RANGE_MV = 0.1
"""If all leads have a smaller range, the gain or unit is probably wrong."""

LIMB_TOLERANCE = 0.1
"""Largest tolerated RMS error of `_RELATIONS`, relative to the RMS of the limb leads."""

LIMB_NOISE_MV = 0.03
"""RMS error of `_RELATIONS` that is always tolerated, because of noise in ECGs of low voltage."""

_RELATIONS = np.array(
    [
        [*(-float(weight) for weight in weights), *np.eye(4)[row]]
        for row, weights in enumerate(list(LIMB_LEADS.values())[2:])
    ]
)
"""Linear combinations of the limb leads that are 0 in every ECG: one for each lead but I and II."""

_ORDERS = np.array(list(permutations(range(len(LIMB_LEADS)))))
"""All orders of the limb leads, starting with that of `LIMB_LEADS`."""


@dataclass(frozen=True)
class Finding:
    """A quality problem of a record.

    Attributes:
        reason: One of `waveforms.failures.REASONS` or a key of `FINDINGS`.
        leads: Affected leads; empty if the whole record is affected.
        detail: One sentence for the user that names the record.
    """

    reason: str
    leads: tuple[str, ...] = ()
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.reason} ({', '.join(self.leads)})" if self.leads else self.reason


def examine(signals: LeadSignals, options: DecodeOptions = DEFAULT_OPTIONS) -> tuple[Finding, ...]:
    """Return all findings on a record, except for `DUPLICATE_RECORDING`.

    Args:
        signals: The leads of the record.
        options: Decoding options; only `short_records` is used.

    Returns:
        The findings, starting with those that exclude the record.
    """
    rate_hz = signals.rate_hz
    # An implausible gain may produce voltages whose squares overflow float32.
    voltage = np.nan_to_num(signals.mv).astype(np.float64)
    range_mv = np.ptp(voltage, axis=1)
    usable = ~np.isnan(signals.mv).any(1) & (range_mv > 0)
    lead_off = np.array([_longest_run(lead) >= LEAD_OFF_S * rate_hz for lead in voltage])
    lead_off |= range_mv < LEAD_OFF_RANGE_MV
    clipped = np.array([_clipped_samples(lead) >= MIN_CLIPPED_S * rate_hz for lead in voltage])
    masks = {
        "clipped": clipped & usable,
        "lead_off": lead_off & usable,
        "repeated_lead": np.isin(LEADS, signals.repeated),
        "duplicated_leads": _duplicated(voltage) & usable,
        "implausible_amplitude": (np.abs(voltage) > MAX_AMPLITUDE_MV).any(1)
        | (usable.all() & (range_mv < MIN_RANGE_MV).all()),
    }
    failures = find_failures(signals, options)
    findings = {reason: _lead_names(mask) for reason, mask in masks.items() if mask.any()}
    if signals.is_short and "too_short" not in {failure.reason for failure in failures}:
        findings = {"short_record": ()} | findings
    if usable[: len(LIMB_LEADS)].all():
        findings |= _check_limb_leads(voltage[: len(LIMB_LEADS)])
    return (
        *(Finding(failure.reason, failure.leads, failure.detail) for failure in failures),
        *(make_finding(reason, signals.location, leads) for reason, leads in findings.items()),
    )


def make_finding(
    reason: str, location: str, leads: tuple[str, ...] = (), **details: object
) -> Finding:
    """Return a finding that does not exclude the record, with its sentence.

    Args:
        reason: A key of `FINDINGS`.
        location: Path or URL of the record.
        leads: Affected leads.
        **details: Values of the other placeholders in the description.

    Returns:
        The finding.
    """
    sentence = FINDINGS[reason].format(leads=", ".join(leads), **details)
    return Finding(reason, leads, f"{location}: {sentence}.")


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
            # Ignore plateaus at the ends, where filters repeat the first and the last sample.
            plateau[[0, -1]] = False
            most = max(most, int(length[plateau].sum()))
    return most


def _duplicated(voltage: Float64[np.ndarray, "12 time"]) -> Bool[np.ndarray, "12"]:
    """Mark leads whose samples all equal those of another lead."""
    contents = [lead.tobytes() for lead in voltage]
    return np.array([contents.count(content) > 1 for content in contents])


def _check_limb_leads(voltage: Float64[np.ndarray, "6 time"]) -> dict[str, tuple[str, ...]]:
    """Find swapped or inconsistent limb leads."""
    # Remove the mean, because each lead has an arbitrary offset.
    voltage = voltage - voltage.mean(1, keepdims=True)
    covariance = voltage @ voltage.T / voltage.shape[1]
    if _relative_errors(covariance, _ORDERS[:1])[0] <= LIMB_TOLERANCE:
        return {}
    errors = _relative_errors(covariance, _ORDERS)
    best = int(errors.argmin())
    if errors[best] > LIMB_TOLERANCE:
        return {"inconsistent_limb_leads": ()}
    moved = _ORDERS[best] != np.arange(len(LIMB_LEADS))
    return {"swapped_leads": tuple(np.array(list(LIMB_LEADS))[moved].tolist())}


def _relative_errors(
    covariance: Float64[np.ndarray, "6 6"], orders: np.ndarray
) -> Float64[np.ndarray, " order"]:
    """Compute the largest relative RMS error of `_RELATIONS` for each order of the leads."""
    permuted = covariance[orders[:, :, None], orders[:, None, :]]
    squares = np.einsum("ki,oij,kj->ok", _RELATIONS, permuted, _RELATIONS).clip(0)
    scale = max(np.sqrt(np.trace(covariance) / len(LIMB_LEADS)), LIMB_NOISE_MV / LIMB_TOLERANCE)
    errors: np.ndarray = np.sqrt(squares.max(1)) / scale
    return errors
