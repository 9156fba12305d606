"""Parse WFDB headers, with bounds on every field.

Supported are records in one segment whose signals have one sample per frame and no skew. Missing
optional fields have the defaults of the format
(https://physionet.org/physiotools/wag/header-5.htm), except the gain, without which a signal is not
calibrated, and the initial value, which is 0 as in wfdb. An invalid signal or file is an error only
if it is used (see `Signals.errors` and `Header.keep`).
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from itertools import groupby
from typing import NamedTuple


class SampleFormat(NamedTuple):
    """A WFDB sample format.

    Attributes:
        width: Bytes per sample.
        missing: Digital value of a missing sample; None if the format has none.
    """

    width: float
    missing: int | None


FORMATS = {
    "8": SampleFormat(1, None),
    "16": SampleFormat(2, -(2**15)),
    "24": SampleFormat(3, -(2**23)),
    "32": SampleFormat(4, -(2**31)),
    "61": SampleFormat(2, -(2**15)),
    "80": SampleFormat(1, -(2**7)),
    "160": SampleFormat(2, -(2**15)),
    "212": SampleFormat(1.5, -(2**11)),
    "310": SampleFormat(4 / 3, -(2**9)),
    "311": SampleFormat(4 / 3, -(2**9)),
}
"""Supported formats (https://physionet.org/physiotools/wag/signal-5.htm)."""

_MAX_SIGNALS = 256
_MAX_BYTE_OFFSET = 1 << 20
_MAX_INTEGER = 2**31

# Repetitions are possessive and bounded, so that matching takes linear time on any text.
_NUMBER = r"[-+]?\d{1,30}+(?:\.\d{0,30}+)?(?:[eE][-+]?\d{1,5}+)?"
# The counter frequency after the rate, and the time and date after the length, are ignored.
_RECORD = re.compile(
    rf"\s*+(?P<name>\S++)\s++(?P<signals>\d{{1,9}}+)"
    rf"(?:\s++(?P<rate>{_NUMBER})(?:[/(]\S*+)?(?:\s++(?P<length>\d{{1,15}}+)(?:\s.*+)?)?)?\s*+",
    re.ASCII,
)
_SEGMENTS = re.compile(r".*/\d++", re.ASCII)
_SEGMENT = re.compile(r"\s*+\S++\s++\d++\s*+", re.ASCII)
# File and format; optionally gain, resolution, ADC zero, initial value, checksum and block size (a
# field requires all fields before it); and the name.
_SIGNAL = re.compile(
    r"\s*+(\S++)\s++(\S++)(?:\s++(\S++)"
    r"(?:\s++(-?\d++)(?!\S)(?:\s++(-?\d++)(?!\S)(?:\s++(-?\d++)(?!\S)"
    r"(?:\s++(-?\d++)(?!\S)(?:\s++(-?\d++)(?!\S))?)?)?)?)?"
    r"(?:\s++(\S.*+))?+)?+\s*+",
    re.ASCII,
)
# One sample per frame (x1) and no skew (:0) may be explicit.
_FORMAT = re.compile(r"(\d{1,3}+)(?:x1)?(?::0)?(?:\+(\d{1,10}+))?", re.ASCII)
_GAIN = re.compile(rf"({_NUMBER})(?:\(([-+]?\d++)(?:\.0*+)?\))?(?:/(\S++))?", re.ASCII)
_PATH_CHARACTERS = frozenset("\\:\0")

_CONVERT = "convert it to format 16 with one sample per frame"

_DEFAULT_RATE_HZ = "250"
"""Sampling rate of a header without one, as in the WFDB library (``WFDB_DEFFREQ``)."""


class HeaderError(ValueError):
    """A header is invalid or not supported, or its samples cannot be decoded.

    Args:
        message: The problem, as a clause without the name of the file.
        remedy: Alternative to excluding the record, as a clause without the name of the file.

    Attributes:
        remedy: The remedy.
    """

    def __init__(self, message: str, remedy: str = "copy it again") -> None:
        super().__init__(message)
        self.remedy = remedy


@dataclass(frozen=True, eq=False)
class Signals:
    """The fields of a header's signals that are usually equal in all records of a data set.

    Each tuple has one element per signal.

    Attributes:
        formats: Keys of `FORMATS`; an empty string if invalid.
        offsets: Byte offset of the samples in the signal's file.
        gains: ADC units per physical unit; NaN if the format or gain is invalid.
        baselines: ADC value at 0 physical units.
        units: Physical unit in lower case.
        names: Signal names as in the header; an empty string if there is none.
        errors: Arguments of the `HeaderError` to raise if the signal is used; None if it is valid.
    """

    formats: tuple[str, ...]
    offsets: tuple[int, ...]
    gains: tuple[float, ...]
    baselines: tuple[int, ...]
    units: tuple[str, ...]
    names: tuple[str, ...]
    errors: tuple[tuple[str, str] | None, ...]

    def __len__(self) -> int:
        """Return the number of signals."""
        return len(self.names)

    @cached_property
    def is_plain_format16(self) -> bool:
        """Whether all signals are in format 16 without a byte offset."""
        return set(self.formats) == {"16"} and not any(self.offsets)

    def take(self, rows: Sequence[int]) -> "Signals":
        """Return the signals with the given numbers."""
        columns = (getattr(self, field.name) for field in fields(self))
        return Signals(*(tuple(column[row] for row in rows) for column in columns))


class SignalFile(NamedTuple):
    """A signal file. All its signals have the byte offset of the first and must have one format.

    Attributes:
        name: File name in the header's folder.
        first: Number of the first signal in the file.
        end: Number of the last signal in the file plus 1.
    """

    name: str
    first: int
    end: int


@dataclass(frozen=True)
class Header:
    """The header of a record in one segment.

    Attributes:
        rate_hz: Samples per second.
        length: Samples per signal, at least 1; None if the header does not state it.
        files: Signal files in the order of their signals.
        initial: Initial value of each signal, as text; None if missing.
        checksums: Sum of the samples of each signal modulo 65536, as text; None if missing.
        signals: All other fields of the signals.
    """

    rate_hz: float
    length: int | None
    files: tuple[SignalFile, ...]
    initial: tuple[str | None, ...]
    checksums: tuple[str | None, ...]
    signals: Signals

    def keep(self, rows: Sequence[int]) -> tuple["Header", list[int]]:
        """Drop the files without a signal in `rows`.

        Args:
            rows: Numbers of the signals to read.

        Returns:
            The header with the other files, and the new number of each signal in `rows`.

        Raises:
            HeaderError: One of the remaining files is invalid or not supported.
        """
        files = [f for f in self.files if any(f.first <= row < f.end for row in rows)]
        for error in filter(None, map(self._file_error, files)):
            raise HeaderError(*error)
        if len(files) == len(self.files):
            return self, list(rows)
        kept = [row for file in files for row in range(file.first, file.end)]
        signals = self.signals.take(kept)
        header = Header(
            rate_hz=self.rate_hz,
            length=self.length,
            files=_signal_files([f.name for f in files for _ in range(f.first, f.end)]),
            initial=tuple(self.initial[row] for row in kept),
            checksums=tuple(self.checksums[row] for row in kept),
            signals=signals,
        )
        return header, [kept.index(row) for row in rows]

    def _file_error(self, file: SignalFile) -> tuple[str, str] | None:
        name, folders = file.name[:100], {*file.name.split("/")}
        if folders & {"", ".", ".."} or not _PATH_CHARACTERS.isdisjoint(file.name):
            return f"signal file {name} is outside the header's folder", "correct the header"
        if [other.name for other in self.files].count(file.name) > 1:
            return f"the signals of {name} are not listed together", "correct the header"
        formats = self.signals.formats[file.first : file.end]
        if len(set(formats)) > 1:
            return f"the signals of {name} have different formats", _CONVERT
        # The layout of the file depends on all its signals.
        return None if formats[0] else self.signals.errors[file.first]


def parse_header(content: bytes) -> Header:
    """Parse the content of a header file.

    Args:
        content: Content of the file, in UTF-8 or Latin-1.

    Returns:
        The header of a record in one segment.

    Raises:
        HeaderError: The content is not a supported header. No other exception is raised.
    """
    lines = [line for line in split_lines(content) if not is_comment(line)]
    record = _RECORD.fullmatch(lines[0]) if lines else None
    if record is None:
        raise HeaderError("first line has no number of signals")
    if _SEGMENTS.fullmatch(record["name"]) and all(map(_SEGMENT.fullmatch, lines[1:])):
        raise HeaderError(
            "records in several segments are not supported", "convert it to a single segment"
        )
    count = int(record["signals"])
    if not 1 <= count <= _MAX_SIGNALS:
        raise HeaderError(f"number of signals is {count}, not 1 to {_MAX_SIGNALS}")
    if count != len(lines) - 1:
        raise HeaderError(f"first line states {count} signals, but {len(lines) - 1} follow")
    matches = [_SIGNAL.fullmatch(line) for line in lines[1:]]
    if None in matches:
        raise HeaderError(f"signal {matches.index(None) + 1} has no file or format")
    columns = [match.groups() for match in matches if match is not None]
    files, formats, gains, _, zeros, initial, checksums, _, names = zip(*columns, strict=True)
    return Header(
        rate_hz=float(record["rate"] or _DEFAULT_RATE_HZ),
        # A length of 0 means that the length is not stated.
        length=int(record["length"] or 0) or None,
        files=_signal_files(files),
        initial=initial,
        checksums=checksums,
        signals=_parse_signals(formats, gains, zeros, names),
    )


def split_lines(content: bytes) -> list[str]:
    """Return the lines of a header that are not blank."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    # str.splitlines would also split at characters such as \x85 inside a comment.
    return [line for line in text.replace("\r", "\n").split("\n") if line.strip()]


def is_comment(line: str) -> bool:
    """Return whether a line of a header is a comment."""
    return line.lstrip().startswith("#")


# Cached because these fields are equal in all headers of a data set such as MIMIC-IV-ECG.
@lru_cache(maxsize=32)
def _parse_signals(
    formats: tuple[str, ...],
    gains: tuple[str | None, ...],
    zeros: tuple[str | None, ...],
    names: tuple[str | None, ...],
) -> Signals:
    """Parse the fields of all signals in a header."""
    parsed = []
    for sample_format, gain, zero, name in zip(formats, gains, zeros, names, strict=True):
        label = (name or "").strip()
        stored, offset, scale, error = "", 0, (math.nan, 0, ""), None
        try:
            stored, offset = _parse_format(sample_format)
            scale = _parse_gain(gain, zero, label)
        except HeaderError as invalid:
            error = (str(invalid), invalid.remedy)
        parsed.append((stored, offset, *scale, label, error))
    stored_as, offsets, all_gains, baselines, units, labels, errors = zip(*parsed, strict=True)
    return Signals(stored_as, offsets, all_gains, baselines, units, labels, errors)


@lru_cache(maxsize=32)
def _parse_format(text: str) -> tuple[str, int]:
    """Return the sample format and the byte offset of the samples."""
    match = _FORMAT.fullmatch(text)
    if match is None or match[1] not in FORMATS:
        raise HeaderError(f"signal format {text[:20]} is not supported", _CONVERT)
    offset = parse_integer(match[2]) or 0
    if offset > _MAX_BYTE_OFFSET:
        raise HeaderError(f"byte offset of the samples is {offset}, above {_MAX_BYTE_OFFSET}")
    return match[1], offset


def _parse_gain(text: str | None, zero: str | None, name: str) -> tuple[float, int, str]:
    """Return the gain, the baseline (default: the ADC zero) and the unit (default: mV)."""
    match = None if text is None else _GAIN.fullmatch(text)
    gain = float(match[1]) if match is not None else 0.0
    if match is None or gain == 0 or not math.isfinite(gain):
        value = "missing" if text is None else text[:20] if match is None else match[1][:20]
        raise HeaderError(
            f"gain is {value} in lead {name[:20] or 'without a name'}",
            "write the ADC units per mV into the header",
        )
    baseline = parse_integer(match[2] if match[2] is not None else zero)
    return gain, baseline or 0, (match[3] or "mV").lower()


def parse_integer(text: str | None) -> int | None:
    """Parse a 32-bit signed integer or raise `HeaderError`; None stays None."""
    if text is None:
        return None
    if len(text) > 11 or not -_MAX_INTEGER <= (value := int(text)) < _MAX_INTEGER:
        raise HeaderError(f"number {text[:20]} is out of range")
    return value


def _signal_files(names: Sequence[str]) -> tuple[SignalFile, ...]:
    """Group the signals by file."""
    files = []
    first = 0
    for name, group in groupby(names):
        end = first + len(list(group))
        files.append(SignalFile(name, first, end))
        first = end
    return tuple(files)
