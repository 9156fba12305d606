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

    The following rules apply in this order:

    - ``unreadable``: a file cannot be read, or the header is invalid, refers to a file outside its
      folder, has no gain or a unit that is not a voltage, or its rate is not 100 to 2000 Hz. Errors
      in signals other than the twelve leads are ignored.
    - ``missing_lead``: one of the twelve leads is missing (see `lead_selection.parse_lead`).
    - ``missing_file``: the header or a signal file does not exist or is not a regular file.
    - ``cut_file``: a signal file is shorter than the header states, or empty.
    - ``duplicate_lead``: two signals have the same lead name but different samples.
    - ``too_short``: the record is shorter than 10 s, or than 5 s with ``short_records="mirror"``.
    - ``nan_samples``: a sample of the twelve leads is missing. Nothing is interpolated, because
      experts would embed values that were not measured.
    - ``flat_lead``: all samples of a lead are equal.
    - ``wrong_checksum``: the samples of a lead do not match the header's checksum. This is checked
      last, because the other reasons are more specific, and only if the header has checksums and
      the record is not longer than 10 s.

    Only the first 10 s are read. Records with another rate are resampled; for the filter, the first
    and the last sample are repeated beyond the ends.

    Args:
        record: Record name without ``.hea`` in `files`; a local path if `files` is None.
        files: Files of the data set.
        units_per_mv: ADC units per mV of all leads, for sources whose headers are known to be
            wrong. None uses the gains, offsets and units of the header.
        options: Options for short records and missing leads.

    Returns:
        The leads in the order of `enecg.ecg_format.LEADS`.

    Raises:
        UnreadableRecord: One of the rules excludes the record.
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
