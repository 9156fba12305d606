import os
from pathlib import Path

import numpy as np
import pytest
import wfdb

from enecg.signal import LEADS
from pipeline.waveforms.decode import REASONS, read_wfdb
from pipeline.waveforms.errors import UnreadableRecord

FILE_ORDER = ["I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6"]


def tone(seconds: float = 10, rate: int = 500) -> np.ndarray:
    """(time, 12) mV: lead n of `FILE_ORDER` is a sine of n + 1 Hz and 0.1 (n + 1) mV."""
    time = np.arange(round(seconds * rate)) / rate
    n = np.arange(1, 13)
    return 0.1 * n * np.sin(2 * np.pi * n * time[:, None])


def write(
    directory: Path,
    signal: np.ndarray,
    *,
    rate: int = 500,
    leads: list[str] = FILE_ORDER,
    unit: str = "mV",
    gain: float = 1000.0,
) -> Path:
    wfdb.wrsamp(
        "ecg",
        fs=rate,
        units=[unit] * signal.shape[1],
        sig_name=list(leads),
        p_signal=signal,
        fmt=["16"] * signal.shape[1],
        adc_gain=[gain] * signal.shape[1],
        baseline=[0] * signal.shape[1],
        write_dir=str(directory),
    )
    return directory / "ecg"


def why_not(record: Path) -> str:
    with pytest.raises(UnreadableRecord) as failure:
        read_wfdb(record)
    assert failure.value.reason in REASONS
    assert str(record.parent) in failure.value.detail, "the sentence names the file"
    assert failure.value.detail.endswith(".")
    assert "\n" not in failure.value.detail
    return failure.value.reason


def canonical(signal: np.ndarray) -> np.ndarray:
    return signal.T[[FILE_ORDER.index(lead) for lead in LEADS]]


def test_leads_come_in_the_canonical_order_whatever_their_case(tmp_path: Path) -> None:
    want = canonical(tone())
    for n, leads in enumerate((FILE_ORDER, [x.lower() for x in FILE_ORDER])):
        (tmp_path / str(n)).mkdir()
        ecg = read_wfdb(write(tmp_path / str(n), tone(), leads=leads))
        assert ecg.shape == (12, 5000)
        assert ecg.dtype == np.float32
        np.testing.assert_allclose(ecg, want, atol=6e-4)


@pytest.mark.parametrize(("unit", "per_mv"), [("mV", 1), ("mv", 1), ("uV", 1000), ("µV", 1000)])
def test_millivolts_come_out_whatever_the_unit(tmp_path: Path, unit: str, per_mv: float) -> None:
    record = write(tmp_path, tone() * per_mv, unit="mV", gain=1000 / per_mv)
    header = record.with_suffix(".hea")
    header.write_text(header.read_text().replace("/mV", f"/{unit}"), encoding="utf-8")
    np.testing.assert_allclose(read_wfdb(record), canonical(tone()), atol=6e-4)


def test_a_source_with_wrong_gains_can_be_read_without_them(tmp_path: Path) -> None:
    record = write(tmp_path, tone(), gain=1000)
    header = record.with_suffix(".hea")
    header.write_text(header.read_text().replace(" 1000.0(0)/mV", " 417.0(33)/mV"))
    ecg = read_wfdb(record, units_per_mv=1000)
    np.testing.assert_allclose(ecg, canonical(tone()), atol=6e-4)


@pytest.mark.parametrize("rate", [250, 360, 1000, 257])
def test_other_rates_are_resampled(tmp_path: Path, rate: int) -> None:
    ecg = read_wfdb(write(tmp_path, tone(rate=rate), rate=rate))
    inner = slice(200, -200)  # a sine that breaks off at the edge is no sine there
    np.testing.assert_allclose(ecg[:, inner], canonical(tone())[:, inner], atol=0.01)


def test_of_a_longer_record_the_first_ten_seconds_are_read(tmp_path: Path) -> None:
    longer = np.concatenate([tone(), 5 + tone(2)])
    np.testing.assert_allclose(read_wfdb(write(tmp_path, longer)), canonical(tone()), atol=6e-4)


@pytest.mark.parametrize("rate", [500, 250])
def test_a_shorter_record_is_followed_by_zeros(tmp_path: Path, rate: int) -> None:
    ecg = read_wfdb(write(tmp_path, 1 + tone(6, rate), rate=rate))
    assert (ecg[:, 3000:] == 0).all()
    np.testing.assert_allclose(ecg[:, 200:2800], 1 + canonical(tone())[:, 200:2800], atol=0.01)


def test_half_of_it_is_enough_and_less_is_not(tmp_path: Path) -> None:
    (tmp_path / "less").mkdir()
    assert read_wfdb(write(tmp_path, tone(5))).any()
    assert why_not(write(tmp_path / "less", tone(4.998))) == "too_short"


def test_a_missing_sample_anywhere_refuses_the_record(tmp_path: Path) -> None:
    holes = tone()
    holes[4321, 7] = np.nan
    assert why_not(write(tmp_path, holes)) == "nan_samples"


def test_a_missing_sample_after_the_ten_seconds_does_no_harm(tmp_path: Path) -> None:
    longer = tone(11)
    longer[5200, 3] = np.nan
    assert np.isfinite(read_wfdb(write(tmp_path, longer))).all()


def test_a_flat_lead_refuses_the_record(tmp_path: Path) -> None:
    flat = tone()
    flat[:, 9] = 0.5
    assert why_not(write(tmp_path, flat)) == "flat_lead"


def test_a_lead_that_is_not_there_is_named(tmp_path: Path) -> None:
    record = write(tmp_path, tone()[:, :11], leads=FILE_ORDER[:11])
    with pytest.raises(UnreadableRecord, match="V6") as failure:
        read_wfdb(record)
    assert failure.value.reason == "missing_lead"


def test_files_that_are_not_there_or_cut(tmp_path: Path) -> None:
    record = write(tmp_path, tone())
    os.truncate(f"{record}.dat", 119_999)
    assert why_not(record) == "cut_file"
    Path(f"{record}.dat").unlink()
    assert why_not(record) == "missing_file"
    Path(f"{record}.hea").unlink()
    assert why_not(record) == "missing_file"
    assert why_not(tmp_path / "nowhere" / "ecg") == "missing_file"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("ecg.dat", "../ecg.dat"),
        ("ecg.dat", "/etc/passwd"),
        ("ecg.dat", "http://example.org/ecg.dat"),
        ("ecg 12 500 5000", "ecg 12 0 5000"),
        ("ecg 12 500 5000", "ecg 12 nan 5000"),
        ("ecg 12 500 5000", "ecg 12 1e9 5000"),
        ("ecg 12 500 5000", "ecg 12 500 -5000"),
        ("ecg 12 500 5000", "ecg 12 500 five"),
        ("ecg 12 500 5000", "ecg 13 500 5000"),
        ("ecg 12 500 5000", "ecg 11 500 5000"),
        ("ecg 12 500 5000", "ecg 0 500 5000"),
        ("ecg 12 500 5000", "ecg 12"),
        ("ecg 12 500 5000", "ecg/2 12 500 5000"),
        ("/mV", "/mmHg"),
        ("dat 16 ", "dat 99 "),
        ("dat 16 ", "dat x "),
        ("(0)", "(zero)"),
        (" 1000.0(0)", " 0(0)"),
        (" 1000.0(0)", " x1000.0(0)"),
    ],
)
def test_a_hostile_header_is_unreadable_and_nothing_worse(
    tmp_path: Path, old: str, new: str
) -> None:
    record = write(tmp_path, tone())
    header = record.with_suffix(".hea")
    assert old in header.read_text()
    header.write_text(header.read_text().replace(old, new))
    assert why_not(record) == "unreadable"


def test_a_length_that_is_not_there_takes_no_memory(tmp_path: Path) -> None:
    record = write(tmp_path, tone())
    header = record.with_suffix(".hea")
    header.write_text(header.read_text().replace("500 5000", "500 999999999999999"))
    assert why_not(record) == "cut_file"


@pytest.mark.parametrize("content", [b"", b"\x00" * 100, bytes(range(256)) * 8, b"# only\n"])
def test_a_header_of_noise_is_unreadable(tmp_path: Path, content: bytes) -> None:
    record = write(tmp_path, tone())
    record.with_suffix(".hea").write_bytes(content)
    assert why_not(record) == "unreadable"


def test_the_reasons_keep_their_order_for_ever() -> None:
    assert REASONS[:7] == (
        "missing_file",
        "cut_file",
        "unreadable",
        "missing_lead",
        "too_short",
        "nan_samples",
        "flat_lead",
    )
    assert all(" " not in word for word in REASONS)
