"""Decode a WFDB record to ten seconds of 12-lead ECG in mV at 500 Hz."""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Integer

from enecg.ecg_format import LEADS, SAMPLES, SECONDS
from pipeline.waveforms.directory_files import DirectoryFiles
from pipeline.waveforms.errors import UnreadableRecord
from pipeline.waveforms.lead_selection import (
    LeadSelection,
    MissingLeadsError,
    parse_lead,
    select_leads,
)
from pipeline.waveforms.options import DEFAULT_OPTIONS, DecodeOptions
from pipeline.waveforms.record_files import Content, OutsideRootError, RecordFiles
from pipeline.waveforms.wfdb_header import Header, HeaderError, parse_header, parse_integer
from pipeline.waveforms.wfdb_samples import bytes_needed, digital_samples, samples_in

DECODE_VERSION = 3
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
    "duplicate_lead",
)
"""Reasons why a record cannot be decoded. Stores encode a record's status by the position in this
tuple, with the reasons as CF `flag_meanings`: append new reasons, never reorder them."""

MIN_SECONDS = 5.0
"""Duration of the shortest record that ``short_records="mirror"`` extends to 10 s."""

MIN_RATE_HZ, MAX_RATE_HZ = 100, 2000
"""Range of supported sampling rates."""

_MAX_HEADER_BYTES = 1_000_000


@dataclass(frozen=True)
class LeadSignals:
    """The twelve leads of a record before quality checks and resampling.

    Attributes:
        location: Path or URL of the record, without suffix.
        mv: Up to the first ten seconds in mV, leads in the order of `LEADS`; NaN marks missing
            samples.
        digital: The same samples of the recorded leads in ADC units, as stored in the file.
        rate_hz: Sampling rate in Hz.
        names: Names of all signals of the record, as spelled in the header.
        derived: Leads that were computed from others.
        repeated: Leads for which several signals have the same samples.
        checksum_mismatches: Leads whose samples do not match the header's checksum.
    """

    location: str
    mv: Float32[np.ndarray, "12 time"]
    digital: Integer[np.ndarray, "lead time"]
    rate_hz: float
    names: tuple[str, ...]
    derived: tuple[str, ...]
    repeated: tuple[str, ...]
    checksum_mismatches: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """Duration of the samples in s, at most about 10."""
        return float(self.mv.shape[1] / self.rate_hz)

    @property
    def is_short(self) -> bool:
        """Whether the record is shorter than 10 s."""
        return bool(self.mv.shape[1] < full_length(self.rate_hz))


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
      folder, has no gain or a unit that is not a voltage, or its rate is not 100 to 2000 Hz. Only
      the signals of the twelve leads matter.
    - ``missing_lead``: one of the twelve leads is missing (see `lead_selection.parse_lead`).
    - ``missing_file``: the header or a signal file does not exist or is not a regular file.
    - ``cut_file``: a signal file is shorter than the header states, or empty.
    - ``duplicate_lead``: two signals have the same lead name but different samples.
    - ``too_short``: the record is shorter than 10 s, or than 5 s if short records are filled up.
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
        units_per_mv: ADC units per mV of all leads, instead of the header's gains, offsets and
            units, for sources where these are known to be wrong. None uses the header's.
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
        options: Decoding options, of which only `short_records` matters.

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
    return _resample(_fill_up(signals.mv, signals.rate_hz))


def read_leads(
    record: str | Path,
    files: RecordFiles | None = None,
    *,
    units_per_mv: float | None = None,
    options: DecodeOptions = DEFAULT_OPTIONS,
) -> LeadSignals:
    """Read the twelve leads of a record: the first stage of `read_wfdb`.

    Args:
        record: Record name without ``.hea`` in `files`; a local path if `files` is None.
        files: Files of the data set.
        units_per_mv: As for `read_wfdb`.
        options: Decoding options, of which only `derive_leads` matters.

    Returns:
        The samples as recorded, in which samples may be missing and leads may be flat.

    Raises:
        UnreadableRecord: The reason is ``missing_file``, ``cut_file``, ``unreadable``,
            ``missing_lead`` or ``duplicate_lead``.
    """
    name, files = _split_path(record, files)
    where = files.location(name)
    try:
        header = parse_header(read_header(files, name))
        rate = check_rate(header.rate_hz)
        selection = select_leads(header.signals, units_per_mv, options.derive_leads)
        names = header.signals.names
        header, rows = header.keep(selection.rows)
        length, contents = _read_signals(files, name, header, full_length(rate))
        digital = digital_samples(header, length, contents)[rows]
        # Parse the checksums even if they are not compared below, to detect invalid ones.
        checksums = [parse_integer(header.checksums[row]) for row in rows]
    except HeaderError as error:
        raise UnreadableRecord(
            "unreadable", f"{where}.hea: {error}; {error.remedy}, or exclude the record."
        ) from error
    except MissingLeadsError as error:
        raise UnreadableRecord(
            "missing_lead", f"{where}.hea: {error}; {error.remedy}, or exclude the record."
        ) from error
    mv = selection.to_millivolts(digital)
    check_repeated_leads(selection, mv, names, f"{where}.hea")
    recorded = digital[: selection.recorded]
    return LeadSignals(
        location=where,
        mv=selection.to_twelve(mv),
        digital=recorded,
        rate_hz=rate,
        names=names,
        derived=tuple(derivation.lead for derivation in selection.derivations),
        repeated=selection.leads[selection.recorded :],
        # Checksums cover whole signals, so compare them only if all samples were read.
        checksum_mismatches=_checksum_mismatches(checksums, selection.leads, recorded)
        if length == header.length
        else (),
    )


def check_repeated_leads(
    selection: LeadSelection,
    mv: Float32[np.ndarray, "signal time"],
    names: Sequence[str],
    where: str,
) -> None:
    """Raise UnreadableRecord if signals of the same lead have different samples.

    Args:
        selection: The selected signals.
        mv: Their samples.
        names: Names of all signals of the record.
        where: Header or array, for the message.

    Raises:
        UnreadableRecord: The reason is ``duplicate_lead``.
    """
    if contradictions := selection.find_contradictions(mv):
        spellings = ", ".join(n for n in names if parse_lead(n)[0] in contradictions)
        raise UnreadableRecord(
            "duplicate_lead",
            f"{where}: several signals of lead {', '.join(contradictions)} ({spellings}) have "
            "different samples; rename or remove all but one, or exclude the record.",
        )


@dataclass(frozen=True)
class Failure:
    """Why the leads of a record cannot be used.

    Attributes:
        reason: One of `REASONS`.
        detail: A sentence that names the record and the remedy.
        leads: Affected leads; empty if the whole record is affected.
    """

    reason: str
    detail: str
    leads: tuple[str, ...] = ()


def find_failures(signals: LeadSignals, options: DecodeOptions) -> list[Failure]:
    """Return why the leads of a record cannot be used, in the order of the rules of `read_wfdb`."""
    where = signals.location
    failures = []

    def add(reason: str, detail: str, leads: tuple[str, ...] = ()) -> None:
        failures.append(Failure(reason, f"{where}: {detail}.", leads))

    fills = options.short_records == "mirror"
    if signals.is_short and not (fills and signals.seconds >= MIN_SECONDS):
        advice = "" if signals.seconds < MIN_SECONDS else ", or add --short-records mirror"
        add(
            "too_short",
            f"record lasts {signals.seconds:.5g} s, less than "
            f"{MIN_SECONDS if fills else SECONDS:g} s; exclude it{advice}",
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


def _checksum_mismatches(
    checksums: Sequence[int | None],
    leads: Sequence[str],
    digital: Integer[np.ndarray, "lead time"],
) -> tuple[str, ...]:
    """Return the leads whose samples have a sum modulo 65536 that differs from the checksum."""
    if not any(checksums):
        # Programs without checksum support write 0 for every signal.
        return ()
    # Overflow in the samples' own dtype does not change the sum modulo 65536.
    sums = np.add.reduce(digital, axis=1, dtype=digital.dtype).tolist()
    return tuple(
        lead
        for lead, expected, total in zip(leads, checksums, sums, strict=False)
        if expected is not None and (expected - total) % 65536
    )


def full_length(rate_hz: float) -> int:
    """Return the number of samples in ten seconds."""
    return round(SECONDS * rate_hz)


def _fill_up(mv: Float32[np.ndarray, "12 time"], rate_hz: float) -> Float32[np.ndarray, "12 full"]:
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


def _split_path(record: str | Path, files: RecordFiles | None) -> tuple[str, RecordFiles]:
    if files is not None:
        return str(record), files
    path = Path(record)
    return path.name, DirectoryFiles(path.parent)


def check_rate(rate_hz: float) -> float:
    """Return the sampling rate; raise HeaderError if it is not supported."""
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise HeaderError(
            f"sampling rate is {rate_hz:g} Hz, not {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz",
            "resample the record",
        )
    return rate_hz


def read_header(files: RecordFiles, record: str) -> bytes:
    """Read the header file of a record.

    Args:
        files: Files of the data set.
        record: Record name without ``.hea``.

    Returns:
        Content of the file.

    Raises:
        UnreadableRecord: The file does not exist or cannot be read.
        HeaderError: The file is too large for a header.
    """
    content = _read(files, f"{record}.hea", _MAX_HEADER_BYTES)
    if content.size > _MAX_HEADER_BYTES:
        raise HeaderError(f"header is larger than {_MAX_HEADER_BYTES:,} bytes")
    return content.data


def _read_signals(
    files: RecordFiles, record: str, header: Header, length: int
) -> tuple[int, list[bytes]]:
    """Read the beginning of each signal file.

    Args:
        files: Files of the data set.
        record: Name of the record.
        header: Its header.
        length: Number of samples to read per signal.

    Returns:
        The number of samples per signal, which is less than `length` for a shorter record, and the
        bytes that contain them.

    Raises:
        UnreadableRecord: A file is missing, too short or unreadable.
    """
    folder = record[: record.rfind("/") + 1]
    contents = []
    if header.length is not None:
        length = min(length, header.length)
    for file in header.files:
        expected, limit = bytes_needed(header, file, length)
        content = _read(files, folder + file.name, limit)
        where = files.location(folder + file.name)
        if content.size < expected:
            raise UnreadableRecord(
                "cut_file", f"{where}: file has {content.size} of {expected} bytes; copy it again."
            )
        if header.length is None:
            length = min(length, samples_in(header, file, content.size))
            if length < 1:
                raise UnreadableRecord("cut_file", f"{where}: file is empty; copy it again.")
        contents.append(content.data)
    return length, contents


def _read(files: RecordFiles, name: str, limit: int) -> Content:
    """Read the beginning of a file; raise UnreadableRecord if that fails."""
    where = files.location(name)
    folder, _, file = name.rpartition("/")
    stem, dot, suffix = file.rpartition(".")
    # Files that were copied from a case-insensitive file system may have names in capitals.
    spellings = (file, stem + dot + suffix.upper(), file.upper(), file.lower())
    try:
        for spelling in dict.fromkeys(spellings):
            with suppress(FileNotFoundError):
                return files.read(f"{folder}/{spelling}" if folder else spelling, limit)
    except OutsideRootError as error:
        raise UnreadableRecord("unreadable", f"{where}: {error}.") from error
    except OSError as error:
        raise UnreadableRecord(
            "unreadable",
            f"{where}: cannot be read ({error.strerror}); copy it again, or exclude the record.",
        ) from error
    raise UnreadableRecord(
        "missing_file", f"{where}: file not found; copy it, or exclude the record."
    )


def _lead_names(mask: Bool[np.ndarray, " 12"]) -> tuple[str, ...]:
    return tuple(lead for lead, selected in zip(LEADS, mask, strict=True) if selected)
