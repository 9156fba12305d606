"""From the bytes of a record's signal files to digital samples: by numpy, or by wfdb."""

import math
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import wfdb
from jaxtyping import Int16, Integer

from enecg.errors import UserError
from pipeline.wfdb_header import FORMATS, Header, HeaderError

_BLOCK_BYTES = 4
"""Formats 212, 310 and 311 pack samples in blocks of at most so many bytes."""


def bytes_needed(header: Header, length: int) -> dict[str, tuple[int, int]]:
    """By signal file: what the header says it has at least, and how far it is to be read for the
    first `length` samples, in bytes."""
    needed = {}
    for file, count in Counter(header.files).items():
        first = header.files.index(file)
        offset = header.signals.offsets[first]
        frame = count * FORMATS[header.signals.formats[first]].width
        end = math.ceil(offset + length * frame) + _BLOCK_BYTES
        needed[file] = (offset + int(header.length * frame), end)
    return needed


def digital_samples(
    header: Header, length: int, files: Mapping[str, bytes]
) -> Integer[np.ndarray, "signal time"]:
    """The first `length` samples of every signal, out of the bytes of its files.

    Raises HeaderError where wfdb cannot read them.
    """
    if len(files) == 1 and header.signals.plain16:
        return samples_of_format16(header, length, files[header.files[0]])
    return samples_by_wfdb(header, length, files)


def samples_of_format16(
    header: Header, length: int, content: bytes
) -> Int16[np.ndarray, "signal time"]:
    """All signals in one file in format 16 (little-endian, in turn), as MIMIC-IV-ECG's are."""
    signals = len(header.signals)
    return np.frombuffer(content, "<i2", length * signals).reshape(length, signals).T


def samples_by_wfdb(
    header: Header, length: int, files: Mapping[str, bytes]
) -> Integer[np.ndarray, "signal time"]:
    """Any format, by wfdb.

    wfdb sees a header that was written here, in a folder of its own: of somebody else's it would
    follow a file name out of the folder or onto the network, fill memory for a length that is not
    there, and guess at what it cannot read.
    """
    names = {file: f"{number}.dat" for number, file in enumerate(files)}
    signals = header.signals
    lines = [f"record {len(signals)} {header.rate_hz:g} {length}"]
    for n, (file, kind, offset) in enumerate(
        zip(header.files, signals.formats, signals.offsets, strict=True)
    ):
        lines.append(f"{names[file]} {kind}+{offset} 1(0)/mV 0 0 {header.initial[n] or 0} 0 0 {n}")
    with tempfile.TemporaryDirectory(prefix="enecg-") as folder:
        try:
            Path(folder, "record.hea").write_text("\n".join(lines) + "\n", "ascii")
            for file, name in names.items():
                Path(folder, name).write_bytes(files[file])
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
