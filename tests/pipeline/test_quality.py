"""Findings on records with one known defect, and counts over a data set."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from enecg.signal import LEADS
from pipeline.check import COLUMNS, check_signals
from pipeline.datasets.mimic_iv_ecg import MimicIvEcg
from pipeline.waveforms.decode import LeadSignals
from pipeline.waveforms.quality import examine


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


def test_missing_samples_flat_leads_and_short_records_are_found(good: LeadSignals):
    incomplete = lead(good, "V2")
    incomplete[100:150] = np.nan
    assert findings(replace_leads(good, V2=incomplete)) == {"nan_samples": ("V2",)}
    assert findings(replace_leads(good, V4=np.full(5000, 0.3)))["flat_lead"] == ("V4",)
    assert "too_short" in findings(
        replace(good, mv=good.mv[:, :2000], digital=good.digital[:, :2000])
    )
    assert findings(replace(good, checksum_mismatches=("V1", "V6")))["wrong_checksum"] == (
        "V1",
        "V6",
    )


def test_plateaus_at_peaks_are_clipping_and_a_baseline_is_not(good: LeadSignals):
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


def test_a_lead_without_samples_is_missing_and_not_flat(good: LeadSignals):
    assert findings(replace_leads(good, V2=np.full(5000, np.nan))) == {"nan_samples": ("V2",)}


def test_an_offset_of_a_lead_is_not_inconsistent(good: LeadSignals):
    assert findings(replace_leads(good, II=lead(good, "II") + 0.3)) == {}


def test_a_detached_electrode_is_found(good: LeadSignals):
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
def test_an_implausible_amplitude_is_found(good: LeadSignals, factor: float):
    assert "implausible_amplitude" in findings(replace(good, mv=good.mv * np.float32(factor)))


def test_noise_of_microvolts_is_not_inconsistent(good: LeadSignals):
    noise = np.random.default_rng(0).normal(0, 0.01, good.mv.shape).astype(np.float32)
    assert findings(replace(good, mv=good.mv + noise)) == {}


def test_a_lead_with_quantization_noise_only_is_off(good: LeadSignals):
    noise = np.random.default_rng(0).choice([0, 0.005], 5000)
    assert findings(replace_leads(good, V5=noise)) == {"lead_off": ("V5",)}


def test_counts_equal_the_defects_of_the_synthetic_data_set(synthetic_dir: Path, tmp_path: Path):
    spoiled = json.loads((synthetic_dir / "synthetic.json").read_text())["spoiled"]
    dataset = MimicIvEcg(synthetic_dir)
    rows = np.arange(len(dataset.index()))
    out = tmp_path / "new" / "wrong.csv"
    report = check_signals(dataset, rows, threads=3, out=out)
    unusable = {reason: ids for reason, ids in spoiled.items() if reason != "unknown_rr"}
    assert {reason: report.counts[reason] for reason in unusable} == {
        reason: len(ids) for reason, ids in unusable.items()
    }
    assert report.records == len(rows)
    assert report.unusable == report.flagged == sum(map(len, unusable.values()))
    with out.open() as file:
        table = list(csv.DictReader(file))
    assert tuple(table[0]) == COLUMNS
    assert sorted(int(row["record_id"]) for row in table) == sorted(
        record for ids in unusable.values() for record in ids
    )
    index_row = {record: row for row, record in enumerate(dataset.index().record_id.tolist())}
    table_rows = [index_row[int(row["record_id"])] for row in table]
    assert table_rows == sorted(table_rows), "the table is in the order of the index"
    flat_only = check_signals(dataset, rows, only=("flat_lead",))
    assert flat_only.selected == len(unusable["flat_lead"]) < flat_only.flagged
