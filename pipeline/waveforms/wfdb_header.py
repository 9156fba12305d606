"""Parse WFDB headers, with bounds on every field.

Supported are records in one segment whose signals have one sample per frame and no skew; anything
else raises `HeaderError`. Missing optional fields have the defaults of the wfdb package. Format:
https://physionet.org/physiotools/wag/header-5.htm.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
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
_RECORD = re.compile(
    rf"\s*+[^\s/]++(?P<segments>/\S*+)?\s++(?P<signals>\d{{1,9}}+)\s++(?P<rate>{_NUMBER})"
    r"(?:[/(]\S*+)?\s++(?P<length>\d{1,15}+)(?:\s.*+)?",
    re.ASCII,
)
# File, format and gain; then, each only after the one before it, resolution, ADC zero, initial
# value, checksum and block size; then the name.
_SIGNAL = re.compile(
    r"\s*+(\S++)\s++(\S++)\s++(\S++)"
    r"(?:\s++(-?\d++)(?!\S)(?:\s++(-?\d++)(?!\S)(?:\s++(-?\d++)(?!\S)"
    r"(?:\s++(-?\d++)(?!\S)(?:\s++(-?\d++)(?!\S))?)?)?)?)?"
    r"(?:\s++(\S.*+))?+\s*+",
    re.ASCII,
)
# One sample per frame (x1) and no skew (:0) may be explicit.
_FORMAT = re.compile(r"(\d{1,3}+)(?:x1)?(?::0)?(?:\+(\d{1,10}+))?", re.ASCII)
_GAIN = re.compile(rf"({_NUMBER})(?:\(([-+]?\d++)\))?(?:/(\S++))?", re.ASCII)
_PATH_CHARACTERS = frozenset("/\\:\0")


class HeaderError(ValueError):
    """An invalid header; the message is a clause without the file's name or a full stop."""


@dataclass(frozen=True, eq=False)
class Signals:
    """The fields of a header's signals that are usually equal in all records of a data set.

    Each tuple has one element per signal.

    Attributes:
        formats: Keys of `FORMATS`.
        offsets: Byte offset of the samples in the signal's file.
        gains: ADC units per physical unit.
        baselines: ADC value at 0 physical units.
        units: Physical unit in lower case.
        names: Signal names as spelled; empty if there is none.
    """

    formats: tuple[str, ...]
    offsets: tuple[int, ...]
    gains: tuple[float, ...]
    baselines: tuple[int, ...]
    units: tuple[str, ...]
    names: tuple[str, ...]

    def __len__(self) -> int:
        """Return the number of signals."""
        return len(self.names)

    @cached_property
    def is_plain_format16(self) -> bool:
        """Whether all signals are in format 16 without a byte offset."""
        return set(self.formats) == {"16"} and not any(self.offsets)

    @cached_property
    def index(self) -> dict[str, int]:
        """Signal number by lower-case name; of several equal names, the first."""
        return {name.lower(): n for n, name in reversed(list(enumerate(self.names)))}


class SignalFile(NamedTuple):
    """A signal file, whose signals share one format and the byte offset of the first.

    Attributes:
        name: File name in the header's folder.
        first: Number of its first signal.
        end: Number after its last signal.
    """

    name: str
    first: int
    end: int


@dataclass(frozen=True)
class Header:
    """The header of a record in one segment.

    Attributes:
        rate_hz: Samples per second.
        length: Samples per signal, at least 1.
        files: Signal files in the order of their signals.
        initial: Initial value per signal as digits; None if missing.
        checksums: Sum of the samples modulo 65536 per signal; None if missing.
        signals: All other fields of the signals.
    """

    rate_hz: float
    length: int
    files: tuple[SignalFile, ...]
    initial: tuple[str | None, ...]
    checksums: tuple[int | None, ...]
    signals: Signals


def parse_header(content: bytes) -> Header:
    """Parse the content of a header file.

    Returns:
        The header of a record in one segment.

    Raises:
        HeaderError: The content is not a supported header. No other exception is raised.
    """
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    # str.splitlines would also split at characters such as \x85 inside a comment.
    lines = text.replace("\r", "\n").split("\n")
    lines = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    record = _RECORD.fullmatch(lines[0]) if lines else None
    if record is None:
        raise HeaderError("first line has no number of signals, sampling rate or length")
    if record["segments"]:
        raise HeaderError("records in several segments are not supported")
    count, length = int(record["signals"]), int(record["length"])
    if not 1 <= count <= _MAX_SIGNALS:
        raise HeaderError(f"number of signals is {count}, not 1 to {_MAX_SIGNALS}")
    if count != len(lines) - 1:
        raise HeaderError(f"first line states {count} signals, but {len(lines) - 1} follow")
    if length < 1:
        raise HeaderError("length is 0")
    matches = [_SIGNAL.fullmatch(line) for line in lines[1:]]
    fields = [match.groups() for match in matches if match is not None]
    if len(fields) < count:
        raise HeaderError("a signal has no file, format or gain")
    files, formats, gains, _, zeros, initial, checksums, _, names = zip(*fields, strict=True)
    signals = _parse_signals(formats, gains, zeros, names)
    return Header(
        rate_hz=float(record["rate"]),
        length=length,
        files=_signal_files(files, signals),
        initial=initial,
        checksums=tuple(map(parse_integer, checksums)),
        signals=signals,
    )


# Cached because these fields are equal in all headers of a data set such as MIMIC-IV-ECG.
@lru_cache(maxsize=32)
def _parse_signals(
    formats: tuple[str, ...],
    gains: tuple[str, ...],
    zeros: tuple[str | None, ...],
    names: tuple[str | None, ...],
) -> Signals:
    """Parse the columns of text of a header."""
    labels = tuple((name or "").strip() for name in names)
    parsed = [_parse_format(text) for text in formats]
    scales = [_parse_gain(*fields) for fields in zip(gains, zeros, labels, strict=True)]
    return Signals(
        formats=tuple(sample_format for sample_format, _ in parsed),
        offsets=tuple(offset for _, offset in parsed),
        gains=tuple(gain for gain, _, _ in scales),
        baselines=tuple(baseline for _, baseline, _ in scales),
        units=tuple(unit for _, _, unit in scales),
        names=labels,
    )


@lru_cache(maxsize=32)
def _parse_format(text: str) -> tuple[str, int]:
    """Return the sample format and the byte offset of the samples."""
    match = _FORMAT.fullmatch(text)
    if match is None or match[1] not in FORMATS:
        raise HeaderError(f"signal format {text[:20]} is not supported")
    offset = parse_integer(match[2]) or 0
    if offset > _MAX_BYTE_OFFSET:
        raise HeaderError(f"byte offset of the samples is {offset}, above {_MAX_BYTE_OFFSET}")
    return match[1], offset


def _parse_gain(text: str, zero: str | None, name: str) -> tuple[float, int, str]:
    """Return the gain, the baseline (default: the ADC zero) and the unit (default: mV)."""
    match = _GAIN.fullmatch(text)
    gain = float(match[1]) if match is not None else 0.0
    if match is None or gain == 0 or not math.isfinite(gain):
        value = text if match is None else match[1]
        raise HeaderError(f"gain is {value[:20]} in lead {name[:20]}")
    baseline = parse_integer(match[2] if match[2] is not None else zero)
    return gain, baseline or 0, (match[3] or "mV").lower()


def parse_integer(text: str | None) -> int | None:
    """Parse a 32-bit signed integer or raise `HeaderError`; None stays None."""
    if text is None:
        return None
    if len(text) > 11 or not -_MAX_INTEGER <= (value := int(text)) < _MAX_INTEGER:
        raise HeaderError(f"number {text[:20]} is out of range")
    return value


def _signal_files(names: Sequence[str], signals: Signals) -> tuple[SignalFile, ...]:
    """Group the signals by file."""
    files = []
    first = 0
    for name, group in groupby(names):
        end = first + len(list(group))
        if name in (".", "..") or not _PATH_CHARACTERS.isdisjoint(name):
            raise HeaderError("a signal file is outside the header's folder")
        if len(set(signals.formats[first:end])) > 1:
            raise HeaderError("signals of one file have different formats")
        files.append(SignalFile(name, first, end))
        first = end
    if len({file.name for file in files}) < len(files):
        raise HeaderError("signals of one file are not listed together")
    return tuple(files)
