"""Decode a WFDB record to ten seconds of 12-lead ECG in mV at 500 Hz."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Integer
from scipy.signal import resample_poly

from enecg.signal import LEADS, SAMPLE_RATE_HZ, SAMPLES, SECONDS
from pipeline.waveforms.directory_files import DirectoryFiles
from pipeline.waveforms.errors import UnreadableRecord
from pipeline.waveforms.lead_selection import MissingLeadsError, select_leads
from pipeline.waveforms.record_files import Content, OutsideRootError, RecordFiles
from pipeline.waveforms.wfdb_header import Header, HeaderError, parse_header
from pipeline.waveforms.wfdb_samples import bytes_needed, digital_samples

DECODE_VERSION = 2
"""Part of the identity of every store; increase it with any change that alters a sample or a
reason."""

REASONS = (
    "missing_file",
    "cut_file",
    "unreadable",
    "missing_lead",
    "too_short",
    "nan_samples",
    "flat_lead",
    "wrong_checksum",
)
"""Reasons why a record cannot be decoded. Stores encode a record's status by the position in this
tuple, with the words as CF `flag_meanings`: append new reasons, never reorder them."""

MIN_SECONDS = 5.0
"""Records of at least this duration are padded with zeros to 10 s."""

MIN_RATE_HZ, MAX_RATE_HZ = 100, 2000
"""Range of supported sampling rates."""

_MAX_HEADER_BYTES = 1_000_000


@dataclass(frozen=True)
class LeadSignals:
    """The twelve leads of a record before quality checks and resampling.

    Attributes:
        mv: Up to the first ten seconds in mV, leads in the order of `LEADS`; NaN marks missing
            samples.
        digital: The same samples in ADC units, as stored in the file.
        rate_hz: Sampling rate in Hz.
        names: Names of all signals of the record, as spelled in the header.
        checksum_mismatches: Leads whose samples do not match the header's checksum.
    """

    mv: Float32[np.ndarray, "12 time"]
    digital: Integer[np.ndarray, "12 time"]
    rate_hz: int
    names: tuple[str, ...]
    checksum_mismatches: tuple[str, ...]


def read_wfdb(
    record: str | Path, files: RecordFiles | None = None, *, units_per_mv: float | None = None
) -> Float32[np.ndarray, "12 5000"]:
    """Read the first ten seconds of a record in mV at 500 Hz.

    The following rules apply in this order:

    - ``missing_file``: the header or a signal file does not exist or is not a regular file.
    - ``cut_file``: a signal file is shorter than the header states.
    - ``unreadable``: a file cannot be read, or the header is invalid, refers to a file outside its
      folder, has no gain or a unit that is not a voltage, or its rate is not an integer from 100
      to 2000 Hz.
    - ``missing_lead``: one of the twelve leads is missing. Names match in any case.
    - ``too_short``: the record is shorter than 5 s. Only the first 10 s are read.
    - ``nan_samples``: a sample of the twelve leads is missing. Nothing is interpolated, because
      experts would embed values that were not measured.
    - ``flat_lead``: all samples of a lead are equal.
    - ``wrong_checksum``: the samples of a lead do not match the header's checksum. Not checked
      without checksums or beyond 10 s, and checked last because the other reasons are more
      specific.

    Other rates are resampled, with edge samples repeated beyond the ends. Records shorter than
    10 s are padded with zeros at the end.

    Args:
        record: Record name without ``.hea`` in `files`; a local path if `files` is None.
        files: Files of the data set.
        units_per_mv: Replaces the header's gains, offsets and units, for sources where they are
            known to be wrong. By default the header's are used.

    Returns:
        The leads in the order of `enecg.signal.LEADS`.

    Raises:
        UnreadableRecord: One of the rules excludes the record.
    """
    name, files = _split_path(record, files)
    signals = read_leads(name, files, units_per_mv=units_per_mv)
    where = files.location(name)
    seconds = signals.mv.shape[1] / signals.rate_hz
    if seconds < MIN_SECONDS:
        raise UnreadableRecord(
            "too_short",
            f"{where}: record lasts {seconds:.1f} s, less than {MIN_SECONDS:g} s; exclude it.",
        )
    # NaN if any sample is missing.
    span = signals.mv.max(1) - signals.mv.min(1)
    if not ((span > 0) & (span < np.inf)).all():
        _check_voltages(signals.mv, files, name)
    if signals.checksum_mismatches:
        leads = ", ".join(signals.checksum_mismatches)
        raise UnreadableRecord(
            "wrong_checksum", f"{where}: checksum mismatch in {leads}; copy it again."
        )
    return _resample_and_pad(signals.mv, signals.rate_hz)


def read_leads(
    record: str | Path, files: RecordFiles | None = None, *, units_per_mv: float | None = None
) -> LeadSignals:
    """Read the twelve leads of a record: the first stage of `read_wfdb`.

    Args:
        record: Record name without ``.hea`` in `files`; a local path if `files` is None.
        files: Files of the data set.
        units_per_mv: Replaces the header's gains, offsets and units. By default they are used.

    Returns:
        The samples as recorded, with missing samples and flat leads.

    Raises:
        UnreadableRecord: The reason is ``missing_file``, ``cut_file``, ``unreadable`` or
            ``missing_lead``.
    """
    name, files = _split_path(record, files)
    try:
        header = parse_header(_read_header(files, f"{name}.hea"))
        rate = _check_rate(header.rate_hz)
        length = min(header.length, SECONDS * rate)
        samples = digital_samples(header, length, _read_signals(files, name, header, length))
        selection = select_leads(header.signals, units_per_mv)
    except HeaderError as error:
        raise UnreadableRecord(
            "unreadable",
            f"{files.location(name)}.hea: {error}; copy it again, or exclude the record.",
        ) from error
    except MissingLeadsError as error:
        raise UnreadableRecord(
            "missing_lead",
            f"{files.location(name)}.hea: missing leads: {error}; exclude the record, or rename "
            "its signals.",
        ) from error
    digital = samples[selection.rows]
    # A checksum covers the whole signal.
    checksums = header.checksums if length == header.length else ()
    return LeadSignals(
        mv=selection.to_millivolts(digital),
        digital=digital,
        rate_hz=rate,
        names=header.signals.names,
        checksum_mismatches=_checksum_mismatches(checksums, selection.rows, digital),
    )


def _check_voltages(mv: Float32[np.ndarray, "12 time"], files: RecordFiles, record: str) -> None:
    """Raise UnreadableRecord for missing or infinite samples or a flat lead."""
    where = files.location(record)
    missing, flat = np.isnan(mv).any(1), (mv == mv[:, :1]).all(1)
    if missing.any():
        raise UnreadableRecord(
            "nan_samples",
            f"{where}: missing samples in {_lead_names(missing)}; exclude the record, or repair "
            "the file.",
        )
    if not np.isfinite(mv).all():
        raise UnreadableRecord(
            "unreadable",
            f"{where}.hea: voltages are infinite; copy it again, or exclude the record.",
        )
    if flat.any():
        raise UnreadableRecord(
            "flat_lead", f"{where}: flat signal in {_lead_names(flat)}; exclude the record."
        )


def _checksum_mismatches(
    checksums: tuple[int | None, ...], rows: list[int], digital: Integer[np.ndarray, "12 time"]
) -> tuple[str, ...]:
    """Return the leads whose sum modulo 65536 differs from their checksum."""
    if not any(checksums):
        # Programs without checksum support write 0 for every signal.
        return ()
    # Overflow in the samples' own dtype does not change the sum modulo 65536.
    sums = np.add.reduce(digital, axis=1, dtype=digital.dtype).tolist()
    return tuple(
        lead
        for lead, row, total in zip(LEADS, rows, sums, strict=True)
        if (expected := checksums[row]) is not None and (expected - total) % 65536
    )


def _resample_and_pad(
    mv: Float32[np.ndarray, "12 time"], rate_hz: int
) -> Float32[np.ndarray, "12 5000"]:
    """Resample to 500 Hz and append zeros up to ten seconds."""
    full, length = SECONDS * rate_hz, mv.shape[1]
    if rate_hz != SAMPLE_RATE_HZ:
        # Padding to ten seconds first keeps the resampling ratio a small fraction; repeating the
        # last sample avoids ringing at the edge.
        held = np.pad(mv, ((0, 0), (0, full - length)), mode="edge").astype(np.float64)
        divisor = math.gcd(full, SAMPLES)
        mv = resample_poly(
            held, SAMPLES // divisor, full // divisor, axis=1, padtype="edge"
        ).astype(np.float32)
        length = round(length * SAMPLE_RATE_HZ / rate_hz)
    if length >= SAMPLES:
        return mv
    padded = np.zeros((len(LEADS), SAMPLES), np.float32)
    padded[:, :length] = mv[:, :length]
    return padded


def _split_path(record: str | Path, files: RecordFiles | None) -> tuple[str, RecordFiles]:
    if files is not None:
        return str(record), files
    path = Path(record)
    return path.name, DirectoryFiles(path.parent)


def _check_rate(rate_hz: float) -> int:
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ or not rate_hz.is_integer():
        raise HeaderError(
            f"sampling rate {rate_hz:g} Hz is not an integer from {MIN_RATE_HZ} to {MAX_RATE_HZ}"
        )
    return int(rate_hz)


def _read_header(files: RecordFiles, name: str) -> bytes:
    content = _read(files, name, _MAX_HEADER_BYTES)
    if content.size > _MAX_HEADER_BYTES:
        raise HeaderError(f"header is larger than {_MAX_HEADER_BYTES:,} bytes")
    return content.data


def _read_signals(files: RecordFiles, record: str, header: Header, length: int) -> list[bytes]:
    """Read from each signal file the bytes that hold the first `length` samples."""
    folder = record[: record.rfind("/") + 1]
    contents = []
    for file in header.files:
        expected, limit = bytes_needed(header, file, length)
        content = _read(files, folder + file.name, limit)
        if content.size < expected:
            where = files.location(folder + file.name)
            raise UnreadableRecord(
                "cut_file", f"{where}: file has {content.size} of {expected} bytes; copy it again."
            )
        contents.append(content.data)
    return contents


def _read(files: RecordFiles, name: str, limit: int) -> Content:
    """Read the beginning of a file; raise UnreadableRecord where that fails."""
    where = files.location(name)
    try:
        return files.read(name, limit)
    except FileNotFoundError as error:
        raise UnreadableRecord(
            "missing_file", f"{where}: file not found; copy it, or exclude the record."
        ) from error
    except OutsideRootError as error:
        raise UnreadableRecord(
            "unreadable",
            f"{where}: path is outside the data set's folder; correct the path, or copy the file "
            "into the folder.",
        ) from error
    except OSError as error:
        raise UnreadableRecord(
            "unreadable",
            f"{where}: cannot be read ({error.strerror}); copy it again, or exclude the record.",
        ) from error


def _lead_names(mask: Bool[np.ndarray, " 12"]) -> str:
    return ", ".join(lead for lead, selected in zip(LEADS, mask, strict=True) if selected)
