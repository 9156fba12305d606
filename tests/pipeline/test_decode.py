import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import wfdb
from wfdb_files import FILE_ORDER

from enecg.ecg_format import LEADS
from pipeline.waveforms.decode import read_wfdb
from pipeline.waveforms.errors import UnreadableRecord
from pipeline.waveforms.failures import REASONS


def sines(seconds: float = 10, rate: int = 500) -> np.ndarray:
    """Return (time, 12) in mV: lead n of `FILE_ORDER` is a sine of n + 1 Hz and 0.1 (n + 1) mV."""
    time = np.arange(round(seconds * rate)) / rate
    n = np.arange(1, 13)
    return 0.1 * n * np.sin(2 * np.pi * n * time[:, None])


def write(
    directory: Path,
    signal: np.ndarray,
    *,
    rate: int = 500,
    leads: Sequence[str] = FILE_ORDER,
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


def failure_reason(record: Path) -> str:
    with pytest.raises(UnreadableRecord) as failure:
        read_wfdb(record)
    assert failure.value.reason in REASONS
    assert str(record.parent) in failure.value.detail, "the message does not contain the folder"
    assert failure.value.detail.endswith(".")
    assert "\n" not in failure.value.detail
    return failure.value.reason


def in_lead_order(signal: np.ndarray) -> np.ndarray:
    return signal.T[[FILE_ORDER.index(lead) for lead in LEADS]]


def test_leads_are_reordered_by_name_in_any_case(tmp_path: Path) -> None:
    expected = in_lead_order(sines())
    for n, leads in enumerate((FILE_ORDER, [lead.lower() for lead in FILE_ORDER])):
        (tmp_path / str(n)).mkdir()
        ecg = read_wfdb(write(tmp_path / str(n), sines(), leads=leads))
        assert ecg.shape == (12, 5000)
        assert ecg.dtype == np.float32
        np.testing.assert_allclose(ecg, expected, atol=6e-4)


@pytest.mark.parametrize(("unit", "per_mv"), [("mV", 1), ("mv", 1), ("uV", 1000), ("µV", 1000)])
def test_units_are_converted_to_millivolts(tmp_path: Path, unit: str, per_mv: float) -> None:
    record = write(tmp_path, sines() * per_mv, unit="mV", gain=1000 / per_mv)
    header = record.with_suffix(".hea")
    header.write_text(header.read_text().replace("/mV", f"/{unit}"), encoding="utf-8")
    np.testing.assert_allclose(read_wfdb(record), in_lead_order(sines()), atol=6e-4)


def test_units_per_mv_replaces_the_header_gains(tmp_path: Path) -> None:
    record = write(tmp_path, sines(), gain=1000)
    header = record.with_suffix(".hea")
    header.write_text(header.read_text().replace(" 1000.0(0)/mV", " 417.0(33)/mV"))
    ecg = read_wfdb(record, units_per_mv=1000)
    np.testing.assert_allclose(ecg, in_lead_order(sines()), atol=6e-4)


@pytest.mark.parametrize("rate", [250, 360, 1000, 257])
def test_other_rates_are_resampled(tmp_path: Path, rate: int) -> None:
    ecg = read_wfdb(write(tmp_path, sines(rate=rate), rate=rate))
    inner = slice(200, -200)  # the sine is cut off at the edges
    np.testing.assert_allclose(ecg[:, inner], in_lead_order(sines())[:, inner], atol=0.01)


def test_longer_record_is_truncated_to_ten_seconds(tmp_path: Path) -> None:
    longer = np.concatenate([sines(), 5 + sines(2)])
    np.testing.assert_allclose(
        read_wfdb(write(tmp_path, longer)), in_lead_order(sines()), atol=6e-4
    )


def test_missing_sample_makes_the_record_unreadable(tmp_path: Path) -> None:
    incomplete = sines()
    incomplete[4321, 7] = np.nan
    assert failure_reason(write(tmp_path, incomplete)) == "nan_samples"


def test_missing_sample_after_ten_seconds_is_ignored(tmp_path: Path) -> None:
    longer = sines(11)
    longer[5200, 3] = np.nan
    assert np.isfinite(read_wfdb(write(tmp_path, longer))).all()


def test_flat_lead_makes_the_record_unreadable(tmp_path: Path) -> None:
    flat = sines()
    flat[:, 9] = 0.5
    assert failure_reason(write(tmp_path, flat)) == "flat_lead"


def test_message_names_a_missing_lead(tmp_path: Path) -> None:
    record = write(tmp_path, sines()[:, :11], leads=FILE_ORDER[:11])
    with pytest.raises(UnreadableRecord, match="V6") as failure:
        read_wfdb(record)
    assert failure.value.reason == "missing_lead"


def test_missing_and_truncated_files_have_different_reasons(tmp_path: Path) -> None:
    record = write(tmp_path, sines())
    os.truncate(f"{record}.dat", 119_999)
    assert failure_reason(record) == "cut_file"
    Path(f"{record}.dat").unlink()
    assert failure_reason(record) == "missing_file"
    Path(f"{record}.hea").unlink()
    assert failure_reason(record) == "missing_file"
    assert failure_reason(tmp_path / "nowhere" / "ecg") == "missing_file"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("ecg.dat", "../ecg.dat"),
        ("ecg.dat", "/etc/passwd"),
        ("ecg.dat", "sub/../../ecg.dat"),
        ("ecg.dat", "http://example.org/ecg.dat"),
        ("ecg 12 500 5000", "ecg 12 0 5000"),
        ("ecg 12 500 5000", "ecg"),
        ("ecg 12 500 5000", "ecg 12 99 5000"),
        ("ecg 12 500 5000", "ecg 12 2001 5000"),
        ("ecg 12 500 5000", "ecg 12 nan 5000"),
        ("ecg 12 500 5000", "ecg 12 1e9 5000"),
        ("ecg 12 500 5000", "ecg 12 500 -5000"),
        ("ecg 12 500 5000", "ecg 12 500 five"),
        ("ecg 12 500 5000", "ecg 13 500 5000"),
        ("ecg 12 500 5000", "ecg 11 500 5000"),
        ("ecg 12 500 5000", "ecg 0 500 5000"),
        ("/mV", "/mmHg"),
        ("dat 16 ", "dat 99 "),
        ("dat 16 ", "dat x "),
        ("(0)", "(zero)"),
        (" 1000.0(0)", " 0(0)"),
        (" 1000.0(0)", " x1000.0(0)"),
    ],
)
def test_invalid_header_is_unreadable(tmp_path: Path, old: str, new: str) -> None:
    record = write(tmp_path, sines())
    header = record.with_suffix(".hea")
    assert old in header.read_text()
    header.write_text(header.read_text().replace(old, new))
    assert failure_reason(record) == "unreadable"


def test_message_names_the_lead_without_a_gain(tmp_path: Path) -> None:
    record = write(tmp_path, sines())
    header = record.with_suffix(".hea")
    lines = header.read_text().splitlines()
    lines[7] = lines[7].replace(" 1000.0(0)", " 0(0)")
    header.write_text("\n".join(lines))
    with pytest.raises(UnreadableRecord, match=r"ecg\.hea: gain is 0 in lead V1; write the"):
        read_wfdb(record)


def test_excessive_length_is_a_truncated_file(tmp_path: Path) -> None:
    record = write(tmp_path, sines())
    header = record.with_suffix(".hea")
    header.write_text(header.read_text().replace("500 5000", "500 999999999999999"))
    assert failure_reason(record) == "cut_file"


@pytest.mark.parametrize("content", [b"", b"\x00" * 100, bytes(range(256)) * 8, b"# only\n"])
def test_header_of_random_bytes_is_unreadable(tmp_path: Path, content: bytes) -> None:
    record = write(tmp_path, sines())
    record.with_suffix(".hea").write_bytes(content)
    assert failure_reason(record) == "unreadable"


def test_order_of_reasons_is_stable() -> None:
    assert REASONS == (
        "missing_file",
        "cut_file",
        "unreadable",
        "missing_lead",
        "too_short",
        "nan_samples",
        "flat_lead",
        "wrong_checksum",
        "duplicate_lead",
    )
    assert all(" " not in word for word in REASONS)
