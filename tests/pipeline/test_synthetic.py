import dataclasses
import filecmp
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import wfdb
from scipy.signal import find_peaks

from enecg.ecg_format import LEADS
from enecg.errors import UserError
from pipeline.mimic_codes import UNMEASURED
from pipeline.synthetic.markers import MARKER, UNFINISHED_MARKER
from pipeline.synthetic.patient import Patient, draw_patient
from pipeline.synthetic.rhythms import RHYTHMS
from pipeline.synthetic.simulation import Recording, quantize, simulate
from pipeline.synthetic.synthesize import DEFECTS, synthesize

RHYTHM_BY_REPORT = {rhythm.report: rhythm for rhythm in RHYTHMS}


def patient_without_block(*, age: float = 55, male: bool = True, seed: int = 0) -> Patient:
    drawn = draw_patient(np.random.default_rng(seed), age=age, male=male)
    return dataclasses.replace(drawn, block="")


def simulate_ecg(
    report: str = "Sinus rhythm", potassium: float = 4.2, seed: int = 0, **patient: float
) -> Recording:
    drawn = patient_without_block(seed=seed, **patient)  # type: ignore[arg-type]
    return simulate(drawn, RHYTHM_BY_REPORT[report], potassium, np.random.default_rng([seed, 1]))


def mean_beat(recording: Recording, lead: str) -> np.ndarray:
    """Return a lead's mean beat, from 0.3 s before to 0.55 s after the R peak, starting at 0 mV."""
    peaks = (recording.beats_s * 500).round().astype(int)
    inside = [p for p in peaks if p >= 150 and p + 275 <= 5000]
    beat = np.mean([recording.ecg_mv[LEADS.index(lead), p - 150 : p + 275] for p in inside], axis=0)
    return beat - np.median(beat[:10])


def t_wave_height(recording: Recording, lead: str) -> float:
    return float(mean_beat(recording, lead)[150 + 75 :].max())


@pytest.mark.parametrize("rhythm", RHYTHMS, ids=lambda r: r.report)
def test_einthovens_law_holds_exactly(rhythm) -> None:
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
            # Rounding changes a value by up to half a unit.
            assert np.abs(2 * augmented - twice).max() <= 1
        assert np.abs(units / 200 - ecg).max() < 0.008


def test_clipped_amplitudes_satisfy_einthovens_law() -> None:
    ecg = np.zeros((12, 4), np.float32)
    ecg[0], ecg[1] = (-200, 200, -200, 200), (200, -200, -200, 200)
    units = quantize(ecg).astype(int)
    np.testing.assert_array_equal(units[2], units[1] - units[0])
    assert units.min() > -32768


def test_beat_times_are_those_of_the_r_peaks() -> None:
    for seed in range(5):
        recording = simulate_ecg(seed=seed)
        lead = recording.ecg_mv[LEADS.index("V5")]
        found, _ = find_peaks(lead, height=0.6 * lead.max(), distance=150)
        within = recording.beats_s[(recording.beats_s > 0.1) & (recording.beats_s < 9.9)]
        distance = np.abs(found[:, None] / 500 - within).min(axis=0)
        assert distance.max() < 0.025


@pytest.mark.parametrize("rhythm", RHYTHMS, ids=lambda r: r.report)
def test_heart_rate_is_in_the_range_of_the_rhythm(rhythm) -> None:
    for seed in range(10):
        rate = 60_000 / simulate_ecg(rhythm.report, seed=seed, age=70).rr_ms
        low, high = rhythm.rate_bpm
        assert low * 0.9 < rate < high * 1.12


def test_normal_ecg_has_normal_morphology() -> None:
    beats = {lead: [] for lead in LEADS}
    for seed in range(20):
        recording = simulate_ecg(seed=seed)
        for lead in LEADS:
            beats[lead].append(mean_beat(recording, lead))
    mean = {lead: np.mean(found, axis=0) for lead, found in beats.items()}
    r = [mean[f"V{n}"][125:175].max() for n in range(1, 7)]
    s = [mean[f"V{n}"][125:175].min() for n in range(1, 7)]
    assert r[0] < r[2] < r[3], "R does not increase from V1 to V4"
    assert s[1] < s[3] < s[5] + 0.2, "S does not decrease from V2 to V6"
    assert r[0] < -s[0], "R is larger than S in V1"
    assert r[4] > -s[4], "S is larger than R in V5"
    for lead in ("I", "II", "V4", "V5", "V6"):
        assert mean[lead][225:].max() > 0.08, f"the T wave in {lead} is not upright"
        assert mean[lead][125:175].max() > 0.3
    assert mean["aVR"][225:].min() < -0.1
    assert mean["aVR"][125:175].min() < -0.3
    p_wave = mean["II"][50:120]
    assert 0.05 < p_wave.max() < 0.25, "no upright P wave before the QRS in II"
    assert 0.4 < mean["II"][125:175].max() < 2.0
    assert 0.7 < r[4] < 2.5


def test_rhythms_differ_in_regularity_and_p_waves() -> None:
    def irregularity(report: str) -> float:
        spreads = []
        for seed in range(10):
            intervals = np.diff(simulate_ecg(report, seed=seed, age=70).beats_s)
            spreads.append(intervals.std() / intervals.mean())
        return float(np.median(spreads))

    assert irregularity("Atrial fibrillation") > 3 * irregularity("Sinus rhythm")
    assert irregularity("Sinus arrhythmia") > 3 * irregularity("Sinus rhythm")
    assert irregularity("Ventricular-paced rhythm") < 0.01
    p = [
        mean_beat(simulate_ecg("Atrial fibrillation", seed=s), "II")[60:115].max()
        for s in range(20)
    ]
    sinus = [mean_beat(simulate_ecg(seed=s), "II")[60:115].max() for s in range(20)]
    assert np.mean(p) < 0.6 * np.mean(sinus)


def test_premature_beat_is_early_with_a_pause_and_paced_beats_have_a_wide_qrs() -> None:
    for seed in range(5):
        intervals = np.diff(simulate_ecg("Sinus rhythm with PVC(s)", seed=seed).beats_s)
        usual = np.median(intervals)
        early = int(np.argmin(intervals))
        assert intervals[early] < 0.8 * usual
        assert intervals[early + 1] > 1.2 * usual
    assert simulate_ecg("Ventricular-paced rhythm").qrs_ms > 140


def test_potassium_changes_t_wave_and_qrs_duration() -> None:
    for seed in range(10):
        t = {k: t_wave_height(simulate_ecg(potassium=k, seed=seed), "V4") for k in (2.5, 4.2, 7.0)}
        assert t[2.5] < 0.75 * t[4.2] < 0.75 * t[7.0]
        severe = simulate_ecg(potassium=8.0, seed=seed)
        assert severe.qrs_ms > 1.15 * simulate_ecg(seed=seed).qrs_ms


def test_age_and_sex_change_the_mean_but_the_ranges_overlap() -> None:
    def measure(**patient: float) -> tuple[np.ndarray, np.ndarray]:
        ecgs = [simulate_ecg(seed=seed, **patient) for seed in range(40)]
        return np.array([t_wave_height(e, "V3") for e in ecgs]), np.array(
            [e.qrs_axis for e in ecgs]
        )

    t_men, _ = measure(male=True)
    t_women, _ = measure(male=False)
    assert t_men.mean() > 1.3 * t_women.mean()
    assert t_men.min() < t_women.max(), "a threshold separates men and women"
    _, axis_young = measure(age=25)
    _, axis_old = measure(age=85)
    assert np.median(axis_young) - np.median(axis_old) > 20
    assert axis_young.min() < axis_old.max()


def test_sinus_rhythm_is_the_most_common_of_more_than_15_rhythms() -> None:
    assert len(RHYTHM_BY_REPORT) == len(RHYTHMS) > 15
    weights = [rhythm.weight for rhythm in RHYTHMS]
    assert max(weights) == RHYTHM_BY_REPORT["Sinus rhythm"].weight > 2 * sorted(weights)[-2]


def test_files_and_tables_match_mimic_iv_ecg(synthetic_dir: Path, mimic_demo: Path) -> None:
    real = mimic_demo / "ecg"
    records = pd.read_csv(synthetic_dir / "record_list.csv")
    assert list(records) == list(pd.read_csv(real / "record_list.csv"))
    first = records.iloc[0]
    subject, study = first["subject_id"], first["study_id"]
    assert first["path"] == f"files/p{subject // 10_000}/p{subject}/s{study}/{study}"

    def common_fields(path: Path) -> list[list[str]]:
        """Return the fields of a header that do not depend on the record or its samples."""
        lines = [line.split() for line in path.read_text().splitlines()]
        return [lines[0][1:4], *([*w[1:5], w[7], w[8]] for w in lines[1:13]), lines[13][:2]]

    header = synthetic_dir / f"{first['path']}.hea"
    assert common_fields(header) == common_fields(real / "40689238.hea")
    time = pd.Timestamp(first["ecg_time"])
    assert header.read_text().splitlines()[0].split()[4:] == [
        time.strftime("%H:%M:%S"),
        time.strftime("%d/%m/%Y"),
    ]
    measured = pd.read_csv(synthetic_dir / "machine_measurements.csv")
    assert list(measured) == list(pd.read_csv(real / "machine_measurements_1row.csv"))
    patients = pd.read_csv(synthetic_dir / "hosp/patients.csv")
    assert list(patients) == list(pd.read_csv(mimic_demo / "hosp/patients.csv"))


def test_every_defect_occurs_and_is_listed_in_the_marker(synthetic_dir: Path) -> None:
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


def test_equal_seeds_write_equal_bytes(tmp_path: Path) -> None:
    first, second, other = tmp_path / "first", tmp_path / "second", tmp_path / "other"
    for directory, seed in ((first, 7), (second, 7), (other, 8)):
        synthesize(directory, patients=3, seed=seed, spoiled_fraction=0)
    files = sorted(p.relative_to(first) for p in first.rglob("*") if p.is_file())
    assert filecmp.cmpfiles(first, second, map(str, files), shallow=False)[1:] == ([], [])
    assert (first / "record_list.csv").read_text() != (other / "record_list.csv").read_text()


def test_complete_data_set_is_not_written_again(tmp_path: Path) -> None:
    first = synthesize(tmp_path / "d", patients=2, seed=1)
    before = {p: p.stat().st_mtime_ns for p in first.directory.rglob("*")}
    again = synthesize(tmp_path / "d", patients=2, seed=1)
    assert (first.already_existed, again.already_existed) == (False, True)
    assert dataclasses.replace(again, already_existed=False) == first
    assert {p: p.stat().st_mtime_ns for p in first.directory.rglob("*")} == before


def test_interrupted_data_set_is_written_again(tmp_path: Path) -> None:
    complete, interrupted = tmp_path / "complete", tmp_path / "interrupted"
    synthesize(complete, patients=3, seed=1)

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthesize(interrupted, patients=3, seed=1, progress=stop)
    assert (interrupted / UNFINISHED_MARKER).exists()
    assert not (interrupted / MARKER).exists()
    assert not synthesize(interrupted, patients=3, seed=1).already_existed
    names = sorted(str(p.relative_to(complete)) for p in complete.rglob("*") if p.is_file())
    assert names == sorted(
        str(p.relative_to(interrupted)) for p in interrupted.rglob("*") if p.is_file()
    )
    assert filecmp.cmpfiles(complete, interrupted, names, shallow=False)[1:] == ([], [])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *((MARKER, content) for content in (b"", b'{"parameters": {', b"\xff", b"[]", b"{}")),
        *((UNFINISHED_MARKER, content) for content in (b"", b"null")),
    ],
)
def test_damaged_marker_is_a_user_error(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"{name} is damaged; [^\n]+\.$"):
        synthesize(tmp_path, patients=2, seed=0)
    assert (tmp_path / name).read_bytes() == content


def test_directory_with_other_content_is_rejected(tmp_path: Path) -> None:
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "chapter.tex").write_text("years of work")
    with pytest.raises(UserError, match="not empty"):
        synthesize(other, patients=2, seed=0)
    assert [p.name for p in other.iterdir()] == ["chapter.tex"]
    synthesize(tmp_path / "d", patients=2, seed=0)
    with pytest.raises(UserError, match="other parameters"):
        synthesize(tmp_path / "d", patients=2, seed=1)


@pytest.mark.parametrize("wrong", [{"patients": 0}, {"seed": -1}, {"spoiled_fraction": 1.5}])
def test_parameters_out_of_range_are_user_errors(tmp_path: Path, wrong) -> None:
    with pytest.raises(UserError, match=r"^[^\n]+\.$"):
        synthesize(tmp_path / "d", **{"patients": 2, **wrong})
    assert not (tmp_path / "d").exists()


def test_progress_is_called_once_per_record(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    data_set = synthesize(tmp_path / "d", patients=2, progress=lambda *call: calls.append(call))
    assert calls == [(n, data_set.records) for n in range(1, data_set.records + 1)]


def test_different_parameters_have_different_namespaces(tmp_path: Path) -> None:
    namespaces = [
        synthesize(tmp_path / str(n), **{"patients": 2, "seed": 0, **other}).namespace
        for n, other in enumerate([{}, {"seed": 1}, {"patients": 3}, {"spoiled_fraction": 0.5}])
    ]
    assert len(set(namespaces)) == 4
    assert all(name.startswith("synthetic/") for name in namespaces)
