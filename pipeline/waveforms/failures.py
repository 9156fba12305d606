"""Checks that the leads of a record can be used."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from enecg.ecg_format import LEADS, SECONDS
from pipeline.waveforms.lead_signals import LeadSignals
from pipeline.waveforms.options import DecodeOptions

REASONS = (
    "missing_file",
    "cut_file",
    "unreadable",
    "missing_lead",
    "too_short",
    "nan_samples",
    "flat_lead",
    "wrong_checksum",
    "duplicate_lead",
)
"""Reasons why a record cannot be decoded. Stores encode a record's status by the position in this
tuple, with the reasons as CF `flag_meanings`: append new reasons, never reorder them."""

MIN_SECONDS = 5.0
"""Duration of the shortest record that ``short_records="mirror"`` extends to 10 s."""


@dataclass(frozen=True)
class Failure:
    """A failed check on the leads of a record.

    Attributes:
        reason: One of `REASONS`.
        detail: A sentence that names the record and the remedy.
        leads: Affected leads; empty if the whole record is affected.
    """

    reason: str
    detail: str
    leads: tuple[str, ...] = ()


def find_failures(signals: LeadSignals, options: DecodeOptions) -> list[Failure]:
    """Return the failed checks; the first determines the reason that `decode.to_ecg` raises.

    Args:
        signals: The leads of a record.
        options: Decoding options; only `short_records` is used.

    Returns:
        The failures; empty if the leads can be used.
    """
    where = signals.location
    failures = []

    def add(reason: str, detail: str, leads: tuple[str, ...] = ()) -> None:
        failures.append(Failure(reason, f"{where}: {detail}.", leads))

    extends = options.short_records == "mirror"
    if signals.is_short and not (extends and signals.seconds >= MIN_SECONDS):
        advice = "" if signals.seconds < MIN_SECONDS else ", or add --short-records mirror"
        add(
            "too_short",
            f"record lasts {signals.seconds:.5g} s, less than "
            f"{MIN_SECONDS if extends else SECONDS:g} s; exclude it{advice}",
        )
    mv = signals.mv
    missing, flat = np.isnan(mv).any(1), (mv == mv[:, :1]).all(1)
    if missing.any():
        leads = _lead_names(missing)
        add(
            "nan_samples",
            f"missing samples in {', '.join(leads)}; exclude the record, or repair the file",
            leads,
        )
    if np.isinf(mv).any():
        add("unreadable", "voltages are infinite; copy the files again, or exclude the record")
    if flat.any():
        leads = _lead_names(flat)
        add("flat_lead", f"flat signal in {', '.join(leads)}; exclude the record", leads)
    if signals.checksum_mismatches:
        leads = signals.checksum_mismatches
        detail = f"checksum mismatch in {', '.join(leads)}; copy the files again"
        add("wrong_checksum", detail, leads)
    return failures


def _lead_names(mask: Bool[np.ndarray, " 12"]) -> tuple[str, ...]:
    return tuple(lead for lead, selected in zip(LEADS, mask, strict=True) if selected)
