"""Findings on records with one known defect, and counts over a data set."""

import csv
import json
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from wfdb_files import FILE_ORDER, WfdbRecord, random_walk

from enecg.ecg_format import LEADS
from enecg.errors import UserError
from pipeline.check import COLUMNS, SignalReport, check_signals
from pipeline.datasets.mimic_iv_ecg import MimicIvEcg
from pipeline.datasets.wfdb_directory import WfdbDirectory
from pipeline.waveforms.errors import UnreadableRecord
from pipeline.waveforms.lead_signals import LeadSignals
from pipeline.waveforms.options import DecodeOptions
from pipeline.waveforms.quality import examine
from pipeline.waveforms.recording_digests import DigestTable


@pytest.fixture(scope="module")
def good(synthetic_dir: Path) -> LeadSignals:
    dataset = MimicIvEcg(synthetic_dir)
    for row in range(len(dataset.index())):
        signals = dataset.read_leads(row)
        if not examine(signals):
            return signals
    raise AssertionError("no record without a finding")


def findings(signals: LeadSignals) -> dict[str, tuple[str, ...]]:
    return {finding.reason: finding.leads for finding in examine(signals)}


def replace_leads(good: LeadSignals, **leads: np.ndarray) -> LeadSignals:
    mv = good.mv.copy()
    for name, values in leads.items():
        mv[LEADS.index(name)] = values
    return replace(good, mv=mv)


def lead(good: LeadSignals, name: str) -> np.ndarray:
    return good.mv[LEADS.index(name)].copy()


def test_missing_samples_flat_leads_and_checksums_are_found(good: LeadSignals):
    incomplete = lead(good, "V2")
    incomplete[100:150] = np.nan
    assert findings(replace_leads(good, V2=incomplete)) == {"nan_samples": ("V2",)}
    assert findings(replace_leads(good, V4=np.full(5000, 0.3)))["flat_lead"] == ("V4",)
    assert findings(replace(good, checksum_mismatches=("V1", "V6")))["wrong_checksum"] == (
        "V1",
        "V6",
    )


@pytest.mark.parametrize(
    ("samples", "short_records", "expected"),
    [
        *((4999, "refuse", "too_short"), (2500, "refuse", "too_short"), (9, "refuse", "too_short")),
        *((4999, "mirror", "short_record"), (2500, "mirror", "short_record")),
        (2499, "mirror", "too_short"),
    ],
)
def test_short_records_are_found(
    good: LeadSignals, samples: int, short_records: str, expected: str
):
    short = replace(good, mv=good.mv[:, :samples], digital=good.digital[:, :samples])
    found = examine(short, DecodeOptions(short_records=short_records))
    assert [f.reason for f in found if f.reason in ("too_short", "short_record")] == [expected]
    assert examine(good, DecodeOptions(short_records=short_records)) == ()


def test_plateaus_at_peaks_are_reported_as_clipping_and_a_baseline_is_not(good: LeadSignals):
    v3 = lead(good, "V3")
    peak = np.abs(v3).max()
    limit = 0.4 * peak
    assert findings(replace_leads(good, V3=v3.clip(-limit, limit)))["clipped"] == ("V3",)
    # A lead whose baseline is its lowest value has long plateaus there.
    rectified = np.abs(v3)
    rectified[rectified < 0.3 * peak] = 0
    assert "clipped" not in findings(replace_leads(good, V3=rectified))


def test_repeated_samples_at_the_ends_are_not_clipping(good: LeadSignals):
    v3 = lead(good, "V3")
    v3[-30:] = 1.5 * v3.max()
    assert "clipped" not in findings(replace_leads(good, V3=v3))


def test_lead_without_samples_is_reported_as_missing_and_not_as_flat(good: LeadSignals):
    assert findings(replace_leads(good, V2=np.full(5000, np.nan))) == {"nan_samples": ("V2",)}


def test_offset_of_a_lead_is_not_reported_as_inconsistent(good: LeadSignals):
    assert findings(replace_leads(good, II=lead(good, "II") + 0.3)) == {}


def test_detached_electrode_is_found(good: LeadSignals):
    v5 = lead(good, "V5")
    v5[2000:2600] = v5[2000]
    assert findings(replace_leads(good, V5=v5)) == {"lead_off": ("V5",)}
    v5 = lead(good, "V5")
    v5[2000:2400] = v5[2000]
    assert findings(replace_leads(good, V5=v5)) == {}


def test_duplicated_leads_are_found(good: LeadSignals):
    assert findings(replace_leads(good, V2=lead(good, "V1"))) == {"duplicated_leads": ("V1", "V2")}


@pytest.mark.parametrize(("one", "other"), [("aVL", "aVF"), ("aVR", "aVL"), ("I", "II")])
def test_swapped_limb_leads_are_found(good: LeadSignals, one: str, other: str):
    swapped = replace_leads(good, **{one: lead(good, other), other: lead(good, one)})
    assert findings(swapped) == {"swapped_leads": (one, other)}


def test_inconsistent_limb_leads_are_found(good: LeadSignals):
    assert findings(replace_leads(good, III=1.5 * lead(good, "III"))) == {
        "inconsistent_limb_leads": ()
    }


@pytest.mark.parametrize("factor", [1000, 1 / 1000, 1e35])
def test_implausible_amplitude_is_found(good: LeadSignals, factor: float):
    assert "implausible_amplitude" in findings(replace(good, mv=good.mv * np.float32(factor)))


def test_noise_of_microvolts_is_not_reported_as_inconsistent(good: LeadSignals):
    noise = np.random.default_rng(0).normal(0, 0.01, good.mv.shape).astype(np.float32)
    assert findings(replace(good, mv=good.mv + noise)) == {}


def test_lead_with_only_quantization_noise_is_reported_as_lead_off(good: LeadSignals):
    noise = np.random.default_rng(0).choice([0, 0.005], 5000)
    assert findings(replace_leads(good, V5=noise)) == {"lead_off": ("V5",)}


def test_counts_equal_the_defects_of_the_synthetic_data_set(synthetic_dir: Path, tmp_path: Path):
    spoiled = json.loads((synthetic_dir / "synthetic.json").read_text())["spoiled"]
    dataset = MimicIvEcg(synthetic_dir)
    rows = np.arange(len(dataset.index()))
    out = tmp_path / "new" / "wrong.csv"
    report = check_signals(dataset, rows, threads=3, out=out)
    unreadable = {reason: ids for reason, ids in spoiled.items() if reason != "unknown_rr"}
    assert {reason: report.counts[reason] for reason in unreadable} == {
        reason: len(ids) for reason, ids in unreadable.items()
    }
    assert report.records == len(rows)
    assert report.unreadable == report.flagged == sum(map(len, unreadable.values()))
    with out.open() as file:
        table = list(csv.DictReader(file))
    assert tuple(table[0]) == COLUMNS
    assert sorted(int(row["record_id"]) for row in table) == sorted(
        record for ids in unreadable.values() for record in ids
    )
    index_row = {record: row for row, record in enumerate(dataset.index().record_id.tolist())}
    table_rows = [index_row[int(row["record_id"])] for row in table]
    assert table_rows == sorted(table_rows), "the table is not in the order of the index"
    flat_only = check_signals(dataset, rows, only=("flat_lead",))
    assert flat_only.selected == len(unreadable["flat_lead"]) < flat_only.flagged


def test_full_disk_is_a_user_error(synthetic_dir: Path):
    dataset, full = MimicIvEcg(synthetic_dir), Path("/dev/full")
    if not full.exists():
        pytest.skip("/dev/full is missing")
    with pytest.raises(UserError, match=r"^/dev/full cannot be written \(No space left .*--out\.$"):
        check_signals(dataset, np.arange(len(dataset.index())), threads=3, out=full)


def write_lab(directory: Path, **records: np.ndarray | WfdbRecord) -> WfdbDirectory:
    """Write records, each given as a `WfdbRecord` or as samples of 12 leads in `FILE_ORDER`."""
    for name, record in records.items():
        written = record if isinstance(record, WfdbRecord) else WfdbRecord(record)
        written.write(directory, name)
    return WfdbDirectory("lab", directory)


def check_lab(dataset: WfdbDirectory, out: Path) -> tuple[SignalReport, dict[str, dict[str, str]]]:
    report = check_signals(dataset, np.arange(len(dataset.index())), threads=3, out=out)
    with out.open() as file:
        return report, {row["record_id"]: row for row in csv.DictReader(file)}


def swap_leads(samples: np.ndarray) -> np.ndarray:
    return samples[:, [1, 0, *range(2, 12)]]


def consistent_walk(seed: int) -> np.ndarray:
    """Return samples that satisfy Einthoven's and Goldberger's equations."""
    samples = random_walk(seed=seed) // 2 * 2
    one, two = samples[:, 0], samples[:, 1]
    limb = {
        "III": two - one,
        "aVR": -(one + two) // 2,
        "aVL": one - two // 2,
        "aVF": two - one // 2,
    }
    for lead, values in limb.items():
        samples[:, FILE_ORDER.index(lead)] = values
    return samples


def odd_records() -> dict[str, tuple[np.ndarray | WfdbRecord, str, str]]:
    """Return unusual records, each with the expected findings and part of their detail."""
    good = consistent_walk(0)
    flat, missing, off, equal = (consistent_walk(seed) for seed in range(1, 5))
    flat[:, 8] = 3
    missing[100:150, 7] = -32768
    off[1000:1600, 9] = 5
    equal[:, 8] = equal[:, 9]
    names = (*FILE_ORDER, "V2")
    gains = ("200.0(0)/mV",) * 13
    twice = consistent_walk(5)
    other = np.insert(twice, 0, random_walk(signals=1, seed=9)[:, 0], axis=1)
    same = np.insert(twice, 12, twice[:, 7], axis=1)
    return {
        "flat": (flat, "flat_lead (V3)", "flat signal in V3; exclude the record."),
        "missing": (missing, "nan_samples (V2)", "missing samples in V2; exclude"),
        "checksum": (
            WfdbRecord(consistent_walk(6), checksums=[1] * 12),
            "wrong_checksum",
            "checksum mismatch in I, II,",
        ),
        "short": (consistent_walk(7)[:4000], "too_short", "lasts 8 s, less than 10 s; exclude it"),
        "infinite": (
            WfdbRecord(consistent_walk(8), gains=("1e-39(0)/mV",) * 12),
            "unreadable",
            "voltages are infinite; copy",
        ),
        "off": (off, "lead_off (V4)", "constant signal for 1 s, or a range below 10 uV, in V4."),
        "equal": (equal, "duplicated_leads (V3, V4)", "the leads V3, V4 are equal."),
        "swapped": (swap_leads(good), "swapped_leads (I, II)", "I, II are probably swapped."),
        "volts": (
            WfdbRecord(consistent_walk(10), gains=("200.0(0)/V",) * 12),
            "implausible_amplitude (",
            "the gain or unit is probably wrong in I,",
        ),
        "twice": (
            WfdbRecord(other, gains=gains, names=("V2", *FILE_ORDER)),
            "duplicate_lead",
            "several signals of lead V2 (V2, V2) have different samples; rename or remove",
        ),
        "twice_same": (
            WfdbRecord(same, gains=gains, names=names),
            "repeated_lead (V2)",
            "several signals of lead V2 have the same samples.",
        ),
        "no_v6": (
            WfdbRecord(good[:, :11], gains=gains[:11], names=FILE_ORDER[:11]),
            "missing_lead",
            "missing leads: V6; the signals are I,",
        ),
    }


def test_every_finding_has_a_detail_that_names_the_record(tmp_path: Path):
    odd = odd_records()
    dataset = write_lab(tmp_path / "lab", **{name: record for name, (record, *_) in odd.items()})
    report, rows = check_lab(dataset, tmp_path / "findings.csv")
    assert set(rows) == set(odd)
    for name, (_, finding, detail) in odd.items():
        assert finding in rows[name]["findings"], name
        assert detail in rows[name]["detail"], name
        assert rows[name]["detail"].count(str(tmp_path / "lab" / name)) == (
            rows[name]["findings"].count(";") + 1
        )
    assert report.unreadable == 7


def test_details_start_with_those_of_an_extraction(tmp_path: Path):
    odd = odd_records()
    dataset = write_lab(tmp_path / "lab", **{name: record for name, (record, *_) in odd.items()})
    _, rows = check_lab(dataset, tmp_path / "findings.csv")
    usable = {"off", "equal", "swapped", "volts", "twice_same"}
    for row, name in enumerate(dataset.index().record_id.tolist()):
        if name in usable:
            dataset.read(row)
            continue
        with pytest.raises(UnreadableRecord) as failure:
            dataset.read(row)
        assert rows[name]["findings"].startswith(failure.value.reason)
        assert rows[name]["detail"].startswith(failure.value.detail)


def test_same_recording_under_two_ids_is_a_finding(tmp_path: Path):
    samples, other = consistent_walk(0), consistent_walk(1)
    reordered = [0, 2, 1, *range(3, 12)]
    flat = np.zeros((5000, 12), np.int16)
    long = np.concatenate([samples, consistent_walk(2)])
    changed = samples.copy()
    changed[17, 3] += 2
    dataset = write_lab(
        tmp_path / "lab",
        a=samples,
        b=other,
        c_same=samples,
        d_reordered=WfdbRecord(
            samples[:, reordered], names=[FILE_ORDER[column] for column in reordered]
        ),
        e_other_gain=WfdbRecord(samples * 2, gains=("400.0(0)/mV",) * 12),
        f_longer=long,
        g_flat=flat,
        h_flat=flat,
        i_other_rate=WfdbRecord(long, rate="1000"),
        j_changed=changed,
    )
    (tmp_path / "lab/labels.csv").write_text("record_id,patient_id\na,anna\nc_same,bert\n")
    report, rows = check_lab(dataset, tmp_path / "findings.csv")
    found = {name for name, row in rows.items() if "duplicate_recording" in row["findings"]}
    assert found == {"c_same", "d_reordered", "e_other_gain", "f_longer"}
    assert report.counts["duplicate_recording"] == 4
    assert report.unreadable == 2
    assert report.examples["duplicate_recording"][0] == "c_same = a"
    assert rows["c_same"]["detail"].endswith("/c_same: same samples as record a of patient anna.")


@pytest.mark.parametrize("capacity", [1, 2, 1000, 1024])
def test_digest_table_finds_digests_and_needs_32_bytes_per_record(capacity: int):
    tracemalloc.start()
    table = DigestTable(capacity)
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert size <= 32 * capacity + 1000
    # Half of the digests have the same first 8 bytes, which determine the slot.
    digests = [
        bytes(8) + number.to_bytes(8, "big") if number % 2 else number.to_bytes(16, "little")
        for number in range(capacity)
    ]
    digests[0] = bytes(16)
    assert [table.find_or_add(*item) for item in enumerate(digests)] == [None] * capacity
    for number in (0, capacity // 2, capacity - 1):
        assert table.find_or_add(capacity - 1, digests[number]) == number
