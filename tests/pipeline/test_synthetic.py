import dataclasses
import filecmp
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import wfdb
from scipy.signal import find_peaks

from enecg.errors import UserError
from enecg.signal import LEADS
from pipeline.mimic_codes import UNMEASURED
from pipeline.synthetic.patient import Patient, draw_patient
from pipeline.synthetic.rhythms import RHYTHMS
from pipeline.synthetic.simulation import Recording, quantize, simulate
from pipeline.synthetic.synthesize import DEFECTS, MARKER, UNFINISHED_MARKER, synthesize

RHYTHM = {rhythm.report: rhythm for rhythm in RHYTHMS}


def patient(*, age: float = 55, male: bool = True, seed: int = 0) -> Patient:
    drawn = draw_patient(np.random.default_rng(seed), age=age, male=male)
    return dataclasses.replace(drawn, block="")


def ecg_of(
    words: str = "Sinus rhythm", potassium: float = 4.2, seed: int = 0, **who: float
) -> Recording:
    rng = np.random.default_rng([seed, 1])
    return simulate(patient(seed=seed, **who), RHYTHM[words], potassium, rng)  # type: ignore[arg-type]


def mean_beat(recording: Recording, lead: str) -> np.ndarray:
    """A lead's mean from 0.3 s before to 0.55 s after the R peaks, its start at zero."""
    peaks = (recording.beats_s * 500).round().astype(int)
    inside = [p for p in peaks if p >= 150 and p + 275 <= 5000]
    beat = np.mean([recording.ecg_mv[LEADS.index(lead), p - 150 : p + 275] for p in inside], axis=0)
    return beat - np.median(beat[:10])


def t_height(recording: Recording, lead: str) -> float:
    return float(mean_beat(recording, lead)[150 + 75 :].max())


@pytest.mark.parametrize("rhythm", RHYTHMS, ids=lambda r: r.report)
def test_einthovens_law_holds_to_the_last_bit(rhythm) -> None:
    for seed in range(3):
        rng = np.random.default_rng(seed)
        recording = simulate(draw_patient(rng, age=70, male=False), rhythm, 6.5, rng)
        ecg, units = recording.ecg_mv, quantize(recording.ecg_mv).astype(int)
        np.testing.assert_array_equal(ecg[2], ecg[1] - ecg[0])
        np.testing.assert_array_equal(units[2], units[1] - units[0])
        for augmented, twice in zip(
            units[3:6],
            (-(units[0] + units[1]), 2 * units[0] - units[1], 2 * units[1] - units[0]),
            strict=True,
        ):
            assert np.abs(2 * augmented - twice).max() <= 1  # half a unit of rounding
        assert np.abs(units / 200 - ecg).max() < 0.008


def test_amplitudes_stay_lawful_where_the_file_format_ends() -> None:
    ecg = np.zeros((12, 4), np.float32)
    ecg[0], ecg[1] = (-200, 200, -200, 200), (200, -200, -200, 200)
    units = quantize(ecg).astype(int)
    np.testing.assert_array_equal(units[2], units[1] - units[0])
    assert units.min() > -32768


def test_the_r_peaks_are_where_the_beat_times_say() -> None:
    for seed in range(5):
        recording = ecg_of(seed=seed)
        lead = recording.ecg_mv[LEADS.index("V5")]
        found, _ = find_peaks(lead, height=0.6 * lead.max(), distance=150)
        within = recording.beats_s[(recording.beats_s > 0.1) & (recording.beats_s < 9.9)]
        distance = np.abs(found[:, None] / 500 - within).min(axis=0)
        assert distance.max() < 0.025


@pytest.mark.parametrize("rhythm", RHYTHMS, ids=lambda r: r.report)
def test_a_rhythm_has_the_rate_its_name_says(rhythm) -> None:
    for seed in range(10):
        rate = 60_000 / ecg_of(rhythm.report, seed=seed, age=70).rr_ms
        low, high = rhythm.rate_bpm
        assert low * 0.9 < rate < high * 1.12


def test_a_normal_ecg_looks_like_one() -> None:
    beats = {lead: [] for lead in LEADS}
    for seed in range(20):
        recording = ecg_of(seed=seed)
        for lead in LEADS:
            beats[lead].append(mean_beat(recording, lead))
    mean = {lead: np.mean(found, axis=0) for lead, found in beats.items()}
    r = [mean[f"V{n}"][125:175].max() for n in range(1, 7)]
    s = [mean[f"V{n}"][125:175].min() for n in range(1, 7)]
    assert r[0] < r[2] < r[3], "R grows from V1 to V4"
    assert s[1] < s[3] < s[5] + 0.2, "S shrinks from V2 to V6"
    assert r[0] < -s[0], "S is deeper than R is tall in V1"
    assert r[4] > -s[4], "R is taller than S is deep in V5"
    for lead in ("I", "II", "V4", "V5", "V6"):
        assert mean[lead][225:].max() > 0.08, "the T wave is upright"
        assert mean[lead][125:175].max() > 0.3
    assert mean["aVR"][225:].min() < -0.1
    assert mean["aVR"][125:175].min() < -0.3
    p_wave = mean["II"][50:120]
    assert 0.05 < p_wave.max() < 0.25, "an upright P wave before the QRS in II"
    assert 0.4 < mean["II"][125:175].max() < 2.0
    assert 0.7 < r[4] < 2.5


def test_fibrillating_atria_give_irregular_beats_and_no_p_wave() -> None:
    def irregularity(words: str) -> float:
        spreads = []
        for seed in range(10):
            intervals = np.diff(ecg_of(words, seed=seed, age=70).beats_s)
            spreads.append(intervals.std() / intervals.mean())
        return float(np.median(spreads))

    assert irregularity("Atrial fibrillation") > 3 * irregularity("Sinus rhythm")
    assert irregularity("Sinus arrhythmia") > 3 * irregularity("Sinus rhythm")
    assert irregularity("Ventricular-paced rhythm") < 0.01
    p = [mean_beat(ecg_of("Atrial fibrillation", seed=s), "II")[60:115].max() for s in range(20)]
    sinus = [mean_beat(ecg_of(seed=s), "II")[60:115].max() for s in range(20)]
    assert np.mean(p) < 0.6 * np.mean(sinus)


def test_a_premature_ventricular_beat_is_early_wide_and_paused_after() -> None:
    for seed in range(5):
        intervals = np.diff(ecg_of("Sinus rhythm with PVC(s)", seed=seed).beats_s)
        usual = np.median(intervals)
        early = int(np.argmin(intervals))
        assert intervals[early] < 0.8 * usual
        assert intervals[early + 1] > 1.2 * usual
    assert ecg_of("Ventricular-paced rhythm").qrs_ms > 140


def test_high_potassium_peaks_the_t_wave_and_low_flattens_it() -> None:
    for seed in range(10):
        t = {k: t_height(ecg_of(potassium=k, seed=seed), "V4") for k in (2.5, 4.2, 7.0)}
        assert t[2.5] < 0.75 * t[4.2] < 0.75 * t[7.0]
        severe = ecg_of(potassium=8.0, seed=seed)
        assert severe.qrs_ms > 1.15 * ecg_of(seed=seed).qrs_ms


def test_age_and_sex_change_the_ecg_of_many_but_not_of_each() -> None:
    def many(**who: float) -> tuple[np.ndarray, np.ndarray]:
        found = [ecg_of(seed=seed, **who) for seed in range(40)]
        return np.array([t_height(r, "V3") for r in found]), np.array([r.qrs_axis for r in found])

    t_men, _ = many(male=True)
    t_women, _ = many(male=False)
    assert t_men.mean() > 1.3 * t_women.mean()
    assert t_men.min() < t_women.max(), "no threshold tells them apart without a mistake"
    _, axis_young = many(age=25)
    _, axis_old = many(age=85)
    assert np.median(axis_young) - np.median(axis_old) > 20
    assert axis_young.min() < axis_old.max()


def test_there_are_more_words_than_classes_and_sinus_rhythm_leads() -> None:
    assert len(RHYTHM) == len(RHYTHMS) > 15
    weights = [rhythm.weight for rhythm in RHYTHMS]
    assert max(weights) == RHYTHM["Sinus rhythm"].weight > 2 * sorted(weights)[-2]


def test_the_files_are_as_mimic_iv_ecg_writes_them(synthetic_dir: Path, mimic_demo: Path) -> None:
    real = mimic_demo / "ecg"
    records = pd.read_csv(synthetic_dir / "record_list.csv")
    assert list(records) == list(pd.read_csv(real / "record_list.csv"))
    first = records.iloc[0]
    subject, study = first["subject_id"], first["study_id"]
    assert first["path"] == f"files/p{subject // 10_000}/p{subject}/s{study}/{study}"

    def shape_of(path: Path) -> list[list[str]]:
        """The header without what differs from record to record: names, times, sums."""
        lines = [line.split() for line in path.read_text().splitlines()]
        return [lines[0][1:4], *([*w[1:5], w[7], w[8]] for w in lines[1:13]), lines[13][:2]]

    header = synthetic_dir / f"{first['path']}.hea"
    assert shape_of(header) == shape_of(real / "40689238.hea")
    when = pd.Timestamp(first["ecg_time"])
    assert header.read_text().splitlines()[0].split()[4:] == [
        when.strftime("%H:%M:%S"),
        when.strftime("%d/%m/%Y"),
    ]
    measured = pd.read_csv(synthetic_dir / "machine_measurements.csv")
    assert list(measured) == list(pd.read_csv(real / "machine_measurements_1row.csv"))
    patients = pd.read_csv(synthetic_dir / "hosp/patients.csv")
    assert list(patients) == list(pd.read_csv(mimic_demo / "hosp/patients.csv"))


def test_every_kind_of_spoiled_record_is_there_and_told(synthetic_dir: Path) -> None:
    marker = json.loads((synthetic_dir / MARKER).read_text())
    assert marker["records"] >= 40
    spoiled = marker["spoiled"]
    assert tuple(spoiled) == DEFECTS
    assert all(spoiled.values())
    records = pd.read_csv(synthetic_dir / "record_list.csv").set_index("study_id")
    measured = pd.read_csv(synthetic_dir / "machine_measurements.csv").set_index("study_id")

    def samples(record: int) -> Path:
        return synthetic_dir / f"{records.loc[record, 'path']}.dat"

    assert all(samples(r).stat().st_size < 120_000 for r in spoiled["cut_file"])
    assert not any(samples(r).exists() for r in spoiled["missing_file"])
    for record in spoiled["nan_samples"]:
        assert np.isnan(wfdb.rdrecord(str(samples(record).with_suffix(""))).p_signal).any()
    for record in spoiled["flat_lead"]:
        flat = np.ptp(wfdb.rdrecord(str(samples(record).with_suffix(""))).p_signal, axis=0) == 0
        assert flat.sum() == 1
    unknown = measured.index[measured["rr_interval"] == UNMEASURED]
    assert sorted(unknown) == spoiled["unknown_rr"]


def test_the_same_seed_writes_the_same_bytes_and_another_does_not(tmp_path: Path) -> None:
    one, two, other = tmp_path / "one", tmp_path / "two", tmp_path / "other"
    for directory, seed in ((one, 7), (two, 7), (other, 8)):
        synthesize(directory, patients=3, seed=seed, spoiled_fraction=0)
    files = sorted(p.relative_to(one) for p in one.rglob("*") if p.is_file())
    assert filecmp.cmpfiles(one, two, map(str, files), shallow=False)[1:] == ([], [])
    assert (one / "record_list.csv").read_text() != (other / "record_list.csv").read_text()


def test_a_data_set_that_is_there_is_not_written_again(tmp_path: Path) -> None:
    first = synthesize(tmp_path / "d", patients=2, seed=1)
    before = {p: p.stat().st_mtime_ns for p in first.directory.rglob("*")}
    again = synthesize(tmp_path / "d", patients=2, seed=1)
    assert (first.already_existed, again.already_existed) == (False, True)
    assert dataclasses.replace(again, already_existed=False) == first
    assert {p: p.stat().st_mtime_ns for p in first.directory.rglob("*")} == before


def test_an_interrupted_write_is_done_again(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    synthesize(whole, patients=3, seed=1)

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthesize(cut, patients=3, seed=1, progress=stop)
    assert (cut / UNFINISHED_MARKER).exists()
    assert not (cut / MARKER).exists()
    assert not synthesize(cut, patients=3, seed=1).already_existed
    names = sorted(str(p.relative_to(whole)) for p in whole.rglob("*") if p.is_file())
    assert names == sorted(str(p.relative_to(cut)) for p in cut.rglob("*") if p.is_file())
    assert filecmp.cmpfiles(whole, cut, names, shallow=False)[1:] == ([], [])


def test_nobody_elses_directory_is_written_into(tmp_path: Path) -> None:
    theirs = tmp_path / "thesis"
    theirs.mkdir()
    (theirs / "chapter.tex").write_text("years of work")
    with pytest.raises(UserError, match="not empty"):
        synthesize(theirs, patients=2, seed=0)
    assert [p.name for p in theirs.iterdir()] == ["chapter.tex"]
    synthesize(tmp_path / "d", patients=2, seed=0)
    with pytest.raises(UserError, match="other parameters"):
        synthesize(tmp_path / "d", patients=2, seed=1)


@pytest.mark.parametrize("wrong", [{"patients": 0}, {"seed": -1}, {"spoiled_fraction": 1.5}])
def test_parameters_out_of_range_are_refused_in_a_sentence(tmp_path: Path, wrong) -> None:
    with pytest.raises(UserError, match=r"^[^\n]+\.$"):
        synthesize(tmp_path / "d", **{"patients": 2, **wrong})
    assert not (tmp_path / "d").exists()


def test_progress_counts_every_record_once(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    made = synthesize(tmp_path / "d", patients=2, progress=lambda *at: seen.append(at))
    assert seen == [(n, made.records) for n in range(1, made.records + 1)]


def test_two_data_sets_of_different_signals_never_share_a_namespace(tmp_path: Path) -> None:
    made = [
        synthesize(tmp_path / str(n), **{"patients": 2, "seed": 0, **other}).namespace
        for n, other in enumerate([{}, {"seed": 1}, {"patients": 3}, {"spoiled_fraction": 0.5}])
    ]
    assert len(set(made)) == 4
    assert all(name.startswith("synthetic/") for name in made)
