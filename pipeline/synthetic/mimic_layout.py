"""Write synthetic ECGs in the file layout and table format of MIMIC-IV-ECG."""

import csv
import os
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import wfdb
from jaxtyping import Int16
from numpy.random import Generator

from enecg.ecg_format import SAMPLE_RATE_HZ
from pipeline.mimic_codes import REPORT_LINES, UNMEASURED
from pipeline.synthetic.laboratory import LAB_COLUMNS, lab_events
from pipeline.synthetic.patient import Patient
from pipeline.synthetic.population import PlannedEcg, Population
from pipeline.synthetic.simulation import UNITS_PER_MV, Recording

FILE_LEADS = ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6")
"""Order of the leads in the files of MIMIC-IV-ECG, where aVF precedes aVL."""

_MISSING_SAMPLE = -32768

_RECORD_COLUMNS = ("subject_id", "study_id", "file_name", "ecg_time", "path")
_MEASUREMENT_COLUMNS = (
    *("subject_id", "study_id", "cart_id", "ecg_time"),
    *(f"report_{n}" for n in range(REPORT_LINES)),
    *("bandwidth", "filtering", "rr_interval", "p_onset", "p_end"),
    *("qrs_onset", "qrs_end", "t_end", "p_axis", "qrs_axis", "t_axis"),
)
_PATIENT_COLUMNS = (
    *("subject_id", "gender", "anchor_age", "anchor_year"),
    *("anchor_year_group", "dod"),
)

Row = dict[str, Any]


def write_record(
    root: Path,
    ecg: PlannedEcg,
    units: Int16[np.ndarray, "12 time"],
    defect: str | None,
    rng: Generator,
) -> None:
    """Write the header and samples of an ECG.

    Args:
        root: Root of the data set.
        ecg: The ECG.
        units: Samples in units of 5 uV, with leads in the order of `FILE_LEADS`. Modified in place
            by some defects.
        defect: One of `pipeline.synthetic.synthesize.DEFECTS`, or None.
        rng: Random generator of the ECG, which determines position and extent of the defect.
    """
    if defect == "nan_samples":
        lead, start = int(rng.integers(12)), int(rng.integers(units.shape[1] - 600))
        units[lead, start : start + int(rng.integers(1, 600))] = _MISSING_SAMPLE
    elif defect == "flat_lead":
        units[int(rng.integers(6, 12))] = 0
    folder = root / ecg.path.rpartition("/")[0]
    folder.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings(category=RuntimeWarning, action="ignore"):
        wfdb.wrsamp(
            str(ecg.study_id),
            fs=SAMPLE_RATE_HZ,
            units=["mV"] * 12,
            sig_name=list(FILE_LEADS),
            d_signal=units.T,
            fmt=["16"] * 12,
            adc_gain=[float(UNITS_PER_MV)] * 12,
            baseline=[0] * 12,
            comments=[f"<subject_id>: {ecg.subject_id}"],
            base_time=ecg.time.time(),
            base_date=ecg.time.date(),
            write_dir=str(folder),
        )
    samples = folder / f"{ecg.study_id}.dat"
    if defect == "cut_file":
        os.truncate(samples, int(samples.stat().st_size * rng.uniform(0.2, 0.8)))
    elif defect == "missing_file":
        samples.unlink()


def measurement_row(ecg: PlannedEcg, patient: Patient, recording: Recording, rng: Generator) -> Row:
    """Return an ECG's row of `machine_measurements.csv`.

    Args:
        ecg: The ECG.
        patient: The patient.
        recording: The simulated signal and its true measurements.
        rng: Random generator of the ECG.

    Returns:
        Values by column name; columns without a key are empty.
    """
    reports = [ecg.rhythm.report]
    if patient.block and not ecg.rhythm.paced_ventricles:
        reports.append(f"{patient.block.capitalize()} bundle branch block")
    if -180 < recording.qrs_axis < -30 and not ecg.rhythm.paced_ventricles:
        reports.append("Left axis deviation")
    normal = ecg.rhythm.report == "Sinus rhythm" and len(reports) == 1
    reports += ["", "Normal ECG" if normal else "Abnormal ECG"]
    # Some ECG carts end each line with a period.
    if rng.random() < 0.1:
        reports = [f"{line}." if line else line for line in reports]
    has_p = np.isfinite(recording.p_ms)
    p_onset = 40
    qrs_onset = p_onset + recording.pr_ms if has_p else 200
    measurements = {
        "rr_interval": recording.rr_ms,
        "p_onset": p_onset if has_p else UNMEASURED,
        "p_end": p_onset + recording.p_ms if has_p else UNMEASURED,
        "qrs_onset": qrs_onset,
        "qrs_end": qrs_onset + recording.qrs_ms,
        "t_end": qrs_onset + recording.qt_ms,
        "p_axis": recording.p_axis if has_p else UNMEASURED,
        "qrs_axis": recording.qrs_axis,
        "t_axis": recording.t_axis,
    }
    return {
        "subject_id": ecg.subject_id,
        "study_id": ecg.study_id,
        "cart_id": 6_800_000 + int(rng.integers(100_000)),
        "ecg_time": ecg.time,
        **{f"report_{n}": line for n, line in enumerate(reports)},
        "bandwidth": "0.005-150 Hz",
        "filtering": "60 Hz notch Baseline filter",
        **{name: round(value) for name, value in measurements.items()},
    }


def write_tables(
    root: Path, population: Population, measurements: Iterable[Row], seed: int
) -> None:
    """Write the tables of a data set.

    Args:
        root: Root of the data set.
        population: All patients and ECGs.
        measurements: Results of `measurement_row` for all ECGs.
        seed: Seed of the data set.
    """
    (root / "hosp").mkdir(exist_ok=True)
    patients = (
        {
            "subject_id": person.subject_id,
            "gender": "M" if person.patient.male else "F",
            "anchor_age": person.anchor_age,
            "anchor_year": person.anchor_year,
            "anchor_year_group": person.anchor_year_group,
        }
        for person in population.people.values()
    )
    records = (
        {
            "subject_id": ecg.subject_id,
            "study_id": ecg.study_id,
            "file_name": ecg.study_id,
            "ecg_time": ecg.time,
            "path": ecg.path,
        }
        for ecg in population.ecgs
    )
    _write_csv(root / "hosp/patients.csv", _PATIENT_COLUMNS, patients)
    _write_csv(root / "hosp/labevents.csv", LAB_COLUMNS, lab_events(population.ecgs, seed))
    _write_csv(root / "machine_measurements.csv", _MEASUREMENT_COLUMNS, measurements)
    _write_csv(root / "record_list.csv", _RECORD_COLUMNS, records)


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
