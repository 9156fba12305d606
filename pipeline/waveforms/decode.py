"""From a WFDB record to the ECG as everything past here knows it: one shape, one order."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Integer
from scipy.signal import resample_poly

from enecg.signal import LEADS, SAMPLE_RATE_HZ, SAMPLES, SECONDS
from pipeline.waveforms.errors import UnreadableRecord
from pipeline.waveforms.record_files import Content, DirectoryFiles, LeavesRootError, RecordFiles
from pipeline.waveforms.twelve import LacksLeadsError, find_twelve
from pipeline.waveforms.wfdb_header import Header, HeaderError, parse_header
from pipeline.waveforms.wfdb_samples import bytes_needed, digital_samples

DECODE_VERSION = 2
"""Goes up with any change of the rules below that changes a sample or a reason; a part of the
identity of every store made from decoded records."""

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
"""Why an ECG cannot be had, as words of CF's `flag_meanings`; a store's status of a record is a
place in this list, so it only ever grows at the end."""

SHORTEST_S = 5.0
"""A record at least this long is padded with zeros at the end; a shorter one is too short."""

RATES_HZ = (100, 2000)
"""Lowest and highest sampling rate that is read (whole numbers), and resampled to 500 Hz."""

_LONGEST_HEADER_BYTES = 1_000_000


@dataclass(frozen=True)
class Leads:
    """The twelve leads of a record as they are, before any rule refuses it.

    `mv` (12, time) are the first ten seconds or what there is of them, in the order of `LEADS`, in
    mV, NaN where a sample is missing; `digital` (12, time) the same as the converter gave it, to
    see whether it was driven to its limits. `names` are all of the record's signals, as spelled;
    `wrong_sums` those of the twelve whose samples do not add up to the header's checksum.
    """

    mv: Float32[np.ndarray, "12 time"]
    digital: Integer[np.ndarray, "12 time"]
    rate_hz: int
    names: tuple[str, ...]
    wrong_sums: tuple[str, ...]


def read_wfdb(
    record: str | Path, files: RecordFiles | None = None, *, units_per_mv: float | None = None
) -> Float32[np.ndarray, "12 5000"]:
    """The first ten seconds of a record in mV at 500 Hz, leads in the order of `LEADS`.

    Arguments as for `read_leads`. The rules, in the order in which they are applied:

    - header or signal file not there, or no file: `missing_file`; signal file shorter than the
      header says: `cut_file`; a header that makes no sense, names a file outside its folder, no
      gain, a unit that is no voltage, or a rate outside `RATES_HZ`: `unreadable`;
    - leads are found by name in any case; one of the twelve not there: `missing_lead`;
    - only the first 10 s are read; shorter than `SHORTEST_S`: `too_short`;
    - any missing sample (NaN) in any of the twelve leads within what is read: `nan_samples`. None
      is filled in: an expert would see what nobody measured;
    - a lead whose samples are all equal: `flat_lead`;
    - the samples of one of the twelve do not add up to the header's checksum (a record without
      checksums, or longer than what is read, is taken on trust): `wrong_checksum`. It comes last,
      so that a file with holes or a dead lead keeps the reason that says more;
    - other rates are resampled, the edge samples held beyond the ends; a record shorter than 10 s
      is followed by zeros.

    Raises UnreadableRecord, and nothing else, where the ECG cannot be had.
    """
    name, files = _record_and_files(record, files)
    leads = read_leads(name, files, units_per_mv=units_per_mv)
    samples = files.told(name)
    seconds = leads.mv.shape[1] / leads.rate_hz
    if seconds < SHORTEST_S:
        raise UnreadableRecord(
            "too_short",
            f"{samples} lasts {seconds:.1f} s, less than {SHORTEST_S:g} s; leave the record out.",
        )
    # NaN where any sample is missing.
    span = leads.mv.max(1) - leads.mv.min(1)
    if not ((span > 0) & (span < np.inf)).all():
        _check_voltages(leads.mv, files, name)
    if leads.wrong_sums:
        raise UnreadableRecord(
            "wrong_checksum",
            f"{samples} does not add up to its header's checksums in "
            f"{', '.join(leads.wrong_sums)}; copy it again.",
        )
    return _ten_seconds(leads.mv, leads.rate_hz)


def read_leads(
    record: str | Path, files: RecordFiles | None = None, *, units_per_mv: float | None = None
) -> Leads:
    """The twelve leads of a record: the first stage of `read_wfdb`, which has the rules.

    `record` is the name without `.hea`, in `files`, or a path on this machine without them.
    `units_per_mv` stands in for the header's gains, offsets and units where a source is known to
    have wrong ones. Raises UnreadableRecord, and nothing else, where there are no such leads:
    `missing_file`, `cut_file`, `unreadable` or `missing_lead`.
    """
    name, files = _record_and_files(record, files)
    try:
        header = parse_header(_read_header(files, f"{name}.hea"))
        rate = _check_rate(header.rate_hz)
        length = min(header.length, SECONDS * rate)
        samples = digital_samples(header, length, _read_signals(files, name, header, length))
        twelve = find_twelve(header.signals, units_per_mv)
    except HeaderError as error:
        raise _unreadable(files, name, str(error)) from error
    except LacksLeadsError as error:
        raise _bad(
            "missing_lead",
            f"{files.told(name)}.hea has no lead {error}; leave the record out, or name the leads "
            "as usual.",
        ) from error
    digital = samples[twelve.place]
    sums_known = length == header.length
    return Leads(
        mv=twelve.millivolts(digital),
        digital=digital,
        rate_hz=rate,
        names=header.signals.names,
        wrong_sums=_wrong_sums(header.checksums, twelve.place, digital) if sums_known else (),
    )


def _check_voltages(mv: Float32[np.ndarray, "12 time"], files: RecordFiles, record: str) -> None:
    """Raise UnreadableRecord for the first thing that is wrong with the samples."""
    where = files.told(record)
    holes, flat = np.isnan(mv).any(1), (mv == mv[:, :1]).all(1)
    if holes.any():
        raise UnreadableRecord(
            "nan_samples",
            f"{where} has missing samples in {_named(holes)}; leave the record out, or mend the "
            "file.",
        )
    if not np.isfinite(mv).all():
        raise _unreadable(files, record, "gives infinite voltages")
    if flat.any():
        raise UnreadableRecord(
            "flat_lead", f"{where} is flat in {_named(flat)}; leave the record out."
        )


def _wrong_sums(
    checksums: tuple[int | None, ...], place: list[int], digital: Integer[np.ndarray, "12 time"]
) -> tuple[str, ...]:
    """The leads whose sum modulo 65536 is not their checksum; those without one are taken as it."""
    if not any(checksums):
        # Programs that know of none write 0 for all.
        return ()
    # In the samples' own type: that it overflows changes nothing modulo 65536.
    sums = np.add.reduce(digital, axis=1, dtype=digital.dtype).tolist()
    return tuple(
        lead
        for lead, n, found in zip(LEADS, place, sums, strict=True)
        if (told := checksums[n]) is not None and (told - found) % 65536
    )


def _ten_seconds(
    mv: Float32[np.ndarray, "12 time"], rate_hz: int
) -> Float32[np.ndarray, "12 5000"]:
    """Resampled to 500 Hz, zeros after the end."""
    whole, lasting = SECONDS * rate_hz, mv.shape[1]
    if rate_hz != SAMPLE_RATE_HZ:
        # The ten seconds are filled with the last sample first: the ratio of rates stays a small
        # fraction, and no edge rings.
        held = np.pad(mv, ((0, 0), (0, whole - lasting)), mode="edge").astype(np.float64)
        common = math.gcd(whole, SAMPLES)
        mv = resample_poly(held, SAMPLES // common, whole // common, axis=1, padtype="edge").astype(
            np.float32
        )
        lasting = round(lasting * SAMPLE_RATE_HZ / rate_hz)
    if lasting >= SAMPLES:
        return mv
    out = np.zeros((len(LEADS), SAMPLES), np.float32)
    out[:, :lasting] = mv[:, :lasting]
    return out


def _record_and_files(record: str | Path, files: RecordFiles | None) -> tuple[str, RecordFiles]:
    if files is not None:
        return str(record), files
    path = Path(record)
    return path.name, DirectoryFiles(path.parent)


def _check_rate(rate_hz: float) -> int:
    lowest, highest = RATES_HZ
    if not lowest <= rate_hz <= highest or not rate_hz.is_integer():
        rule = f"a whole number from {lowest} to {highest}"
        raise HeaderError(f"gives a rate of {rate_hz:g} Hz, not {rule}")
    return int(rate_hz)


def _read_header(files: RecordFiles, name: str) -> bytes:
    content = _read(files, name, _LONGEST_HEADER_BYTES)
    if content.size > _LONGEST_HEADER_BYTES:
        raise HeaderError("is no header, being too long")
    return content.data


def _read_signals(files: RecordFiles, record: str, header: Header, length: int) -> list[bytes]:
    """Of each of the record's signal files, what holds the first `length` samples."""
    folder = record[: record.rfind("/") + 1]
    contents = []
    for file in header.files:
        least, wanted = bytes_needed(header, file, length)
        content = _read(files, folder + file.name, wanted)
        if content.size < least:
            raise _bad(
                "cut_file",
                f"{files.told(folder + file.name)} has {content.size} of {least} bytes; copy it "
                "again.",
            )
        contents.append(content.data)
    return contents


def _read(files: RecordFiles, name: str, limit: int) -> Content:
    """A file's beginning, and the UnreadableRecord for one that cannot be had."""
    try:
        return files.read(name, limit)
    except FileNotFoundError as error:
        raise _bad(
            "missing_file",
            f"{files.told(name)} is not there; copy it, or leave the record out.",
        ) from error
    except LeavesRootError as error:
        raise _bad(
            "unreadable",
            f"{files.told(name)} leaves the data set's folder; mend the path, or copy the file "
            "there.",
        ) from error
    except OSError as error:
        raise _bad(
            "unreadable",
            f"{files.told(name)} cannot be read ({error.strerror}); copy it again, or leave the "
            "record out.",
        ) from error


def _unreadable(files: RecordFiles, record: str, what: str) -> UnreadableRecord:
    return _bad(
        "unreadable", f"{files.told(record)}.hea {what}; copy it again, or leave the record out."
    )


def _bad(reason: str, detail: str) -> UnreadableRecord:
    """The detail may quote a header, which may hold anything."""
    return UnreadableRecord(reason, "".join(c if c.isprintable() else "?" for c in detail))


def _named(leads: Bool[np.ndarray, " 12"]) -> str:
    return ", ".join(lead for lead, is_one in zip(LEADS, leads, strict=True) if is_one)
