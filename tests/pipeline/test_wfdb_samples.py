"""Format 16 by numpy is wfdb's to the bit; checksums; other formats."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import wfdb
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wfdb_files import FILE_ORDER, Made, by_wfdb_alone, walk

from enecg.signal import LEADS
from pipeline.datasets.ludb import Ludb
from pipeline.datasets.mimic_iv_ecg import MimicIvEcg
from pipeline.waveforms.decode import read_leads, read_wfdb
from pipeline.waveforms.errors import UnreadableRecord
from pipeline.waveforms.wfdb_header import parse_header
from pipeline.waveforms.wfdb_samples import decode_by_wfdb, decode_format16

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
def made_records(draw: st.DrawFn) -> Made:
    """Any record that numpy is to read instead of wfdb."""
    extra = draw(st.integers(0, 4))
    names = draw(st.permutations([*FILE_ORDER, *(f"X{n}" for n in range(extra))]))
    case = draw(st.sampled_from([str, str.lower, str.upper]))
    rate = draw(st.sampled_from([100, 250, 500, 1000]))
    time = draw(st.one_of(st.just(10 * rate), st.integers(1, 12 * rate)))
    samples = walk(time, len(names), draw(st.integers(0, 99)))
    holes = draw(st.lists(st.tuples(st.integers(0, time - 1), st.integers(0, 11)), max_size=3))
    for when, signal in holes:
        samples[when, signal] = -32768
    one = draw(st.booleans())
    gains = st.tuples(GAINS, BASELINES, UNITS).map("".join)
    count = len(names)
    told = [draw(gains)] * count if one else draw(st.lists(gains, min_size=count, max_size=count))
    zero = draw(st.sampled_from([0, 0, 7, -1024]))
    return Made(samples, told, [case(name) for name in names], str(rate), f"16 {zero}")


@given(made=made_records())
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_numpy_reads_what_wfdb_reads_to_the_bit(
    made: Made, tmp_path_factory: pytest.TempPathFactory
) -> None:
    record = made.write(tmp_path_factory.mktemp("made"))
    leads = read_leads(record)
    want = by_wfdb_alone(record)
    assert leads.mv.dtype == want.dtype == np.float32
    np.testing.assert_array_equal(leads.mv.view(np.uint32), _quiet(want).view(np.uint32))
    assert leads.names == tuple(made.names)
    assert leads.checksum_mismatches == ()
    places = [[n.lower() for n in made.names].index(lead.lower()) for lead in LEADS]
    assert (leads.digital == made.samples[: 10 * leads.rate_hz, places].T).all()
    header = parse_header(Path(f"{record}.hea").read_bytes())
    content = Path(f"{record}.dat").read_bytes()
    ours = decode_format16(header, header.length, content)
    assert (decode_by_wfdb(header, header.length, [content]) == ours).all()


def _quiet(mv: np.ndarray) -> np.ndarray:
    """NaN is NaN, whatever its bits."""
    return np.where(np.isnan(mv), np.float32(np.nan), mv)


def test_every_real_ecg_of_ludb_is_wfdbs_and_its_checksums_are_right(ludb: Path) -> None:
    for number in range(1, 201):
        leads = read_leads(ludb / "data" / str(number))
        want = by_wfdb_alone(ludb / "data" / str(number))
        assert leads.mv.tobytes() == want.tobytes()
        assert leads.checksum_mismatches == ()
        assert leads.digital.dtype == np.int16
    assert Ludb(ludb).read(0).tobytes() == (leads_of(ludb, 1) / np.float32(1000)).tobytes()


def leads_of(ludb: Path, number: int) -> np.ndarray:
    return read_leads(ludb / "data" / str(number)).digital.astype(np.float32)


def test_a_synthetic_records_checksums_are_right_whatever_was_spoiled(
    synthetic_dir: Path,
) -> None:
    dataset = MimicIvEcg(synthetic_dir)
    there = 0
    for path in dataset._records["path"]:
        try:
            leads = read_leads(path, dataset.files)
        except UnreadableRecord:  # cut, or not there
            continue
        there += 1
        assert leads.checksum_mismatches == ()
        assert leads.mv.tobytes() == _quiet(by_wfdb_alone(synthetic_dir / path)).tobytes()
    assert there > 40


def reason(record: Path) -> str:
    with pytest.raises(UnreadableRecord) as failure:
        read_wfdb(record)
    return failure.value.reason


def test_one_wrong_sample_is_found_and_its_lead_named(tmp_path: Path) -> None:
    record = Made(walk()).write(tmp_path)
    samples = np.fromfile(f"{record}.dat", "<i2").reshape(-1, 12)
    samples[1234, FILE_ORDER.index("aVL")] += 1
    samples.tofile(f"{record}.dat")
    with pytest.raises(
        UnreadableRecord, match=r"checksum mismatch in aVL; copy it again\.$"
    ) as error:
        read_wfdb(record)
    assert error.value.reason == "wrong_checksum"
    assert read_leads(record).checksum_mismatches == ("aVL",)


def test_a_signed_checksum_is_the_unsigned_one(tmp_path: Path) -> None:
    samples = walk()
    sums = samples.astype(np.int64).sum(0) % 65536
    made = Made(samples)
    header = made.header("ecg")
    record = made.write(tmp_path)
    for total in sums:
        header = header.replace(f" {total} 0 ", f" {total - 65536} 0 ")
    Path(f"{record}.hea").write_text(header)
    assert parse_header(header.encode()).checksums[0] < 0
    read_wfdb(record)


def test_checksums_that_are_all_0_are_none(tmp_path: Path) -> None:
    record = Made(walk(), checksums=[0] * 12).write(tmp_path)
    assert read_leads(record).checksum_mismatches == ()
    one = Made(walk(), checksums=[1, *[0] * 11]).write(tmp_path / "one")
    assert len(read_leads(one).checksum_mismatches) == 12


@pytest.mark.parametrize(
    ("written", "instead"),
    [
        ("\n", "\n  # a comment after blanks\n"),
        ("\n", "\r\n"),
        ("\necg.dat 16 ", "\n# a line\x85 that goes on\u2028 here\necg.dat 16 "),
        ("dat 16 ", "dat 16x1 "),
        ("dat 16 ", "dat 16:0 "),
    ],
)
def test_what_a_header_may_spell_out_changes_no_sample(
    tmp_path: Path, written: str, instead: str
) -> None:
    plain = Made(walk()).write(tmp_path / "plain")
    record = Made(walk()).write(tmp_path / "other")
    header = record.with_suffix(".hea")
    header.write_text(header.read_text().replace(written, instead), encoding="utf-8", newline="")
    assert header.read_bytes() != plain.with_suffix(".hea").read_bytes()
    np.testing.assert_array_equal(read_wfdb(record), read_wfdb(plain))


def test_of_two_signals_of_one_name_the_first_is_read(tmp_path: Path) -> None:
    samples = walk(signals=13)
    names = (*FILE_ORDER, "ii")
    twice = Made(samples, gains=("200.0(0)/mV",) * 13, names=names).write(tmp_path / "twice")
    once = Made(samples[:, :12]).write(tmp_path / "once")
    np.testing.assert_array_equal(read_wfdb(twice), read_wfdb(once))


def test_holes_and_flat_leads_keep_their_reasons_with_a_wrong_checksum(tmp_path: Path) -> None:
    holes, flat = walk(), walk()
    holes[99, 3] = -32768
    flat[:, 3] = 5
    for samples, word in ((holes, "nan_samples"), (flat, "flat_lead")):
        record = Made(samples, checksums=[1] * 12).write(tmp_path / word)
        assert len(read_leads(record).checksum_mismatches) >= 11
        assert reason(record) == word


def test_of_a_longer_record_or_one_without_checksums_none_is_asked(tmp_path: Path) -> None:
    read_wfdb(Made(walk(5001), checksums=[1] * 12).write(tmp_path / "longer"))
    record = Made(walk()).write(tmp_path / "without")
    header = Path(f"{record}.hea")
    lines = [line.split() for line in header.read_text().splitlines()]
    short = [" ".join(lines[0]), *(" ".join([*line[:3], line[-1]]) for line in lines[1:])]
    header.write_text("\n".join(short))
    read_wfdb(record)
    assert read_leads(record).names == FILE_ORDER


@pytest.mark.parametrize("kind", ["8", "16", "24", "32", "61", "80", "160", "212", "310", "311"])
@pytest.mark.parametrize("extra", [0, 1])
def test_other_formats_are_wfdbs_and_their_checksums_are_checked(
    tmp_path: Path, kind: str, extra: int
) -> None:
    wave = 100 * np.sin(np.arange(5000 + extra)[:, None] / np.arange(20, 32))
    samples = np.round(wave).astype(np.int64)
    if kind in ("8", "61", "160", "310", "311"):  # which wfdb reads and does not write
        record = Made(samples.astype(np.int16)).write(tmp_path)
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
    leads = read_leads(record)
    assert (leads.digital == samples.T[[FILE_ORDER.index(x) for x in LEADS], :5000]).all()
    assert leads.mv.tobytes() == by_wfdb_alone(record).tobytes()
    content = bytearray(Path(f"{record}.dat").read_bytes())
    content[600] ^= 8
    Path(f"{record}.dat").write_bytes(content)
    if extra:  # longer than is read, so taken on trust
        read_wfdb(record)
    else:
        assert reason(record) == "wrong_checksum"


def encode(samples: np.ndarray, kind: str) -> bytes:
    """Samples (time, signal) in a format, by https://physionet.org/physiotools/wag/signal-5.htm."""
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


def test_signals_in_files_of_their_own_are_read(tmp_path: Path) -> None:
    made = Made(walk())
    record = made.write(tmp_path)
    want = read_wfdb(record)
    header = Path(f"{record}.hea")
    first, *lines = header.read_text().splitlines()
    for n in range(12):
        (tmp_path / f"own{n}.dat").write_bytes(b"skip" + made.samples[:, n].astype("<i2").tobytes())
    own = [line.replace("ecg.dat 16", f"own{n}.dat 16+4") for n, line in enumerate(lines)]
    header.write_text("\n".join([first, *own]))
    Path(f"{record}.dat").unlink()
    assert read_wfdb(record).tobytes() == want.tobytes()
    header.write_text("\n".join([first, *own[6:], *own[:6]]))
    assert read_wfdb(record).tobytes() == want.tobytes()
    header.write_text("\n".join([first, own[0], *own[2:], own[1].replace("own1", "own0")]))
    assert reason(record) == "unreadable", "one file's signals stand together"


def test_signals_of_one_file_in_several_formats_are_not_guessed_at(tmp_path: Path) -> None:
    record = Made(walk()).write(tmp_path)
    header = Path(f"{record}.hea")
    header.write_text(header.read_text().replace("dat 16 ", "dat 80 ", 1))
    assert reason(record) == "unreadable"


@pytest.mark.parametrize("rate", [999, 1999])
def test_an_odd_rate_takes_no_more_memory_than_another(tmp_path: Path, rate: int) -> None:
    record = Made(walk(10 * rate), rate=str(rate)).write(tmp_path)
    tracemalloc.start()
    read_wfdb(record)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 30e6
