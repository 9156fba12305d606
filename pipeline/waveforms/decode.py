"""Decode a WFDB record to ten seconds of 12-lead ECG in mV at 500 Hz."""

import math
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from enecg.ecg_format import SAMPLES
from pipeline.waveforms.errors import UnreadableRecord
from pipeline.waveforms.failures import find_failures
from pipeline.waveforms.lead_signals import LeadSignals, full_length, read_leads
from pipeline.waveforms.options import DEFAULT_OPTIONS, DecodeOptions
from pipeline.waveforms.record_files import RecordFiles

DECODE_VERSION = 3
"""Part of the identity of every store; increase it with any change that alters a sample or a
reason."""


def read_wfdb(
    record: str | Path,
    files: RecordFiles | None = None,
    *,
    units_per_mv: float | None = None,
    options: DecodeOptions = DEFAULT_OPTIONS,
) -> Float32[np.ndarray, "12 5000"]:
    """Read the first ten seconds of a record in mV at 500 Hz.

    A record is excluded for the first of the following reasons that is found:

    - ``unreadable``: a file cannot be read or decoded; the header is invalid, not supported, or
      refers to a file outside its folder; a lead has no gain, infinite voltages, or a unit that is
      not a voltage; or the rate is not 100 to 2000 Hz. For signals other than the twelve leads,
      only the format matters, and only if they are in the same file as a lead.
    - ``missing_lead``: one of the twelve leads is missing (see `lead_selection.parse_lead`).
    - ``missing_file``: the header or a signal file does not exist or is not a regular file.
    - ``cut_file``: a signal file is shorter than the header states, or empty.
    - ``duplicate_lead``: several signals of the same lead have different samples.
    - ``too_short``: the record is shorter than 10 s, or than 5 s with ``short_records="mirror"``.
    - ``nan_samples``: a sample of the twelve leads is missing. Nothing is interpolated, because
      experts would embed values that were not measured.
    - ``flat_lead``: all samples of a lead are equal.
    - ``wrong_checksum``: the samples of a lead do not match the header's checksum. Checked last,
      and only if the header has a checksum other than 0 and states a length of at most 10 s.

    All rules apply to the first 10 s. Records at other rates than 500 Hz are resampled; for the
    filter, the first and the last sample are repeated beyond the ends.

    Args:
        record: Record name without ``.hea`` in `files`; a local path if `files` is None.
        files: Files of the data set.
        units_per_mv: ADC units per mV of all leads, with 0 V at ADC value 0, for sources with wrong
            headers. None uses the gains, baselines and units of the header.
        options: Options for short records and missing leads.

    Returns:
        The leads in the order of `enecg.ecg_format.LEADS`.

    Raises:
        UnreadableRecord: The record is excluded.
        UserError: A server is unreachable, or the temporary folder for wfdb cannot be written.
    """
    return to_ecg(read_leads(record, files, units_per_mv=units_per_mv, options=options), options)


def to_ecg(signals: LeadSignals, options: DecodeOptions) -> Float32[np.ndarray, "12 5000"]:
    """Check the leads of a record and resample them: the second stage of `read_wfdb`.

    Args:
        signals: The leads.
        options: Decoding options; only `short_records` is used.

    Returns:
        Ten seconds in mV at 500 Hz.

    Raises:
        UnreadableRecord: The reason is one of `find_failures`.
    """
    # The range is NaN if any sample is missing.
    span = signals.mv.max(1) - signals.mv.min(1)
    is_valid = ((span > 0) & (span < np.inf)).all()
    if signals.is_short or signals.checksum_mismatches or not is_valid:
        for failure in find_failures(signals, options):
            raise UnreadableRecord(failure.reason, failure.detail)
    return _resample(_extend(signals.mv, signals.rate_hz))


def _extend(mv: Float32[np.ndarray, "12 time"], rate_hz: float) -> Float32[np.ndarray, "12 full"]:
    """Extend a record to ten seconds with its end in reverse."""
    missing = full_length(rate_hz) - mv.shape[1]
    return np.pad(mv, ((0, 0), (0, missing)), mode="symmetric") if missing > 0 else mv


def _resample(mv: Float32[np.ndarray, "12 full"]) -> Float32[np.ndarray, "12 5000"]:
    """Resample ten seconds to 500 Hz."""
    full = mv.shape[1]
    if full == SAMPLES:
        return mv
    # Imported here because records at 500 Hz do not need it.
    from scipy.signal import resample_poly

    divisor = math.gcd(full, SAMPLES)
    # Repeating the samples at the edges avoids ringing there.
    resampled: Float32[np.ndarray, "12 5000"] = resample_poly(
        mv.astype(np.float64), SAMPLES // divisor, full // divisor, axis=1, padtype="edge"
    ).astype(np.float32)
    return resampled
