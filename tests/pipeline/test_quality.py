"""Findings on records that are wrong in one known way, and counts over a data set."""

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
    source = MimicIvEcg(synthetic_dir)
    for row in range(len(source.index())):
        leads = source.read_leads(row)
        if not examine(leads):
            return leads
    raise AssertionError("no record without a finding")


def of(leads: LeadSignals) -> dict[str, tuple[str, ...]]:
    return {one.reason: one.leads for one in examine(leads)}


def changed(good: LeadSignals, **leads: np.ndarray) -> LeadSignals:
    mv = good.mv.copy()
    for name, values in leads.items():
        mv[LEADS.index(name)] = values
    return replace(good, mv=mv)


def lead(good: LeadSignals, name: str) -> np.ndarray:
    return good.mv[LEADS.index(name)].copy()


def test_missing_samples_flat_leads_and_short_records_are_found(good: LeadSignals):
    holes = lead(good, "V2")
    holes[100:150] = np.nan
    assert of(changed(good, V2=holes)) == {"nan_samples": ("V2",)}
    assert of(changed(good, V4=np.full(5000, 0.3)))["flat_lead"] == ("V4",)
    assert "too_short" in of(replace(good, mv=good.mv[:, :2000], digital=good.digital[:, :2000]))
    assert of(replace(good, checksum_mismatches=("V1", "V6")))["wrong_checksum"] == ("V1", "V6")


def test_a_lead_that_was_cut_off_at_a_limit_is_clipped_and_a_baseline_is_not(good: LeadSignals):
    v3 = lead(good, "V3")
    peak = np.abs(v3).max()
    limit = 0.4 * peak
    assert of(changed(good, V3=v3.clip(-limit, limit)))["clipped"] == ("V3",)
    # A lead that rests at its lowest value between its beats rests there for long.
    above = np.abs(v3)
    above[above < 0.3 * peak] = 0
    assert "clipped" not in of(changed(good, V3=above))


def test_samples_held_at_the_ends_of_a_record_are_no_clipping(good: LeadSignals):
    v3 = lead(good, "V3")
    v3[-30:] = 1.5 * v3.max()
    assert "clipped" not in of(changed(good, V3=v3))


def test_a_lead_without_a_sample_is_missing_and_not_flat(good: LeadSignals):
    assert of(changed(good, V2=np.full(5000, np.nan))) == {"nan_samples": ("V2",)}


def test_offsets_of_single_leads_make_no_limb_lead_wrong(good: LeadSignals):
    assert of(changed(good, II=lead(good, "II") + 0.3)) == {}


def test_an_electrode_that_fell_off_is_found(good: LeadSignals):
    v5 = lead(good, "V5")
    v5[2000:2600] = v5[2000]
    assert of(changed(good, V5=v5)) == {"lead_off": ("V5",)}
    v5 = lead(good, "V5")
    v5[2000:2400] = v5[2000]
    assert of(changed(good, V5=v5)) == {}


def test_two_leads_from_one_electrode_are_found(good: LeadSignals):
    assert of(changed(good, V2=lead(good, "V1"))) == {"duplicated_leads": ("V1", "V2")}


@pytest.mark.parametrize(("one", "other"), [("aVL", "aVF"), ("aVR", "aVL"), ("I", "II")])
def test_limb_leads_under_each_others_names_are_found(good: LeadSignals, one: str, other: str):
    swapped = changed(good, **{one: lead(good, other), other: lead(good, one)})
    assert of(swapped) == {"swapped_leads": (one, other)}


def test_limb_leads_that_contradict_each_other_are_found(good: LeadSignals):
    assert of(changed(good, III=1.5 * lead(good, "III"))) == {"inconsistent_limb_leads": ()}


@pytest.mark.parametrize("times", [1000, 1 / 1000, 1e35])
def test_a_voltage_that_no_heart_gives_is_found(good: LeadSignals, times: float):
    assert "implausible_amplitude" in of(replace(good, mv=good.mv * np.float32(times)))


def test_noise_of_microvolts_makes_no_limb_lead_wrong(good: LeadSignals):
    noise = np.random.default_rng(0).normal(0, 0.01, good.mv.shape).astype(np.float32)
    assert of(replace(good, mv=good.mv + noise)) == {}


def test_a_lead_of_nothing_but_noise_of_the_converter_is_off(good: LeadSignals):
    noise = np.random.default_rng(0).choice([0, 0.005], 5000)
    assert of(changed(good, V5=noise)) == {"lead_off": ("V5",)}


def test_a_data_set_is_counted_as_it_was_spoiled(synthetic_dir: Path, tmp_path: Path):
    spoiled = json.loads((synthetic_dir / "synthetic.json").read_text())["spoiled"]
    source = MimicIvEcg(synthetic_dir)
    rows = np.arange(len(source.index()))
    out = tmp_path / "new" / "wrong.csv"
    found = check_signals(source, rows, threads=3, out=out)
    unusable = {reason: ids for reason, ids in spoiled.items() if reason != "unknown_rr"}
    assert {reason: found.counts[reason] for reason in unusable} == {
        reason: len(ids) for reason, ids in unusable.items()
    }
    assert found.records == len(rows)
    assert found.unusable == found.flagged == sum(map(len, unusable.values()))
    with out.open() as file:
        told = list(csv.DictReader(file))
    assert tuple(told[0]) == COLUMNS
    assert sorted(int(row["record_id"]) for row in told) == sorted(
        record for ids in unusable.values() for record in ids
    )
    order = {record: place for place, record in enumerate(source.index().record_id.tolist())}
    places = [order[int(row["record_id"])] for row in told]
    assert places == sorted(places), "the table is in the order of the index"
    only = check_signals(source, rows, only=("flat_lead",))
    assert only.selected == len(unusable["flat_lead"]) < only.flagged
