"""Predictions from waveforms and from stored embeddings: equality, errors, coverage, warnings."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import wfdb
from quick_runs import TrainedRun
from scipy.signal import resample_poly

from enecg.ecg_format import LEADS
from enecg.errors import UserError
from pipeline.datasets.mimic_iv_ecg import MimicIvEcg
from pipeline.datasets.wfdb_directory import WfdbDirectory
from pipeline.predict import predict
from pipeline.prediction.combine import combine
from pipeline.prediction.live_run import LiveRun, load_run
from pipeline.prediction.notes import describe_gaps
from pipeline.prediction.predicted import EcgPrediction, RefusedEcg
from pipeline.runs.predictor import read_run_features
from pipeline.waveforms.errors import UnreadableRecord

TASKS = ("rr_interval", "age", "sex", "arrhythmia")


@pytest.fixture(scope="module")
def run(trained_run: TrainedRun) -> Path:
    return trained_run.folder


@pytest.fixture(scope="module")
def store(trained_run: TrainedRun) -> Path:
    return trained_run.store


@pytest.fixture(scope="module")
def live(run: Path) -> LiveRun:
    return load_run(run)


@pytest.fixture(scope="module")
def dataset(trained_run: TrainedRun) -> MimicIvEcg:
    return MimicIvEcg(trained_run.data)


def predicted(result: EcgPrediction | RefusedEcg) -> EcgPrediction:
    assert isinstance(result, EcgPrediction), result
    return result


def test_predictions_equal_those_of_stored_embeddings(
    live: LiveRun, run: Path, store: Path, dataset: MimicIvEcg
):
    results = list(predict(live, dataset=dataset, limit=40))
    done = [result for result in results if isinstance(result, EcgPrediction)]
    assert len(results) == 40
    assert len(done) > 30
    stored = read_run_features(run, store, np.array([result.record for result in done]))
    batch = combine(live.calibrated, stored, live.tasks, 0.9)
    for result, expected in zip(done, batch, strict=True):
        for task in TASKS:
            one, other = result.tasks[task], expected[task]
            assert one.weights == pytest.approx(other.weights, abs=1e-3)
            if one.value is not None and other.value is not None:
                scale = live.repeats[0].targets[task].scale
                assert one.value == pytest.approx(other.value, abs=0.01 * scale)
            assert one.probabilities == pytest.approx(other.probabilities, abs=0.01)


def test_prediction_does_not_depend_on_the_sampling_rate_and_the_order_and_case_of_leads(
    live: LiveRun, dataset: MimicIvEcg
):
    ecg = dataset.read(3)
    expected = live.predict(ecg, 500)
    order = np.random.default_rng(0).permutation(12)
    shuffled = live.predict(ecg[order], 500, [LEADS[row].upper() for row in order])
    assert shuffled.tasks == expected.tasks
    slow = live.predict(resample_poly(ecg, 1, 2, axis=1), 250)
    for task in ("rr_interval", "age"):
        value, other = expected.tasks[task].value, slow.tasks[task].value
        assert value is not None
        assert other == pytest.approx(value, abs=0.1 * live.repeats[0].targets[task].scale)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda ecg: (ecg[:, :2000], 500, LEADS), "too_short"),
        (lambda ecg: (ecg * 0, 500, LEADS), "flat_lead"),
        (lambda ecg: (ecg[:11], 500, LEADS[:11]), "missing_lead"),
        (lambda ecg: (ecg.T, 500, LEADS), "unreadable"),
        (lambda ecg: (ecg, 50, LEADS), "unreadable"),
        (lambda ecg: (np.where(np.arange(5000) == 7, np.nan, ecg), 500, LEADS), "nan_samples"),
        (lambda ecg: (ecg, 500, ("I", *LEADS[:11])), "missing_lead"),
    ],
)
def test_unusable_array_is_refused(live: LiveRun, dataset: MimicIvEcg, change, reason: str):
    with pytest.raises(UnreadableRecord, match=r"^signal: ") as raised:
        live.predict(*change(dataset.read(3)))
    assert raised.value.reason == reason


def write_record(folder: Path, name: str, samples: np.ndarray) -> None:
    wfdb.wrsamp(
        name,
        fs=500,
        units=["mV"] * 12,
        sig_name=list(LEADS),
        p_signal=np.asarray(samples, np.float64)[:12].T,
        fmt=["16"] * 12,
        write_dir=str(folder),
    )


def test_wfdb_paths_and_directories_are_read_and_unusable_records_are_refused(
    live: LiveRun, dataset: MimicIvEcg, tmp_path: Path
):
    ecg = dataset.read(3)
    for name, samples in (("good", ecg), ("short", ecg[:, :1000]), ("flat", ecg * [[0]] * 12)):
        write_record(tmp_path, name, samples)
    results = list(predict(live, [tmp_path, tmp_path / "good.hea", tmp_path / "missing"]))
    records = [Path(str(result.record)).name for result in results]
    assert records == ["flat", "good", "short", "missing"]
    reasons = [result.reason for result in results if isinstance(result, RefusedEcg)]
    assert reasons == ["flat_lead", "too_short", "missing_file"]
    same = WfdbDirectory("some", tmp_path)
    (again,) = predict(live, ["good"], dataset=same)
    assert predicted(again).tasks == predicted(results[1]).tasks


def test_records_whose_headers_have_a_suffix_in_capitals_are_predicted(
    live: LiveRun, dataset: MimicIvEcg, tmp_path: Path
):
    write_record(tmp_path, "good", dataset.read(3))
    (tmp_path / "good.hea").rename(tmp_path / "good.HEA")
    (result,) = predict(live, [tmp_path])
    assert predicted(result).record == str(tmp_path / "good")


def test_path_that_is_not_a_record_is_refused_with_the_reason(live: LiveRun, tmp_path: Path):
    (tmp_path / "notes.txt").write_text("Hello.")
    (tmp_path / "damaged.hea").write_text("Hello.")
    names = ("notes.txt", "damaged.hea", "missing")
    details = [
        result.detail
        for result in predict(live, [tmp_path / name for name in names])
        if isinstance(result, RefusedEcg)
    ]
    assert details == [
        f"{tmp_path / 'notes.txt'} is not a WFDB record; pass a .hea file.",
        f"{tmp_path / 'damaged.hea'}: first line has no number of signals; copy it again, or "
        "exclude the record.",
        f"{tmp_path / 'missing.hea'} does not exist, and {tmp_path / 'missing'} is not a folder; "
        "correct the path, or copy the header to this path.",
    ]


def test_intervals_and_sets_cover_held_out_patients(run: Path, store: Path, dataset: MimicIvEcg):
    """Test records of each repeat are predicted by the models of the same repeat."""
    labels = dataset.labels()
    covered: list[bool] = []
    for repeat in (0, 1):
        live = load_run(run, repeat)
        ids = np.array(live.saved.cohorts[repeat]["test"])
        stored = read_run_features(run, store, ids)
        for record, by_task in zip(ids, combine(live.calibrated, stored, TASKS, 0.8), strict=True):
            for task in ("rr_interval", "age"):
                truth, interval = labels.loc[record, task], by_task[task].interval
                assert interval is not None
                if not np.isnan(truth):
                    covered.append(interval[0] <= truth <= interval[1])
            found = by_task["sex"].prediction_set
            assert found is not None
            covered.append(("female", "male")[int(labels.loc[record, "sex"])] in found)
    assert len(covered) > 40
    assert 0.65 < np.mean(covered) < 0.97


def test_higher_coverage_never_narrows_intervals_or_sets(live: LiveRun, dataset: MimicIvEcg):
    ecg = dataset.read(3)
    low, high = (live.predict(ecg, 500, coverage=coverage).tasks for coverage in (0.5, 0.8))
    for task in ("rr_interval", "age"):
        assert low[task].interval is not None
        assert high[task].interval is not None
        assert high[task].interval[0] <= low[task].interval[0]
        assert high[task].interval[1] >= low[task].interval[1]
    for task in ("sex", "arrhythmia"):
        assert set(low[task].labels) <= set(low[task].prediction_set or ())
        assert set(low[task].prediction_set or ()) <= set(high[task].prediction_set or ())


def test_too_few_patients_for_a_coverage_are_noted(live: LiveRun, dataset: MimicIvEcg):
    assert live.predict(dataset.read(3), 500, coverage=0.99).tasks["age"].interval is None
    note = describe_gaps(live, 0.99, ("age",))[0]
    assert re.search(r"at least 99 validation patients, but the smallest number is (9|10);", note)
    assert describe_gaps(live, 0.8, ("age",)) == ()


def test_ecg_that_differs_from_the_training_data_causes_a_warning(
    live: LiveRun, dataset: MimicIvEcg
):
    ecg = dataset.read(3)
    assert live.predict(ecg, 500).warnings == ()
    noise = np.random.default_rng(0).normal(size=(12, 5000))
    warnings = live.predict(noise, 500).warnings
    assert any("far outside the training ECGs" in warning for warning in warnings)
    assert any("limb leads" in warning for warning in warnings)
    scaled = live.predict(1000 * ecg, 500).warnings
    assert any("gain or unit is probably wrong" in warning for warning in scaled)
    assert any("far outside" in warning for warning in scaled)


def test_run_without_calibration_predicts_without_intervals(
    live: LiveRun, run: Path, dataset: MimicIvEcg, tmp_path: Path
):
    older = Path(shutil.copytree(run, tmp_path / "run"))
    (older / "validation.parquet").unlink()
    for file in older.glob("repeat-*/domain.safetensors"):
        file.unlink()
    reduced = load_run(older)
    prediction = reduced.predict(dataset.read(3), 500)
    expected = live.predict(dataset.read(3), 500)
    assert prediction.tasks["age"].value == expected.tasks["age"].value
    assert prediction.tasks["age"].interval is None
    assert prediction.tasks["sex"].prediction_set is None
    assert prediction.distances == {}
    assert "Train again to add them." in describe_gaps(reduced, 0.9, TASKS)[0]


@pytest.mark.parametrize("name", ["validation.parquet", "repeat-0/domain.safetensors"])
def test_damaged_calibration_is_a_user_error(name: str, run: Path, tmp_path: Path):
    damaged = Path(shutil.copytree(run, tmp_path / "run"))
    (damaged / name).write_bytes(b"damaged")
    with pytest.raises(UserError, match="damaged"):
        load_run(damaged).calibrated  # noqa: B018


def test_every_prediction_states_the_intended_use_and_untrained_experts(
    live: LiveRun, dataset: MimicIvEcg
):
    for result in predict(live, dataset=dataset, limit=12):
        assert "not a medical device" in result.notice
        assert "dlinear (random:0)" in result.notice


def test_invalid_requests_are_user_errors(live: LiveRun, dataset: MimicIvEcg, tmp_path: Path):
    with pytest.raises(UserError, match="must be above 0 and below 1"):
        predict(live, dataset=dataset, coverage=90)
    with pytest.raises(UserError, match="has no task 'height'; available: rr_interval"):
        predict(live, dataset=dataset, tasks=["height"])
    with pytest.raises(UserError, match="No record is given"):
        predict(live)
    with pytest.raises(UserError, match="contains no WFDB record"):
        predict(live, [tmp_path])
    with pytest.raises(UserError, match="has no record 7;"):
        predict(live, [7], dataset=dataset)
    with pytest.raises(UserError, match="add --dataset"):
        predict(live, [tmp_path], limit=1)


def test_validation_patients_of_the_calibration_are_in_the_cohort(run: Path):
    cohorts = json.loads((run / "cohorts.json").read_text())
    validation = load_run(run).saved.validation
    for repeat, cohort in enumerate(cohorts):
        patients = set(validation.loc[validation["repeat"] == repeat, "patient_id"])
        assert patients <= set(cohort["patients_seen"])
