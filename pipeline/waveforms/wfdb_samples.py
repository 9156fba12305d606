"""Decode digital samples from the bytes of a record's signal files."""

import math
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from jaxtyping import Int16, Integer

from enecg.errors import UserError
from pipeline.waveforms.wfdb_header import FORMATS, Header, HeaderError, SignalFile

_MAX_BLOCK_BYTES = 4
"""Largest block of packed samples, in formats 310 and 311."""


def bytes_needed(header: Header, file: SignalFile, length: int) -> tuple[int, int]:
    """Return the expected size of a signal file, and the number of bytes of it to read.

    Args:
        header: Header of the record.
        file: One of its signal files.
        length: Number of samples to read per signal.

    Returns:
        The smallest size in bytes that matches the header, and the bytes that contain the first
        `length` samples of each signal and `_MAX_BLOCK_BYTES` more.
    """
    offset = header.signals.offsets[file.first]
    frame_bytes = (file.end - file.first) * FORMATS[header.signals.formats[file.first]].width
    return (
        offset + int((header.length or 0) * frame_bytes),
        math.ceil(offset + length * frame_bytes) + _MAX_BLOCK_BYTES,
    )


def samples_in(header: Header, file: SignalFile, size: int) -> int:
    """Return the number of samples per signal in a signal file.

    Args:
        header: Header of the record.
        file: One of its signal files.
        size: Size of the file in bytes.

    Returns:
        The number of samples, rounded down.
    """
    sample_bytes = Fraction(FORMATS[header.signals.formats[file.first]].width).limit_denominator()
    stored = Fraction(size - header.signals.offsets[file.first]) / sample_bytes
    return int(stored) // (file.end - file.first)


def digital_samples(
    header: Header, length: int, contents: Sequence[bytes]
) -> Integer[np.ndarray, "signal time"]:
    """Decode the first samples of every signal.

    Args:
        header: Header of the record.
        length: Number of samples per signal.
        contents: Bytes from the start of each file in `header.files` that contain these samples;
            see `bytes_needed`.

    Returns:
        The samples in ADC units.

    Raises:
        HeaderError: wfdb cannot decode the samples.
        UserError: The temporary folder for wfdb cannot be written.
    """
    if len(contents) == 1 and header.signals.is_plain_format16:
        return decode_format16(header, length, contents[0])
    return decode_with_wfdb(header, length, contents)


def decode_format16(
    header: Header, length: int, content: bytes
) -> Int16[np.ndarray, "signal time"]:
    """Decode a single file in format 16 with numpy: little-endian, signals interleaved.

    Args:
        header: Header of the record.
        length: Number of samples per signal.
        content: Bytes from the start of the file that contain these samples.

    Returns:
        The samples in ADC units.
    """
    signals = len(header.signals)
    return np.frombuffer(content, "<i2", length * signals).reshape(length, signals).T


def decode_with_wfdb(
    header: Header, length: int, contents: Sequence[bytes]
) -> Integer[np.ndarray, "signal time"]:
    """Decode any supported format with wfdb.

    wfdb reads copies of the files in a temporary folder, with a newly written header. If wfdb read
    the original header, it could open files outside of the folder or on the network, allocate
    memory for any stated length, and guess fields that it cannot parse.

    Args:
        header: Header of the record.
        length: Number of samples per signal.
        contents: Bytes from the start of each file in `header.files`.

    Returns:
        The samples in ADC units.

    Raises:
        HeaderError: wfdb cannot decode the samples.
        UserError: The temporary folder cannot be written.
    """
    # Imported here because the usual format, 16, is decoded without wfdb.
    import wfdb

    lines = [f"record {len(header.signals)} {header.rate_hz:g} {length}"]
    for number, file in enumerate(header.files):
        for n in range(file.first, file.end):
            storage = f"{header.signals.formats[n]}+{header.signals.offsets[file.first]}"
            lines.append(f"{number}.dat {storage} 1(0)/mV 0 0 {header.initial[n] or 0} 0 0 {n}")
    try:
        with tempfile.TemporaryDirectory(prefix="enecg-") as folder:
            Path(folder, "record.hea").write_text("\n".join(lines) + "\n", "ascii")
            for number, content in enumerate(contents):
                Path(folder, f"{number}.dat").write_bytes(content)
            try:
                with np.errstate(all="ignore"):
                    record = wfdb.rdrecord(str(Path(folder, "record")), physical=False)
            except Exception as error:
                message = " ".join(str(error).split())[:200] or type(error).__name__
                raise HeaderError(f"wfdb cannot decode the samples ({message})") from error
    except OSError as error:
        # `tempdir` is None if no temporary folder is writable; the error then lists all candidates.
        raise UserError(
            f"{tempfile.tempdir or 'TMPDIR'}: cannot write temporary files ({error.strerror}); "
            "free disk space, or set TMPDIR to another folder."
        ) from error
    return np.asarray(record.d_signal).T
