"""From a WFDB record on disk to the ECG as everything past here knows it: one shape, one order."""

import re
import warnings
from pathlib import Path

import numpy as np
import torch
import wfdb
from jaxtyping import Float, Float32

from enecg.signal import LEADS, SAMPLE_RATE_HZ, SAMPLES, SECONDS, resample
from pipeline.datasets.base import BadRecord

DECODE_VERSION = 1
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
)
"""Why an ECG cannot be had, as words of CF's `flag_meanings`; a store's status of a record is a
place in this list, so it only ever grows at the end."""

SHORTEST_S = 5.0
"""A record at least this long is padded with zeros at the end; a shorter one is too short."""

RATES_HZ = (100, 2000)
"""Lowest and highest sampling rate that is read (whole numbers), and resampled to 500 Hz."""

_MV_PER_UNIT = {"mv": 1.0, "uv": 1e-3, "µv": 1e-3, "μv": 1e-3, "v": 1e3}
_BYTES_PER_SAMPLE = {
    **{"8": 1.0, "16": 2.0, "24": 3.0, "32": 4.0, "61": 2.0, "80": 1.0, "160": 2.0},
    **{"212": 1.5, "310": 4 / 3, "311": 4 / 3},
}
_GAIN = re.compile(r"([-+]?\d+\.?\d*(?:[eE][-+]?\d+)?)(?:\([-+]?\d+\))?(?:/(\S+))?")
_LONGEST_HEADER_BYTES = 1_000_000


def read_wfdb(record: Path, *, units_per_mv: float | None = None) -> Float32[np.ndarray, "12 5000"]:
    """The first ten seconds of a record in mV at 500 Hz, leads in the order of `LEADS`.

    `record` is the path without `.hea`. `units_per_mv` stands in for the header's gains, offsets
    and units where a source is known to have wrong ones. The rules, in the order in which
    they are applied:

    - header or signal file not there: `missing_file`; signal file shorter than the header says:
      `cut_file`; a header that makes no sense, names a file outside its folder, no gain, a unit
      that is no voltage, or a rate outside `RATES_HZ`: `unreadable`;
    - leads are found by name in any case; one of the twelve not there: `missing_lead`;
    - only the first 10 s are read; shorter than `SHORTEST_S`: `too_short`;
    - any missing sample (NaN) in any of the twelve leads within what is read: `nan_samples`. None
      is filled in: an expert would see what nobody measured;
    - a lead whose samples are all equal: `flat_lead`;
    - other rates are resampled, the edge samples held beyond the ends; a record shorter than 10 s
      is followed by zeros.

    Raises BadRecord, and nothing else, where the ECG cannot be had.
    """
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            return _read(record, units_per_mv)
    except BadRecord:
        raise
    except Exception as error:
        what = " ".join(str(error).split())[:200] or type(error).__name__
        raise _unreadable(record, f"cannot be read ({what})") from error


def _read(record: Path, units_per_mv: float | None) -> Float32[np.ndarray, "12 5000"]:
    rate, length, units = _check_files(record)
    found = wfdb.rdrecord(str(record), sampto=min(length, round(SECONDS * rate)))
    names = [str(name).strip().lower() for name in found.sig_name]
    missing = [lead for lead in LEADS if lead.lower() not in names]
    if missing:
        raise BadRecord(
            "missing_lead",
            f"{record}.hea has no lead {', '.join(missing)}; leave the record out, or name the "
            "leads as usual.",
        )
    place = [names.index(lead.lower()) for lead in LEADS]
    unknown = sorted({units[n] for n in place} - _MV_PER_UNIT.keys())
    if unknown:
        raise _unreadable(record, f"gives signals in {', '.join(unknown)}, not in mV or uV")
    scale = np.array([_MV_PER_UNIT[units[n]] for n in place])[:, None]
    signal = found.p_signal.T[place] * scale
    if units_per_mv is not None:
        gain, zero = (np.array(of)[place, None] for of in (found.adc_gain, found.baseline))
        signal = (found.p_signal.T[place] * gain + zero) / units_per_mv
    ecg = signal.astype(np.float32)
    if ecg.shape[1] < SHORTEST_S * rate:
        raise BadRecord(
            "too_short",
            f"{record}.dat lasts {ecg.shape[1] / rate:.1f} s, less than {SHORTEST_S:g} s; "
            "leave the record out.",
        )
    holes = [lead for lead, row in zip(LEADS, ecg, strict=True) if np.isnan(row).any()]
    if holes:
        raise BadRecord(
            "nan_samples",
            f"{record}.dat has missing samples in {', '.join(holes)}; leave the record out, or "
            "mend the file.",
        )
    if not np.isfinite(ecg).all():
        raise _unreadable(record, "gives infinite voltages")
    flat = [lead for lead, row in zip(LEADS, ecg, strict=True) if (row == row[0]).all()]
    if flat:
        raise BadRecord(
            "flat_lead",
            f"{record}.dat is flat in {', '.join(flat)}; leave the record out.",
        )
    return _ten_seconds(ecg, rate)


def _ten_seconds(ecg: Float32[np.ndarray, "12 time"], rate: float) -> Float[np.ndarray, "12 5000"]:
    """Resampled to 500 Hz, zeros after the end."""
    whole = round(SECONDS * rate)
    lasting = min(round(ecg.shape[1] * SAMPLE_RATE_HZ / rate), SAMPLES)
    if whole != SAMPLES:
        # The ten seconds are filled with the last sample first: the ratio of rates stays a small
        # fraction, and no edge rings. A lead at a time keeps the memory small for odd rates.
        held = np.pad(ecg, ((0, 0), (0, whole - ecg.shape[1])), mode="edge")
        ecg = np.stack([resample(torch.from_numpy(lead), SAMPLES).numpy() for lead in held])
    out = np.zeros((len(LEADS), SAMPLES), np.float32)
    out[:, :lasting] = ecg[:, :lasting]
    return out


def _check_files(record: Path) -> tuple[float, int, list[str]]:
    """Rate (Hz), length (samples) and units by the header, once the files can be what it says.

    Looks at the header's text before wfdb does: wfdb would follow a file name out of the folder or
    onto the network, fill memory for a length that is not there, read `µV` as V, and take a gain
    that it cannot read for 200.
    """
    header = Path(f"{record}.hea")
    if not header.is_file():
        raise _missing(header)
    if header.stat().st_size > _LONGEST_HEADER_BYTES:
        raise _unreadable(record, "is no header, being too long")
    content = header.read_bytes()
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    lines = [line.split() for line in text.splitlines() if line.strip() and line[0] != "#"]
    if not lines or len(lines[0]) < 4:
        raise _unreadable(record, "lacks the number of signals, the rate or the length")
    first, signals = lines[0], lines[1:]
    if "/" in first[0]:
        raise _unreadable(record, "is in several segments, which are not read")
    rate, length = float(first[2].split("/")[0].split("(")[0]), int(first[3])
    if int(first[1]) != len(signals) or length < 1:
        raise _unreadable(record, "contradicts itself in the number of signals or samples")
    lowest, highest = RATES_HZ
    if not lowest <= rate <= highest or not rate.is_integer():
        rule = f"a whole number from {lowest} to {highest}"
        raise _unreadable(record, f"gives a rate of {rate:g} Hz, not {rule}")
    need: dict[str, float] = {}
    units = []
    for fields in signals:
        if len(fields) < 3 or fields[0] != Path(fields[0]).name or ":" in fields[0]:
            raise _unreadable(record, "names a signal file outside its own folder")
        gain = _GAIN.fullmatch(fields[2])
        if gain is None or float(gain[1]) == 0:
            raise _unreadable(record, "gives a signal without a gain, so of unknown voltage")
        units.append((gain[2] or "mV").lower())
        width = _BYTES_PER_SAMPLE.get(fields[1].split("+")[0])
        offset = float(fields[1].split("+")[1]) if "+" in fields[1] else 0.0
        need.setdefault(fields[0], offset)
        if width is None:
            raise _unreadable(record, f"uses signal format {fields[1]}, which is not read")
        need[fields[0]] += length * width
    for name, size in need.items():
        samples = header.parent / name
        if not samples.is_file():
            raise _missing(samples)
        if samples.stat().st_size < int(size):
            raise BadRecord(
                "cut_file",
                f"{samples} has {samples.stat().st_size} of {int(size)} bytes; copy it again.",
            )
    return rate, length, units


def _missing(path: Path) -> BadRecord:
    return BadRecord("missing_file", f"{path} is not there; copy it, or leave the record out.")


def _unreadable(record: Path, what: str) -> BadRecord:
    return BadRecord("unreadable", f"{record}.hea {what}; copy it again, or leave the record out.")
