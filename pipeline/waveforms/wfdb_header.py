"""The text of a WFDB header, read with bounds on every field.

The format: https://physionet.org/physiotools/wag/header-5.htm. What is read of it is a record in
one segment whose signals have one sample a frame and no skew; anything else is a HeaderError.
Where fields are missing before a signal's name, they are taken as wfdb takes them.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import groupby
from typing import NamedTuple


class SampleFormat(NamedTuple):
    """Bytes a sample, and the value that stands for a missing one (None: there is none)."""

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
"""Signal formats that are read (https://physionet.org/physiotools/wag/signal-5.htm)."""

MOST_SIGNALS = 256
"""More than any ECG has."""

_FURTHEST_BYTE = 1 << 20
"""Where samples may begin in their file: what is before them is read and left."""

_LARGEST = 2**31
"""WFDB's integers are those of C."""

# Possessive and bounded, as all that is repeated here, so that no text takes more than linear time.
_NUMBER = r"[-+]?\d{1,30}+(?:\.\d{0,30}+)?(?:[eE][-+]?\d{1,5}+)?"
_RECORD = re.compile(
    rf"\s*+[^\s/]++(?P<segments>/\S*+)?\s++(?P<signals>\d{{1,9}}+)\s++(?P<rate>{_NUMBER})"
    r"(?:[/(]\S*+)?\s++(?P<length>\d{1,15}+)(?:\s.*+)?",
    re.ASCII,
)
# File, format, gain; as many as there are, in this order, of resolution, zero, initial value,
# checksum and block size; name.
_SIGNAL = re.compile(
    r"\s*+(\S++)\s++(\S++)\s++(\S++)"
    r"(?:\s++(-?\d++)(?!\S)(?:\s++(-?\d++)(?!\S)(?:\s++(-?\d++)(?!\S)"
    r"(?:\s++(-?\d++)(?!\S)(?:\s++(-?\d++)(?!\S))?)?)?)?)?"
    r"(?:\s++(\S.*+))?+\s*+",
    re.ASCII,
)
# One sample a frame and no skew may be spelled out.
_FORMAT = re.compile(r"(\d{1,3}+)(?:x1)?(?::0)?(?:\+(\d{1,10}+))?", re.ASCII)
_GAIN = re.compile(rf"({_NUMBER})(?:\(([-+]?\d++)\))?(?:/(\S++))?", re.ASCII)
_OUTSIDE = frozenset("/\\:\0")


class HeaderError(ValueError):
    """What is wrong with a header, as the predicate of a sentence: "gives no rate"."""


@dataclass(frozen=True, eq=False)
class Signals:
    """What a header says of its signals, a place each, as far as it is the same in many records."""

    formats: tuple[str, ...]
    offsets: tuple[int, ...]
    gains: tuple[float, ...]
    baselines: tuple[int, ...]
    units: tuple[str, ...]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def plain16(self) -> bool:
        """Whether all are in format 16 from the first byte on."""
        return set(self.formats) == {"16"} and not any(self.offsets)

    @cached_property
    def place(self) -> dict[str, int]:
        """Where a signal stands by its name in lower case; of equal names, the first."""
        return {name.lower(): n for n, name in reversed(list(enumerate(self.names)))}


class SignalFile(NamedTuple):
    """A file in the header's own folder, and the signals in it: from `first` up to `end`.

    They are all in one format; the first one's offset is the file's.
    """

    name: str
    first: int
    end: int


@dataclass(frozen=True)
class Header:
    """A record in one segment.

    `rate_hz` samples a second, `length` samples (at least 1) in each signal; `files` hold the
    signals in their order. `initial` (digits) and `checksums` are None where the header has none;
    a checksum is the sum of a signal's samples modulo 65536.
    """

    rate_hz: float
    length: int
    files: tuple[SignalFile, ...]
    initial: tuple[str | None, ...]
    checksums: tuple[int | None, ...]
    signals: Signals


def parse_header(content: bytes) -> Header:
    """The header in a file's bytes. Raises HeaderError, and nothing else."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    # Not splitlines: it also breaks at characters that a comment may have.
    lines = text.replace("\r", "\n").split("\n")
    lines = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    record = _RECORD.fullmatch(lines[0]) if lines else None
    if record is None:
        raise HeaderError("lacks the number of signals, the rate or the length")
    if record["segments"]:
        raise HeaderError("is in several segments, which are not read")
    count, length = int(record["signals"]), int(record["length"])
    if not 1 <= count <= MOST_SIGNALS or count != len(lines) - 1 or length < 1:
        raise HeaderError("contradicts itself in the number of signals or samples")
    found = [_SIGNAL.fullmatch(line) for line in lines[1:]]
    fields = [one.groups() for one in found if one is not None]
    if len(fields) < count:
        raise HeaderError("has a signal without a file, a format or a gain")
    files, formats, gains, _, zeros, initial, checksums, _, names = zip(*fields, strict=True)
    signals = _signals(formats, gains, zeros, names)
    return Header(
        rate_hz=float(record["rate"]),
        length=length,
        files=_files(files, signals),
        initial=initial,
        checksums=tuple(map(whole, checksums)),
        signals=signals,
    )


# All of a data set's headers may say the same of their signals, as MIMIC-IV-ECG's do.
@lru_cache(maxsize=32)
def _signals(
    formats: tuple[str, ...],
    gains: tuple[str, ...],
    zeros: tuple[str | None, ...],
    names: tuple[str | None, ...],
) -> Signals:
    """The signals in a header's columns of text."""
    kinds = [_format(one) for one in formats]
    scales = [_gain(one, zero) for one, zero in zip(gains, zeros, strict=True)]
    return Signals(
        formats=tuple(kind for kind, _ in kinds),
        offsets=tuple(offset for _, offset in kinds),
        gains=tuple(gain for gain, _, _ in scales),
        baselines=tuple(baseline for _, baseline, _ in scales),
        units=tuple(unit for _, _, unit in scales),
        names=tuple((name or "").strip() for name in names),
    )


@lru_cache(maxsize=32)
def _format(text: str) -> tuple[str, int]:
    """Signal format, and the byte in the file at which the samples begin."""
    found = _FORMAT.fullmatch(text)
    if found is None or found[1] not in FORMATS:
        raise HeaderError(f"uses signal format {text[:20]}, which is not read")
    offset = whole(found[2]) or 0
    if offset > _FURTHEST_BYTE:
        raise HeaderError(f"has samples that begin {offset} bytes into a file, out of bounds")
    return found[1], offset


def _gain(text: str, zero: str | None) -> tuple[float, int, str]:
    """Steps per unit, the step at 0, and the unit in lower case.

    Where the header has no baseline it is the ADC's zero; where it has no unit, it is mV.
    """
    found = _GAIN.fullmatch(text)
    gain = float(found[1]) if found is not None else 0.0
    if found is None or gain == 0 or not math.isfinite(gain):
        raise HeaderError("gives a signal without a gain, so of unknown voltage")
    baseline = whole(found[2] if found[2] is not None else zero)
    return gain, baseline or 0, (found[3] or "mV").lower()


def whole(text: str | None) -> int | None:
    """An integer of C's size, None where there is none."""
    if text is None:
        return None
    if len(text) > 11 or not -_LARGEST <= (value := int(text)) < _LARGEST:
        raise HeaderError(f"has the number {text[:20]}, which is out of bounds")
    return value


def _files(names: Sequence[str], signals: Signals) -> tuple[SignalFile, ...]:
    """The signal files, in the order of the signals."""
    files = []
    first = 0
    for name, same in groupby(names):
        end = first + len(list(same))
        if name in (".", "..") or not _OUTSIDE.isdisjoint(name):
            raise HeaderError("names a signal file outside its own folder")
        if len(set(signals.formats[first:end])) > 1:
            raise HeaderError("gives signals of one file in several formats")
        files.append(SignalFile(name, first, end))
        first = end
    if len({file.name for file in files}) < len(files):
        raise HeaderError("does not give the signals of a file together")
    return tuple(files)
