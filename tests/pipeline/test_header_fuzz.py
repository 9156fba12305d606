"""Any header gives an ECG or raises UnreadableRecord, in little time and memory."""

import os
import time
import tracemalloc
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import wfdb
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wfdb_files import WfdbRecord, random_walk

from pipeline.waveforms.decode import read_wfdb
from pipeline.waveforms.errors import UnreadableRecord
from pipeline.waveforms.failures import REASONS
from pipeline.waveforms.lead_selection import select_leads
from pipeline.waveforms.lead_signals import LeadSignals, read_leads
from pipeline.waveforms.wfdb_header import parse_header
from pipeline.waveforms.wfdb_samples import decode_with_wfdb

HOSTILE = [
    *("", "0", "-1", "1", "2", "13", "99999999999999999999", "9" * 400, "1e400", "-1e400", "nan"),
    *("inf", "-inf", "1e-320", "0x10", "1_0", "٣", "²", "½", "~", "ecg", "ecg.hea", "..", "."),
    *("../ecg.dat", "/dev/zero", "/dev/stdin", "http://127.0.0.1:9/x", "s3://a/b", "a\\b", "\0"),
    *("a\0b", "\x1b[31m", "16x2", "16:3", "16+9", "16+99999999999", "212", "8", "516", "-16"),
    *("310", "32", "24", "200(", "200)", "200()/", "200/mV/mV", "1e39/mV", "1e-39/uV", "0/mV"),
    *("200(99999999999)/mV", "-5/V", "200(-7)/µV", "250", "100", "2000", "500/500(0)", "5e2"),
    *("I", "ii", "V6", "aVR lead", "\u2028", "\x85", "\x0c", "#", "# x", "ecg/3", "é" * 300),
]


def headers(valid: bytes) -> st.SearchStrategy[bytes]:
    """Return a strategy that draws a valid header with random changes, or random bytes."""

    @st.composite
    def mutated(draw: st.DrawFn) -> bytes:
        lines = valid.decode().split("\n")
        for _ in range(draw(st.integers(1, 4))):
            kind = draw(st.sampled_from(["field", "field", "drop", "repeat", "swap", "insert"]))
            n = draw(st.integers(0, len(lines) - 1)) if lines else 0
            if not lines or kind == "insert":
                lines.insert(n, draw(st.text(max_size=40)))
            elif kind == "drop":
                del lines[n]
            elif kind == "repeat":
                lines[n : n + 1] = [lines[n]] * draw(st.integers(2, 40))
            elif kind == "swap":
                m = draw(st.integers(0, len(lines) - 1))
                lines[n], lines[m] = lines[m], lines[n]
            elif fields := lines[n].split(" "):
                position = draw(st.integers(0, len(fields) - 1))
                fields[position] = draw(st.one_of(st.sampled_from(HOSTILE), st.text(max_size=8)))
                lines[n] = draw(st.sampled_from([" ", " ", "  ", "\t"])).join(fields)
        changed = bytearray("\n".join(lines).encode("utf-8", "replace"))
        for _ in range(draw(st.sampled_from([0, 0, 1, 3]))):
            if changed:
                changed[draw(st.integers(0, len(changed) - 1))] = draw(st.integers(0, 255))
        return bytes(changed)

    return st.one_of(mutated(), mutated(), mutated(), st.binary(max_size=300))


SPEC = WfdbRecord(random_walk(1000), rate="100")
VALID = SPEC.header("ecg").encode()
COUNTS = {"inputs": 0, "accepted": 0, "decoded": 0, "equal to wfdb": 0}


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return SPEC.write(tmp_path_factory.mktemp("fuzzed"))


def check_header(record: Path, content: bytes) -> None:
    """Check properties that hold for every header."""
    header = Path(f"{record}.hea")
    header.write_bytes(content)
    COUNTS["inputs"] += 1
    try:
        signals = read_leads(record)
    except UnreadableRecord as error:
        check_error(error)
        return
    COUNTS["accepted"] += 1
    parsed = parse_header(content)
    selection = select_leads(parsed.signals, None)
    header, kept = parsed.keep(selection.rows)
    files = [(record.parent / file.name).read_bytes() for file in header.files]
    length = signals.digital.shape[1]
    assert (decode_with_wfdb(header, length, files)[kept[:12]] == signals.digital).all()
    compare_with_wfdb(record, signals, list(selection.rows[:12]))
    try:
        ecg = read_wfdb(record)
    except UnreadableRecord as error:
        check_error(
            error, ("too_short", "nan_samples", "unreadable", "flat_lead", "wrong_checksum")
        )
    else:
        COUNTS["decoded"] += 1
        assert ecg.shape == (12, 5000)
        assert ecg.dtype == np.float32
        assert np.isfinite(ecg).all()


def check_error(error: UnreadableRecord, reasons: tuple[str, ...] = REASONS) -> None:
    assert error.reason in reasons
    assert error.detail.isprintable()
    assert error.detail.endswith(".")
    assert len(error.detail) < 1000


def compare_with_wfdb(record: Path, signals: LeadSignals, rows: list[int]) -> None:
    """Compare the samples with those that wfdb reads from the original header.

    wfdb ignores text that is not ASCII and fields that it cannot parse. Records that it therefore
    cannot read, or reads with other signals or another rate, are not compared.
    """
    try:
        head = wfdb.rdheader(str(record))
        if head.sig_len is None or head.fs != signals.rate_hz or len(head.file_name) != head.n_sig:
            return
        found = wfdb.rdrecord(str(record), physical=False, sampto=signals.digital.shape[1])
    except Exception:
        return
    if found.n_sig != len(signals.names) or [s.strip() for s in found.sig_name] != [*signals.names]:
        return
    COUNTS["equal to wfdb"] += 1
    assert (found.d_signal.T[rows] == signals.digital).all()


def test_unchanged_header_is_decoded(record: Path) -> None:
    Path(f"{record}.hea").write_bytes(VALID)
    assert read_wfdb(record).shape == (12, 5000)


# Hypothesis attributes the use of `random` by another thread to the strategy.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module")
@given(content=headers(VALID))
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_header_is_read_or_raises_unreadable_record(record: Path, content: bytes) -> None:
    check_header(record, content)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_many_headers_are_read_or_raise_unreadable_record(record: Path) -> None:
    @given(content=headers(VALID))
    @settings(max_examples=20_000, deadline=None, suppress_health_check=list(HealthCheck))
    def check_many(content: bytes) -> None:
        check_header(record, content)

    COUNTS.update(dict.fromkeys(COUNTS, 0))
    check_many()
    print(COUNTS)
    assert COUNTS["inputs"] >= 20_000
    assert COUNTS["accepted"] > 500
    assert COUNTS["decoded"] > 300


def repeat_signal(count: int) -> str:
    return f"ecg {count} 500 5000\n" + "ecg.dat 16 200/mV 16 0 0 0 0 I\n" * count


HUGE = {
    "a million signals": repeat_signal(1_000_000).encode(),
    "many signals": repeat_signal(30_000).encode(),
    "a length of twenty digits": VALID.replace(b" 1000\n", b" 99999999999999999999\n"),
    "a length of fifteen digits": VALID.replace(b" 1000\n", b" 999999999999999\n"),
    "900,000 digits of length": VALID.replace(b" 1000\n", b" " + b"9" * 900_000 + b"\n"),
    "900,000 digits of gain": VALID.replace(b"200.0", b"9" * 900_000, 1),
    "900,000 digits of checksum": VALID.replace(b" 0 I\n", b"9" * 900_000 + b" 0 I\n", 1),
    "900,000 digits of baseline": VALID.replace(b"(0)", b"(" + b"9" * 900_000 + b")", 1),
    "900,000 spaces": b"ecg" + b" " * 900_000 + b"x\n" + VALID,
    "900,000 tabs in a signal": VALID.replace(b" 16 ", b"\t" * 900_000, 1),
    "a lead name of 900,000 letters": VALID.replace(b" I\n", b" " + b"I" * 900_000 + b"\n", 1),
    "900,000 empty lines": b"\n" * 900_000 + VALID[:90],
    "450,000 comments": b"#\n" * 450_000,
    "a segment that refers to itself": b"ecg/2 12 500 5000\necg 2500\necg 2500\n",
    "NUL": b"\0" * 900_000,
    "samples far into the file": VALID.replace(b" 16 200", b" 16+2000000000 200"),
}


@pytest.mark.parametrize("name", HUGE)
def test_huge_headers_use_little_time_and_memory(record: Path, name: str) -> None:
    Path(f"{record}.hea").write_bytes(HUGE[name])
    seconds, peak = measure_failure(record)
    assert seconds < 2
    assert peak < 80e6


def measure_failure(record: Path) -> tuple[float, float]:
    """Return the CPU seconds and the peak memory in bytes until a record is rejected."""
    tracemalloc.start()
    start = time.process_time()
    try:
        with pytest.raises(UnreadableRecord) as failure:
            read_wfdb(record)
        check_error(failure.value)
        return time.process_time() - start, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_header_of_a_gigabyte_is_not_read(record: Path) -> None:
    Path(f"{record}.hea").write_bytes(VALID)
    os.truncate(f"{record}.hea", 1 << 30)
    seconds, peak = measure_failure(record)
    assert seconds < 1
    assert peak < 5e6


def test_only_the_beginning_of_a_large_file_is_read(tmp_path: Path) -> None:
    path = WfdbRecord(random_walk()).write(tmp_path)
    os.truncate(f"{path}.dat", 1 << 30)
    tracemalloc.start()
    read_wfdb(path)
    assert tracemalloc.get_traced_memory()[1] < 2e6
    tracemalloc.stop()


def test_all_descriptors_are_closed(record: Path) -> None:
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("/proc is not available")
    before = len([*descriptors.iterdir()])
    for content in (VALID, VALID.replace(b"ecg.dat", b"no.dat"), b""):
        Path(f"{record}.hea").write_bytes(content)
        with suppress(UnreadableRecord):
            read_wfdb(record)
    assert len([*descriptors.iterdir()]) == before
