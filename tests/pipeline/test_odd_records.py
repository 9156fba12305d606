"""Unusual records from public bug reports: their decoded ECG, or why they are unreadable."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import wfdb
from test_wfdb_samples import encode
from wfdb_files import FILE_ORDER, WfdbRecord, random_walk

from enecg.ecg_format import LEADS
from pipeline.datasets.wfdb_directory import WfdbDirectory
from pipeline.waveforms.decode import read_wfdb
from pipeline.waveforms.errors import UnreadableRecord
from pipeline.waveforms.lead_selection import parse_lead
from pipeline.waveforms.lead_signals import read_leads
from pipeline.waveforms.options import DecodeOptions

Edit = Callable[[str], str]

SAMPLES = random_walk()
EXPECTED = (SAMPLES.T[[FILE_ORDER.index(lead) for lead in LEADS]] / np.float32(200)).astype("f4")
FIRST_LINE = "ecg 12 500 5000"


def replace(old: str, new: str, count: int = -1) -> Edit:
    def edit(header: str) -> str:
        assert old in header
        return header.replace(old, new, count)

    return edit


def each_signal(edit: Callable[[str], str]) -> Edit:
    def edit_lines(header: str) -> str:
        first, *signals = header.splitlines()
        return "\n".join([first, *map(edit, signals)]) + "\n"

    return edit_lines


def rename(**names: str) -> Edit:
    return each_signal(
        lambda line: " ".join(
            [*line.split(" ")[:-1], names.get(line.split()[-1], line.split()[-1])]
        )
    )


def write(folder: Path, edit: Edit = str, **fields: object) -> Path:
    record = WfdbRecord(**{"samples": SAMPLES, **fields}).write(folder)
    header = Path(f"{record}.hea")
    header.write_text(edit(header.read_text()), encoding="utf-8")
    return record


def failure(record: Path, options: DecodeOptions | None = None) -> UnreadableRecord:
    with pytest.raises(UnreadableRecord) as caught:
        read_wfdb(record, options=options or DecodeOptions())
    assert str(record.parent) in caught.value.detail
    return caught.value


VALID_HEADERS: dict[str, Edit] = {
    "plain": str,
    "no length": replace(FIRST_LINE, "ecg 12 500"),
    "length 0": replace(FIRST_LINE, "ecg 12 500 0"),
    "a slash in the record name": replace(FIRST_LINE, "exported/ecg 12 500 5000"),
    "a number after the slash": replace(FIRST_LINE, "exported/0012 12 500 5000"),
    "several slashes": replace(FIRST_LINE, "a/b/3 12 500 5000"),
    "the suffix in the record name": replace(FIRST_LINE, "ecg.dat 12 500 5000"),
    "a counter frequency": replace(FIRST_LINE, "ecg 12 500/360(7) 5000"),
    "a year only": replace(FIRST_LINE, "ecg 12 500 5000 2006"),
    "a byte order mark": replace(FIRST_LINE, "\ufeff" + FIRST_LINE),
    "a byte order mark and a comment": replace(FIRST_LINE, "\ufeff# site 1\n" + FIRST_LINE),
    "a baseline with a decimal point": replace("(0)", "(0.0)"),
    "spaces around lead names": each_signal(
        lambda line: line.removesuffix(line.split()[-1]) + f"  {line.split()[-1]} \t"
    ),
    "comments on lines": each_signal(lambda line: f"{line} # noisy"),
    "a prefix": rename(**{lead: f"Lead {lead}" for lead in LEADS}),
}


@pytest.mark.parametrize("kind", VALID_HEADERS)
def test_unusual_but_valid_headers_give_the_same_ecg(tmp_path: Path, kind: str) -> None:
    record = write(tmp_path, VALID_HEADERS[kind])
    np.testing.assert_array_equal(read_wfdb(record), EXPECTED)


UNUSABLE_HEADERS: dict[str, tuple[Edit, str, str]] = {
    "gain 0": (replace("200.0(0)/mV", "0", 1), "unreadable", "gain is 0 in lead I; write"),
    "no gain": (
        each_signal(lambda line: " ".join(line.split()[:2])),
        "missing_lead",
        "the signals have no names; add the lead names",
    ),
    "gain NaN": (replace("200.0(0)", "nan(0)", 1), "unreadable", "gain is nan"),
    "a gain and unit swapped": (
        replace("200.0(0)/mV", "200(mV)/0", 1),
        "unreadable",
        "gain is 200(mV)/0 in lead I",
    ),
    "an unsupported unit": (
        replace("/mV", "/nV"),
        "unreadable",
        "unit is nv, not V, mV or uV; correct the",
    ),
    "several samples per frame": (
        replace(".dat 16 ", ".dat 16x50 "),
        "unreadable",
        "format 16x50 is not supported; convert it to format 16",
    ),
    "FLAC": (replace(".dat 16 ", ".dat 516 "), "unreadable", "format 516 is not supported; conv"),
    "several segments": (
        lambda _: "ecg/2 12 500 10000\none 5000\nother 5000\n",
        "unreadable",
        "several segments are not supported; convert",
    ),
    "no signals": (lambda _: "ecg 0 500 5000\n# notes\n", "unreadable", "number of signals is 0"),
    "a file that does not exist": (replace("ecg.dat", "e.dat"), "missing_file", "e.dat: file not"),
    "a file in a folder": (replace("ecg.dat", "sub/e.dat"), "missing_file", "sub/e.dat: file not"),
    "a wrong checksum": (
        replace(f" {SAMPLES[:, 0].astype(int).sum() % 65536} 0 I\n", " 1 0 I\n"),
        "wrong_checksum",
        "checksum mismatch in I;",
    ),
}


@pytest.mark.parametrize("kind", UNUSABLE_HEADERS)
def test_unusable_headers_have_a_reason_and_a_remedy(tmp_path: Path, kind: str) -> None:
    edit, reason, message = UNUSABLE_HEADERS[kind]
    error = failure(write(tmp_path, edit))
    assert error.reason == reason
    assert message in error.detail


def test_header_without_a_rate_is_read_at_250_hz(tmp_path: Path) -> None:
    record = write(tmp_path, replace(FIRST_LINE, "ecg 12"))
    assert wfdb.rdheader(str(record)).fs == 250
    signals = read_leads(record)
    assert (signals.rate_hz, signals.mv.shape) == (250, (12, 2500))
    other = write(tmp_path / "stated", replace(FIRST_LINE, "ecg 12 250 5000"))
    np.testing.assert_array_equal(read_wfdb(record), read_wfdb(other))


def test_record_with_a_fractional_rate_is_resampled(tmp_path: Path) -> None:
    time = np.arange(5000) / 499.9
    samples = np.round(200 * np.sin(2 * np.pi * np.arange(1, 13) * time[:, None])).astype(np.int16)
    record = write(tmp_path, replace(FIRST_LINE, "ecg 12 499.9 5000"), samples=samples)
    wave = np.sin(2 * np.pi * 12 * np.arange(5000) / 500)
    ecg = read_wfdb(record)
    np.testing.assert_allclose(ecg[-1, 200:-200], wave[200:-200], atol=0.01)
    assert np.abs(ecg[-1, 200:-200] - samples[200:4800, 11] / 200).max() > 0.05


@pytest.mark.parametrize("kind", ["8", "16", "24", "32", "61", "80", "160", "212", "310", "311"])
@pytest.mark.parametrize("length", [5000, 4999, 2600])
def test_without_a_stated_length_the_whole_file_is_read(
    tmp_path: Path, kind: str, length: int
) -> None:
    samples = np.round(100 * np.sin(np.arange(length)[:, None] / np.arange(20, 32))).astype("i8")
    if kind in ("8", "61", "160", "310", "311"):
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
            baseline=[0] * 12,
            write_dir=str(tmp_path),
        )
        record = tmp_path / "ecg"
    header = Path(f"{record}.hea")
    stated = read_leads(record)
    assert stated.digital.shape == (12, length)
    first, rest = header.read_text().split("\n", 1)
    for line in (" ".join(first.split()[:3]), " ".join([*first.split()[:3], "0"])):
        # By the specification, checksums are not verified if the length is not stated.
        header.write_text(f"{line}\n{rest}")
        np.testing.assert_array_equal(read_leads(record).digital, stated.digital)


def test_file_with_less_than_one_sample_per_signal_is_a_cut_file(tmp_path: Path) -> None:
    for length in (" 5000", "", " 0"):
        record = write(tmp_path, replace(FIRST_LINE, f"ecg 12 500{length}"))
        Path(f"{record}.dat").write_bytes(b"\0" * 23)
        assert failure(record).reason == "cut_file"


def extra_signal(line: str) -> Edit:
    def edit(header: str) -> str:
        return header.replace(FIRST_LINE, "ecg 13 500 5000") + line + "\n"

    return edit


EXTRA_SIGNALS = {
    "a missing file": "resp.dat 16 200(0)/mV 16 0 0 0 0 RESP",
    "a file outside the folder": "/data/resp.dat 16 200(0)/mV 16 0 0 0 0 RESP",
    "an unsupported format": "resp.dat 516 200(0)/mV 16 0 0 0 0 RESP",
    "several samples per frame": "resp.dat 16x4 200(0)/mV 16 0 0 0 0 RESP",
    "no gain": "resp.dat 16 0 16 0 0 0 0 RESP",
    "a unit that is not a voltage": "resp.dat 16 200(0)/mmHg 16 0 0 0 0 ABP",
    "a checksum that is out of range": f"resp.dat 16 200(0)/mV 16 0 0 {'9' * 30} 0 RESP",
    "no name": "resp.dat 16",
}


@pytest.mark.parametrize("kind", EXTRA_SIGNALS)
@pytest.mark.parametrize("first", [False, True], ids=["last", "first"])
def test_unusable_signal_besides_the_leads_is_ignored(
    tmp_path: Path, kind: str, first: bool
) -> None:
    def edit(header: str) -> str:
        head, *signals = extra_signal(EXTRA_SIGNALS[kind])(header).splitlines()
        return "\n".join([head, *([signals[-1], *signals[:-1]] if first else signals)]) + "\n"

    record = write(tmp_path, edit)
    np.testing.assert_array_equal(read_wfdb(record), EXPECTED)
    assert len(read_leads(record).names) == 13


def test_signal_besides_the_leads_in_the_same_file_may_have_no_gain(tmp_path: Path) -> None:
    samples = np.concatenate([SAMPLES, random_walk(signals=1, seed=1)], axis=1)
    gains = (*("200.0(0)/mV",) * 12, "0")
    record = write(tmp_path, samples=samples, gains=gains, names=(*FILE_ORDER, "trigger"))
    np.testing.assert_array_equal(read_wfdb(record), EXPECTED)


@pytest.mark.parametrize(
    ("name", "lead", "sign"),
    [
        *((spelling, "aVR", 1) for spelling in ("aVR", "AVR", "avr", " aVR ", "aVR # noisy")),
        *(
            (f"{word}{lead}", lead, 1)
            for word in ("Lead ", "LEAD_", "lead-", "lead")
            for lead in LEADS
        ),
        *((f"{word} {lead}", lead, 1) for word in ("ECG", "ekg", "ECG:") for lead in LEADS),
        *((f"-{lead}", lead, -1) for lead in LEADS),
        *((f"\u2212{lead}", lead, -1) for lead in LEADS),
        *((f"Lead -{lead}", lead, -1) for lead in LEADS),
    ],
)
def test_unambiguous_lead_names_are_parsed(name: str, lead: str, sign: int) -> None:
    assert parse_lead(name) == (lead, sign)


@pytest.mark.parametrize(
    "name",
    [
        *("", "IV", "V", "V0", "V7", "V3R", "aV", "II III", "lead", "Leads I", "MLII", "V1-V2"),
        *("Lead - I", "--I", "I-", "-Lead I", "leaded I", "RESP", "aVR lead", "X", "#I", "1"),
    ],
)
def test_other_names_are_not_accepted_as_leads(name: str) -> None:
    assert parse_lead(name)[0] not in LEADS


@pytest.mark.parametrize("lead", LEADS)
def test_inverted_leads_are_negated(tmp_path: Path, lead: str) -> None:
    record = write(tmp_path, rename(**{lead: f"-{lead}"}))
    expected = EXPECTED.copy()
    expected[LEADS.index(lead)] *= -1
    np.testing.assert_array_equal(read_wfdb(record), expected)
    np.testing.assert_array_equal(read_wfdb(record, units_per_mv=200), expected)
    assert read_leads(record).checksum_mismatches == ()


def test_message_names_the_signals_that_were_found(tmp_path: Path) -> None:
    error = failure(write(tmp_path, rename(V6="C6", I="D1")))
    assert error.reason == "missing_lead"
    assert (
        "ecg.hea: missing leads: I, V6; the signals are D1, II, III, aVR, aVF, aVL, V1, V2, V3, "
        "V4, V5, C6; correct the lead names, or exclude the record." in error.detail
    )


DUPLICATES = {
    "equal names": "V2",
    "another case": "v2",
    "a prefix": "Lead V2",
    "a comment": "V2 # again",
    "an inverted lead": "-V2",
}


@pytest.mark.parametrize("kind", DUPLICATES)
@pytest.mark.parametrize("position", [0, 12])
def test_two_signals_of_one_lead_are_used_only_if_they_are_equal(
    tmp_path: Path, kind: str, position: int
) -> None:
    """If two signals differ, one of them may be noise."""
    name = DUPLICATES[kind]
    for content in ("equal", "other gain", "different", "missing sample"):
        extra = SAMPLES[:, FILE_ORDER.index("V2")] * (-1 if name[0] == "-" else 1)
        gain = "200.0(0)/mV"
        if content == "other gain":
            extra, gain = extra // 2 * 2, "100.0(0)/mV"
        elif content == "different":
            extra = random_walk(signals=1, seed=1)[:, 0]
        elif content == "missing sample":
            extra = np.where(np.arange(5000) == 7, -32768, extra)
        record = write(
            tmp_path / content,
            samples=np.insert(SAMPLES, position, extra, axis=1),
            names=np.insert(np.array(FILE_ORDER, "U20"), position, name).tolist(),
            gains=np.insert(np.array(["200.0(0)/mV"] * 12), position, gain).tolist(),
        )
        if content == "equal":
            np.testing.assert_array_equal(read_wfdb(record), EXPECTED)
            assert read_leads(record).repeated == ("V2",)
        else:
            error = failure(record)
            assert error.reason == "duplicate_lead"
            assert "several signals of lead V2 (" in error.detail
            assert name in error.detail
            assert "rename or remove all but one" in error.detail


def test_equal_signals_of_one_lead_may_have_different_gains(tmp_path: Path) -> None:
    even = SAMPLES // 2 * 2
    record = write(
        tmp_path,
        samples=np.insert(even, 12, even[:, 1] // 2, axis=1),
        names=[*FILE_ORDER, "II"],
        gains=[*["200.0(0)/mV"] * 12, "100.0(0)/mV"],
    )
    assert read_leads(record).repeated == ("II",)
    read_wfdb(record)


LEAD_I, LEAD_II = (
    np.rint(1000 * np.sin(np.arange(5000) / np.array([[31], [47]]))).astype(np.int64) * 4
)
LIMB = {
    "I": LEAD_I,
    "II": LEAD_II,
    "III": LEAD_II - LEAD_I,
    "aVR": -(LEAD_I + LEAD_II) // 2,
    "aVL": LEAD_I - LEAD_II // 2,
    "aVF": LEAD_II - LEAD_I // 2,
}
DERIVE = DecodeOptions(derive_leads=True)


def write_leads(folder: Path, leads: list[str]) -> Path:
    limb = np.stack([LIMB.get(lead, SAMPLES[:, FILE_ORDER.index(lead)]) for lead in leads], axis=1)
    return write(
        folder,
        samples=limb.astype(np.int16),
        names=leads,
        gains=["1000.0(0)/mV"] * len(leads),
    )


@pytest.mark.parametrize(
    "recorded",
    [
        *(("I", "II"), ("I", "III"), ("II", "III"), ("I", "aVR"), ("II", "aVF"), ("aVR", "aVL")),
        *(("I", "aVF"), ("III", "aVF"), ("aVL", "aVF"), ("I", "II", "III"), ("aVR", "III")),
        ("I", "II", "III", "aVL", "aVF"),
    ],
)
def test_missing_limb_leads_are_derived_from_any_two(
    tmp_path: Path, recorded: tuple[str, ...]
) -> None:
    precordial = [lead for lead in LEADS if lead.startswith("V")]
    full = read_wfdb(write_leads(tmp_path / "full", list(LEADS)))
    record = write_leads(tmp_path / "part", [*recorded, *precordial])
    ecg = read_wfdb(record, options=DERIVE)
    np.testing.assert_allclose(ecg, full, atol=1e-6, rtol=0)
    kept = [LEADS.index(lead) for lead in (*recorded, *precordial)]
    np.testing.assert_array_equal(ecg[kept], full[kept])
    signals = read_leads(record, options=DERIVE)
    assert signals.derived == tuple(lead for lead in LIMB if lead not in recorded)
    assert signals.digital.shape == (len(recorded) + 6, 5000)
    error = failure(record)
    assert error.reason == "missing_lead"
    assert "derive them with --derive-leads, or exclude the record" in error.detail


def test_leads_of_an_eight_lead_record_are_derived_exactly(tmp_path: Path) -> None:
    record = write_leads(tmp_path, ["V1", "V2", "V3", "V4", "V5", "V6", "II", "I"])
    ecg = read_wfdb(record, options=DERIVE)
    one, two = (LIMB[lead] / np.float64(1000) for lead in ("I", "II"))
    one, two = one.astype(np.float32).astype(np.float64), two.astype(np.float32).astype(np.float64)
    for lead, expected in (
        ("III", two - one),
        ("aVR", -(one + two) / 2),
        ("aVL", one - two / 2),
        ("aVF", two - one / 2),
    ):
        np.testing.assert_array_equal(ecg[LEADS.index(lead)], expected.astype(np.float32))


def test_recorded_leads_are_not_replaced_by_derived_ones(tmp_path: Path) -> None:
    record = write(tmp_path)
    np.testing.assert_array_equal(read_wfdb(record, options=DERIVE), EXPECTED)
    assert read_leads(record, options=DERIVE).derived == ()


@pytest.mark.parametrize("missing", ["V1", "V6", "limb"])
def test_leads_are_derived_only_with_all_precordial_and_two_limb_leads(
    tmp_path: Path, missing: str
) -> None:
    if missing == "limb":
        leads = ["II", *(lead for lead in LEADS if lead.startswith("V"))]
    else:
        leads = ["I", "II", *(lead for lead in LEADS[6:] if lead != missing)]
    error = failure(write_leads(tmp_path, leads), DERIVE)
    assert error.reason == "missing_lead"
    assert "--derive-leads" not in error.detail


def test_derived_lead_that_is_flat_makes_the_record_unreadable(tmp_path: Path) -> None:
    record = write_leads(tmp_path, ["I", "I", *LEADS[6:]])
    header = Path(f"{record}.hea")
    header.write_text(header.read_text().replace(" I\n", " II\n", 1))
    error = failure(record, DERIVE)
    assert error.reason == "flat_lead", "III = II - I = 0"
    assert "flat signal in III;" in error.detail


MIRROR = DecodeOptions(short_records="mirror")


@pytest.mark.parametrize("rate", [500, 250, 257, 1000])
@pytest.mark.parametrize("seconds", [9.9, 9, 8, 6, 5])
def test_short_records_are_refused_or_mirrored(tmp_path: Path, rate: int, seconds: float) -> None:
    time = np.arange(round(seconds * rate)) / rate
    wave = 2 * np.sin(2 * np.pi * 0.35 * time[:, None] + np.arange(12))
    samples = np.round(200 * wave).astype(np.int16)
    for length in (f" {len(samples)}", ""):
        record = write(
            tmp_path,
            replace(f" {len(samples)}\n", f"{length}\n", 1),
            samples=samples,
            rate=str(rate),
        )
        error = failure(record)
        assert error.reason == "too_short"
        assert f"record lasts {len(samples) / rate:.5g} s, less than 10 s" in error.detail
        assert "exclude it, or add --short-records mirror." in error.detail
        ecg = read_wfdb(record, options=MIRROR)
        assert ecg.shape == (12, 5000)
        order = [FILE_ORDER.index(lead) for lead in LEADS]
        known = round(len(samples) / rate * 500)
        at = np.arange(5000) / 500
        mirrored = np.where(at <= seconds, at, 2 * seconds - at)
        expected = 2 * np.sin(2 * np.pi * 0.35 * mirrored[:, None] + np.arange(12))
        np.testing.assert_allclose(ecg[:, 50:-50], expected.T[order, 50:-50], atol=0.05)
        if rate == 500:
            original = samples.T[order] / np.float32(200)
            np.testing.assert_array_equal(ecg[:, :known], original)
            np.testing.assert_array_equal(ecg[:, known:], original[:, ::-1][:, : 5000 - known])


@pytest.mark.parametrize("options", [DecodeOptions(), MIRROR])
@pytest.mark.parametrize("samples", [2499, 600, 1])
def test_records_below_five_seconds_are_always_too_short(
    tmp_path: Path, options: DecodeOptions, samples: int
) -> None:
    error = failure(write(tmp_path, samples=SAMPLES[:samples]), options)
    assert error.reason == "too_short"
    assert "--short-records" not in error.detail


def test_record_one_sample_short_of_ten_seconds_is_too_short(
    tmp_path: Path,
) -> None:
    error = failure(write(tmp_path, samples=SAMPLES[:4999]))
    assert error.reason == "too_short"
    assert "record lasts 9.998 s, less than 10 s" in error.detail


def test_options_do_not_change_a_complete_record(tmp_path: Path) -> None:
    record = write(tmp_path)
    for options in (DERIVE, MIRROR):
        np.testing.assert_array_equal(read_wfdb(record, options=options), EXPECTED)


NAMES_IN_CAPITALS = {
    "the header": ("ecg.HEA", "ecg.dat"),
    "the suffixes": ("ecg.HEA", "ecg.DAT"),
    "the signal file": ("ecg.hea", "ECG.DAT"),
    "all names": ("ECG.HEA", "ECG.DAT"),
}


@pytest.mark.parametrize("kind", NAMES_IN_CAPITALS)
def test_files_with_names_in_capitals_are_found(tmp_path: Path, kind: str) -> None:
    record = write(tmp_path)
    header, signals = NAMES_IN_CAPITALS[kind]
    Path(f"{record}.hea").rename(tmp_path / header)
    Path(f"{record}.dat").rename(tmp_path / signals)
    dataset = WfdbDirectory("lab", tmp_path)
    assert dataset.index().record_id.tolist() == [header[:3]]
    np.testing.assert_array_equal(dataset.read(0), EXPECTED)
    np.testing.assert_array_equal(read_wfdb(tmp_path / "ecg"), EXPECTED)


def test_header_with_a_suffix_in_mixed_case_is_reported_as_missing(tmp_path: Path) -> None:
    write(tmp_path / "data")
    (tmp_path / "data/ecg.hea").rename(tmp_path / "data/ecg.Hea")
    dataset = WfdbDirectory("lab", tmp_path / "data")
    assert dataset.index().record_id.tolist() == ["ecg"]
    with pytest.raises(UnreadableRecord, match=r"ecg\.hea: file not found"):
        dataset.read(0)
