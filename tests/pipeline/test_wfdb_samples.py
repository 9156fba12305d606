"""Samples of WFDB records: agreement with the wfdb package, checksums and formats."""

import errno
import os
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import wfdb
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wfdb_files import FILE_ORDER, WfdbRecord, random_walk, read_with_wfdb

from enecg.ecg_format import LEADS
from enecg.errors import UserError
from pipeline.datasets.ludb import Ludb
from pipeline.datasets.mimic_iv_ecg import MimicIvEcg
from pipeline.waveforms.decode import read_wfdb
from pipeline.waveforms.errors import UnreadableRecord
from pipeline.waveforms.lead_signals import read_leads
from pipeline.waveforms.wfdb_header import parse_header
from pipeline.waveforms.wfdb_samples import decode_format16, decode_with_wfdb

GAINS = st.one_of(
    st.sampled_from(
        ["200.0", "200", "1716", "1000.0", "0.5", "409.6", "1e-3", "-200", "3e5", "1e39", "1e-37"]
    ),
    st.integers(1, 100_000).map(str),
    st.floats(1e-4, 1e7).map(repr),
)
BASELINES = st.one_of(
    st.just(""), st.integers(-40_000, 40_000).map("({})".format), st.just("(-2147483648)")
)
UNITS = st.sampled_from(["", "/mV", "/mv", "/uV", "/V"])


@st.composite
def format16_records(draw: st.DrawFn) -> WfdbRecord:
    """Draw a record in plain format 16, which numpy decodes."""
    extra = draw(st.integers(0, 4))
    names = draw(st.permutations([*FILE_ORDER, *(f"X{n}" for n in range(extra))]))
    case = draw(st.sampled_from([str, str.lower, str.upper]))
    rate = draw(st.sampled_from([100, 250, 500, 1000]))
    time = draw(st.one_of(st.just(10 * rate), st.integers(1, 12 * rate)))
    samples = random_walk(time, len(names), draw(st.integers(0, 99)))
    missing = draw(st.lists(st.tuples(st.integers(0, time - 1), st.integers(0, 11)), max_size=3))
    for sample, signal in missing:
        samples[sample, signal] = -32768
    equal_gains = draw(st.booleans())
    gains = st.tuples(GAINS, BASELINES, UNITS).map("".join)
    count = len(names)
    if equal_gains:
        fields = [draw(gains)] * count
    else:
        fields = draw(st.lists(gains, min_size=count, max_size=count))
    zero = draw(st.sampled_from([0, 0, 7, -1024]))
    return WfdbRecord(samples, fields, [case(name) for name in names], str(rate), f"16 {zero}")


@given(spec=format16_records())
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_numpy_and_wfdb_give_the_same_bits(
    spec: WfdbRecord, tmp_path_factory: pytest.TempPathFactory
) -> None:
    record = spec.write(tmp_path_factory.mktemp("made"))
    signals = read_leads(record)
    expected = read_with_wfdb(record)
    assert signals.mv.dtype == expected.dtype == np.float32
    np.testing.assert_array_equal(
        signals.mv.view(np.uint32), _canonical_nan(expected).view(np.uint32)
    )
    assert signals.names == tuple(spec.names)
    assert signals.checksum_mismatches == ()
    rows = [[n.lower() for n in spec.names].index(lead.lower()) for lead in LEADS]
    assert (signals.digital == spec.samples[: round(10 * signals.rate_hz), rows].T).all()
    header = parse_header(Path(f"{record}.hea").read_bytes())
    content = Path(f"{record}.dat").read_bytes()
    by_numpy = decode_format16(header, header.length, content)
    assert (decode_with_wfdb(header, header.length, [content]) == by_numpy).all()


def _canonical_nan(mv: np.ndarray) -> np.ndarray:
    """Give all NaNs the same bits."""
    return np.where(np.isnan(mv), np.float32(np.nan), mv)


def test_all_ludb_records_equal_wfdb_and_match_their_checksums(ludb: Path) -> None:
    for number in range(1, 201):
        signals = read_leads(ludb / "data" / str(number))
        expected = read_with_wfdb(ludb / "data" / str(number))
        assert signals.mv.tobytes() == expected.tobytes()
        assert signals.checksum_mismatches == ()
        assert signals.digital.dtype == np.int16
    assert Ludb(ludb).read(0).tobytes() == (digital_samples(ludb, 1) / np.float32(1000)).tobytes()


def digital_samples(ludb: Path, number: int) -> np.ndarray:
    return read_leads(ludb / "data" / str(number)).digital.astype(np.float32)


def test_synthetic_records_match_their_checksums_with_any_defect(
    synthetic_dir: Path,
) -> None:
    dataset = MimicIvEcg(synthetic_dir)
    read = 0
    for path in dataset._paths.to_pylist():
        try:
            signals = read_leads(path, dataset.files)
        except UnreadableRecord:  # The file is truncated or missing.
            continue
        read += 1
        assert signals.checksum_mismatches == ()
        assert (
            signals.mv.tobytes() == _canonical_nan(read_with_wfdb(synthetic_dir / path)).tobytes()
        )
    assert read > 40


def failure_reason(record: Path) -> str:
    with pytest.raises(UnreadableRecord) as failure:
        read_wfdb(record)
    return failure.value.reason


def test_changed_sample_is_a_checksum_mismatch_in_its_lead(tmp_path: Path) -> None:
    record = WfdbRecord(random_walk()).write(tmp_path)
    samples = np.fromfile(f"{record}.dat", "<i2").reshape(-1, 12)
    samples[1234, FILE_ORDER.index("aVL")] += 1
    samples.tofile(f"{record}.dat")
    with pytest.raises(
        UnreadableRecord, match=r"checksum mismatch in aVL; copy the files again\.$"
    ) as error:
        read_wfdb(record)
    assert error.value.reason == "wrong_checksum"
    assert read_leads(record).checksum_mismatches == ("aVL",)


def test_signed_and_unsigned_checksums_are_equivalent(tmp_path: Path) -> None:
    samples = random_walk()
    sums = samples.astype(np.int64).sum(0) % 65536
    spec = WfdbRecord(samples)
    header = spec.header("ecg")
    record = spec.write(tmp_path)
    for total in sums:
        header = header.replace(f" {total} 0 ", f" {total - 65536} 0 ")
    Path(f"{record}.hea").write_text(header)
    assert parse_header(header.encode()).checksums[0].startswith("-")
    read_wfdb(record)


def test_checksums_that_are_all_zero_are_ignored(tmp_path: Path) -> None:
    record = WfdbRecord(random_walk(), checksums=[0] * 12).write(tmp_path)
    assert read_leads(record).checksum_mismatches == ()
    one = WfdbRecord(random_walk(), checksums=[1, *[0] * 11]).write(tmp_path / "one")
    assert len(read_leads(one).checksum_mismatches) == 12


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("\n", "\n  # a comment after blanks\n"),
        ("\n", "\r\n"),
        ("\necg.dat 16 ", "\n# a line\x85 that continues\u2028 here\necg.dat 16 "),
        ("dat 16 ", "dat 16x1 "),
        ("dat 16 ", "dat 16:0 "),
    ],
)
def test_equivalent_headers_give_equal_samples(tmp_path: Path, old: str, new: str) -> None:
    plain = WfdbRecord(random_walk()).write(tmp_path / "plain")
    record = WfdbRecord(random_walk()).write(tmp_path / "other")
    header = record.with_suffix(".hea")
    header.write_text(header.read_text().replace(old, new), encoding="utf-8", newline="")
    assert header.read_bytes() != plain.with_suffix(".hea").read_bytes()
    np.testing.assert_array_equal(read_wfdb(record), read_wfdb(plain))


def test_missing_samples_and_flat_leads_take_precedence_over_a_wrong_checksum(
    tmp_path: Path,
) -> None:
    missing, flat = random_walk(), random_walk()
    missing[99, 3] = -32768
    flat[:, 3] = 5
    for samples, reason in ((missing, "nan_samples"), (flat, "flat_lead")):
        record = WfdbRecord(samples, checksums=[1] * 12).write(tmp_path / reason)
        assert len(read_leads(record).checksum_mismatches) >= 11
        assert failure_reason(record) == reason


def test_checksums_of_longer_records_are_not_checked_and_may_be_missing(tmp_path: Path) -> None:
    read_wfdb(WfdbRecord(random_walk(5001), checksums=[1] * 12).write(tmp_path / "longer"))
    record = WfdbRecord(random_walk()).write(tmp_path / "without")
    header = Path(f"{record}.hea")
    lines = [line.split() for line in header.read_text().splitlines()]
    short = [" ".join(lines[0]), *(" ".join([*line[:3], line[-1]]) for line in lines[1:])]
    header.write_text("\n".join(short))
    read_wfdb(record)
    assert read_leads(record).names == FILE_ORDER


@pytest.mark.parametrize("kind", ["8", "16", "24", "32", "61", "80", "160", "212", "310", "311"])
@pytest.mark.parametrize("extra", [0, 1])
def test_other_formats_equal_wfdb_and_match_their_checksums(
    tmp_path: Path, kind: str, extra: int
) -> None:
    wave = 100 * np.sin(np.arange(5000 + extra)[:, None] / np.arange(20, 32))
    samples = np.round(wave).astype(np.int64)
    if kind in ("8", "61", "160", "310", "311"):  # wfdb cannot write these formats.
        record = WfdbRecord(samples.astype(np.int16)).write(tmp_path)
        Path(f"{record}.dat").write_bytes(encode(samples, kind))
        header = Path(f"{record}.hea")
        header.write_text(header.read_text().replace(".dat 16 ", f".dat {kind} "))
    else:
        wfdb.wrsamp(
            *("ecg", 500, ["mV"] * 12, list(FILE_ORDER)),
            d_signal=samples,
            fmt=[kind] * 12,
            adc_gain=[200.0] * 12,
            baseline=[3] * 12,
            write_dir=str(tmp_path),
        )
        record = tmp_path / "ecg"
    signals = read_leads(record)
    assert (signals.digital == samples.T[[FILE_ORDER.index(lead) for lead in LEADS], :5000]).all()
    assert signals.mv.tobytes() == read_with_wfdb(record).tobytes()
    content = bytearray(Path(f"{record}.dat").read_bytes())
    content[600] ^= 8
    Path(f"{record}.dat").write_bytes(content)
    if extra:  # The record is longer than ten seconds, so its checksum is not checked.
        read_wfdb(record)
    else:
        assert failure_reason(record) == "wrong_checksum"


def encode(samples: np.ndarray, kind: str) -> bytes:
    """Encode samples (time, signal) as in https://physionet.org/physiotools/wag/signal-5.htm."""
    flat = samples.reshape(-1)
    if kind == "8":
        return np.diff(samples, axis=0, prepend=samples[:1]).astype(np.int8).tobytes()
    if kind in ("61", "160"):
        return (flat.astype(">i2") if kind == "61" else (flat + 32768).astype("<u2")).tobytes()
    flat = np.pad(flat, (0, -len(flat) % 3))
    a, b, c = (flat[n::3] & 1023 for n in range(3))
    if kind == "311":
        return (a | b << 10 | c << 20).astype("<u4").tobytes()
    low = (a & 127) << 1 | (a >> 7) << 8 | (c & 31) << 11
    high = (b & 127) << 1 | (b >> 7) << 8 | (c >> 5) << 11
    return np.stack([low, high], 1).astype("<u2").tobytes()


def test_signals_may_be_in_separate_files(tmp_path: Path) -> None:
    spec = WfdbRecord(random_walk())
    record = spec.write(tmp_path)
    expected = read_wfdb(record)
    header = Path(f"{record}.hea")
    first, *lines = header.read_text().splitlines()
    for n in range(12):
        (tmp_path / f"lead{n}.dat").write_bytes(
            b"skip" + spec.samples[:, n].astype("<i2").tobytes()
        )
    separate = [line.replace("ecg.dat 16", f"lead{n}.dat 16+4") for n, line in enumerate(lines)]
    header.write_text("\n".join([first, *separate]))
    Path(f"{record}.dat").unlink()
    assert read_wfdb(record).tobytes() == expected.tobytes()
    header.write_text("\n".join([first, *separate[6:], *separate[:6]]))
    assert read_wfdb(record).tobytes() == expected.tobytes()
    header.write_text(
        "\n".join([first, separate[0], *separate[2:], separate[1].replace("lead1", "lead0")])
    )
    assert failure_reason(record) == "unreadable", "signals of one file must be adjacent"


@pytest.mark.parametrize("function", ["gettempdir", "mkdtemp"])
def test_unusable_temporary_folder_is_a_user_error(
    function: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    record = WfdbRecord(random_walk()).write(tmp_path)
    header = Path(f"{record}.hea")
    header.write_text(header.read_text().replace("dat 16 ", "dat 61 "))
    monkeypatch.setattr(tempfile, function, fail)
    with pytest.raises(UserError, match=r"temporary files \(No space left on device\); free disk"):
        read_wfdb(record)


def test_several_formats_in_one_file_are_unreadable(tmp_path: Path) -> None:
    record = WfdbRecord(random_walk()).write(tmp_path)
    header = Path(f"{record}.hea")
    header.write_text(header.read_text().replace("dat 16 ", "dat 80 ", 1))
    assert failure_reason(record) == "unreadable"


@pytest.mark.parametrize("rate", [999, 1999])
def test_resampling_from_999_and_1999_hz_uses_less_than_30_mb(tmp_path: Path, rate: int) -> None:
    record = WfdbRecord(random_walk(10 * rate), rate=str(rate)).write(tmp_path)
    read_wfdb(record)  # imports SciPy, whose modules need more memory
    tracemalloc.start()
    read_wfdb(record)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 30e6
