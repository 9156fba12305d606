"""From the bytes of a record's signal files to digital samples: by numpy, or by wfdb."""

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import wfdb
from jaxtyping import Int16, Integer

from enecg.errors import UserError
from pipeline.waveforms.wfdb_header import FORMATS, Header, HeaderError, SignalFile

_BLOCK_BYTES = 4
"""Formats 212, 310 and 311 pack samples in blocks of at most so many bytes."""


def bytes_needed(header: Header, file: SignalFile, length: int) -> tuple[int, int]:
    """How many bytes the header says that a file has at least, and up to which byte it is to be
    read for the first `length` samples of its signals."""
    offset = header.signals.offsets[file.first]
    frame = (file.end - file.first) * FORMATS[header.signals.formats[file.first]].width
    return offset + int(header.length * frame), math.ceil(offset + length * frame) + _BLOCK_BYTES


def digital_samples(
    header: Header, length: int, contents: Sequence[bytes]
) -> Integer[np.ndarray, "signal time"]:
    """The first `length` samples of every signal, out of the contents of its files.

    Raises HeaderError where wfdb cannot read them.
    """
    if len(contents) == 1 and header.signals.plain16:
        return samples_of_format16(header, length, contents[0])
    return samples_by_wfdb(header, length, contents)


def samples_of_format16(
    header: Header, length: int, content: bytes
) -> Int16[np.ndarray, "signal time"]:
    """All signals in one file in format 16 (little-endian, in turn), as MIMIC-IV-ECG's are."""
    signals = len(header.signals)
    return np.frombuffer(content, "<i2", length * signals).reshape(length, signals).T


def samples_by_wfdb(
    header: Header, length: int, contents: Sequence[bytes]
) -> Integer[np.ndarray, "signal time"]:
    """Any format, by wfdb.

    wfdb sees a header that was written here, in a folder of its own: of somebody else's it would
    follow a file name out of the folder or onto the network, fill memory for a length that is not
    there, and guess at what it cannot read.
    """
    lines = [f"record {len(header.signals)} {header.rate_hz:g} {length}"]
    for place, file in enumerate(header.files):
        for n in range(file.first, file.end):
            kind, offset = header.signals.formats[n], header.signals.offsets[file.first]
            lines.append(
                f"{place}.dat {kind}+{offset} 1(0)/mV 0 0 {header.initial[n] or 0} 0 0 {n}"
            )
    with tempfile.TemporaryDirectory(prefix="enecg-") as folder:
        try:
            Path(folder, "record.hea").write_text("\n".join(lines) + "\n", "ascii")
            for place, content in enumerate(contents):
                Path(folder, f"{place}.dat").write_bytes(content)
        except OSError as error:
            raise UserError(
                f"{folder} cannot be written ({error.strerror}); make room, or point TMPDIR to "
                "another folder."
            ) from error
        try:
            with np.errstate(all="ignore"):
                found = wfdb.rdrecord(str(Path(folder, "record")), physical=False)
        except Exception as error:
            what = " ".join(str(error).split())[:200] or type(error).__name__
            raise HeaderError(f"cannot be read ({what})") from error
    return np.asarray(found.d_signal).T
