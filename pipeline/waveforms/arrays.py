"""Decode an array by the same rules as a WFDB record."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32
from numpy.typing import ArrayLike

from enecg.ecg_format import LEADS
from pipeline.waveforms.decode import to_ecg
from pipeline.waveforms.errors import UnreadableRecord
from pipeline.waveforms.lead_selection import MissingLeadsError, select_leads
from pipeline.waveforms.lead_signals import (
    LeadSignals,
    check_rate,
    check_repeated_leads,
    full_length,
)
from pipeline.waveforms.options import DEFAULT_OPTIONS, DecodeOptions
from pipeline.waveforms.wfdb_header import HeaderError, Signals

NAME = "signal"
"""Name of an array in messages."""


def decode_array(
    signal_mv: ArrayLike,
    rate_hz: float,
    leads: Sequence[str] = LEADS,
    *,
    options: DecodeOptions = DEFAULT_OPTIONS,
    name: str = NAME,
) -> Float32[np.ndarray, "12 5000"]:
    """Convert an array to ten seconds in mV at 500 Hz.

    The rules are those of `pipeline.waveforms.decode.read_wfdb`, except for the rules on files.

    Args:
        signal_mv: Samples in mV, shape (lead, time). Only the first 10 s are used.
        rate_hz: Sampling rate in Hz, 100 to 2000.
        leads: Name of each lead, in any order and case; see `lead_selection.parse_lead`. Other
            names are ignored.
        options: Options for short records and missing leads.
        name: Name of the array in messages.

    Returns:
        The leads in the order of `enecg.ecg_format.LEADS`.

    Raises:
        UnreadableRecord: One of the rules excludes the array, or its shape does not match `leads`.
    """
    return to_ecg(read_array(signal_mv, rate_hz, leads, options=options, name=name), options)


def read_array(
    signal_mv: ArrayLike,
    rate_hz: float,
    leads: Sequence[str] = LEADS,
    *,
    options: DecodeOptions = DEFAULT_OPTIONS,
    name: str = NAME,
) -> LeadSignals:
    """Select the twelve leads of an array: the first stage of `decode_array`.

    Args:
        signal_mv: As for `decode_array`.
        rate_hz: As for `decode_array`.
        leads: As for `decode_array`.
        options: Decoding options; only `derive_leads` is used.
        name: Name of the array in messages.

    Returns:
        The samples. Samples may be missing (NaN), and leads may be flat.

    Raises:
        UnreadableRecord: The reason is ``unreadable``, ``missing_lead`` or ``duplicate_lead``.
    """
    signal = np.asarray(signal_mv, np.float32)
    names = tuple(leads)
    if signal.ndim != 2 or len(signal) != len(names) or not signal.shape[1]:
        raise UnreadableRecord(
            "unreadable",
            f"{name}: shape {signal.shape} is not (lead, time) with {len(names)} leads; transpose "
            "the array, or correct the lead names.",
        )
    count = len(names)
    signals = Signals(
        formats=("16",) * count,
        offsets=(0,) * count,
        gains=(1.0,) * count,
        baselines=(0,) * count,
        units=("mv",) * count,
        names=names,
        errors=(None,) * count,
    )
    try:
        rate = check_rate(float(rate_hz))
        selection = select_leads(signals, None, options.derive_leads)
    except (HeaderError, MissingLeadsError) as error:
        reason = "missing_lead" if isinstance(error, MissingLeadsError) else "unreadable"
        raise UnreadableRecord(reason, f"{name}: {error}; {error.remedy}.") from error
    # The gain of an inverted lead is -1.
    mv = signal[list(selection.rows), : full_length(rate)] / selection.gain.astype(np.float32)
    check_repeated_leads(selection, mv, names, name)
    return LeadSignals(
        location=name,
        mv=selection.to_twelve(mv),
        digital=np.empty((selection.recorded, 0), np.int16),
        rate_hz=rate,
        names=names,
        derived=tuple(derivation.lead for derivation in selection.derivations),
        repeated=selection.leads[selection.recorded :],
        checksum_mismatches=(),
    )
