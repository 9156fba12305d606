"""Writes synthetic patients as a data set in MIMIC-IV-ECG's own layout, mistakes included."""

import csv
import datetime as dt
import json
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import wfdb
from jaxtyping import Int16
from numpy.random import Generator

from enecg.errors import UserError
from enecg.signal import LEADS, SAMPLE_RATE_HZ
from pipeline.mimic_codes import REPORT_LINES, UNMEASURED
from pipeline.synthetic.heart import (
    UNITS_PER_MV,
    Recording,
    quantise,
    simulate,
)
from pipeline.synthetic.laboratory import LAB_COLUMNS, draw_potassium, lab_events
from pipeline.synthetic.patient import Patient, draw_patient
from pipeline.synthetic.rhythms import Rhythm, draw_rhythm

GENERATOR_VERSION = 1
"""Goes up with any change that changes a signal or a label: it is in the namespace."""

MARKER = "synthetic.json"
"""Lies at the root of a synthetic data set, written last: its parameters, namespace and spoils."""

UNFINISHED_MARKER = "synthetic.unfinished.json"
"""Lies there while the data set is being written."""

SPOILS = ("nan_samples", "flat_lead", "cut_file", "missing_file", "unknown_rr")
"""What is done to spoiled records; the first four as in `waveforms.decode.REASONS`. The last one's
signal is good."""

FILE_LEADS = ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6")
"""The order of leads in MIMIC-IV-ECG's files: aVF before aVL."""

_MISSING_SAMPLE = -32768

_RECORD_COLUMNS = ("subject_id", "study_id", "file_name", "ecg_time", "path")
_MEASURED_COLUMNS = (
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


@dataclass(frozen=True)
class Synthesis:
    """What `synthesize` left in a directory; `already_there` says that it had nothing to do."""

    directory: Path
    namespace: str
    patients: int
    records: int
    spoiled: dict[str, list[int]]
    already_there: bool


@dataclass(frozen=True)
class _Ecg:
    """One ECG still to be simulated: where it belongs, when it was taken, from what state."""

    subject_id: int
    study_id: int
    time: dt.datetime
    rhythm: Rhythm
    potassium: float
    stream: int

    @property
    def path(self) -> str:
        subject, study = f"p{self.subject_id}", f"s{self.study_id}"
        return f"files/{subject[:5]}/{subject}/{study}/{self.study_id}"


def synthesize(
    directory: str | Path,
    *,
    patients: int = 200,
    seed: int = 0,
    spoiled_fraction: float = 0.03,
    progress: Callable[[int, int], None] | None = None,
) -> Synthesis:
    """Write `patients` synthetic patients with some two ECGs each, the same ones for the same seed.

    `files/p1000/p10000032/s40689238/40689238.{hea,dat}` (format 16, 200 adu/mV), `record_list.csv`,
    `machine_measurements.csv`, `hosp/patients.csv` and `hosp/labevents.csv` have MIMIC's columns.
    `spoiled_fraction` of the records are spoiled in one of the ways of `SPOILS`; from 40 records
    on every way is there at least once, unless the fraction is 0.

    Where the same data set already lies there, whole, nothing is done; what an interrupted run
    left is written again. `progress(done, total)` counts records. Raises UserError for parameters
    out of range and for a directory that holds anything else.
    """
    root = Path(directory)
    if patients < 1:
        raise UserError(f"{patients} patients cannot be made; ask for at least 1.")
    if not 0 <= spoiled_fraction <= 1:
        raise UserError(f"spoiled_fraction is {spoiled_fraction}; give a part between 0 and 1.")
    if seed < 0:
        raise UserError(f"The seed is {seed}; give a whole number from 0 up.")
    parameters = {
        "generator_version": GENERATOR_VERSION,
        "patients": patients,
        "seed": seed,
        "spoiled_fraction": spoiled_fraction,
    }
    there = _whole(root, parameters)
    if there is not None:
        return there
    root.mkdir(parents=True, exist_ok=True)
    _write_json(root / UNFINISHED_MARKER, parameters)

    people, ecgs = _cast(patients, seed)
    spoiled = _choose_spoiled([e.study_id for e in ecgs], spoiled_fraction, seed)
    how = {record: kind for kind, records in spoiled.items() for record in records}
    measured: list[Row] = []
    for done, ecg in enumerate(ecgs, start=1):
        rng = np.random.default_rng([seed, 1, ecg.stream])
        recording = simulate(people[ecg.subject_id][0], ecg.rhythm, ecg.potassium, rng)
        units = quantise(recording.ecg_mv)[[LEADS.index(lead) for lead in FILE_LEADS]]
        _write_record(root, ecg, units, how.get(ecg.study_id), rng)
        row = _measure(ecg, people[ecg.subject_id][0], recording, rng)
        if how.get(ecg.study_id) == "unknown_rr":
            row["rr_interval"] = UNMEASURED
        measured.append(row)
        if progress is not None:
            progress(done, len(ecgs))

    (root / "hosp").mkdir(exist_ok=True)
    listed = (
        {
            "subject_id": e.subject_id,
            "study_id": e.study_id,
            "file_name": e.study_id,
            "ecg_time": e.time,
            "path": e.path,
        }
        for e in ecgs
    )
    _write_csv(root / "hosp/patients.csv", _PATIENT_COLUMNS, (row for _, row in people.values()))
    _write_csv(root / "hosp/labevents.csv", LAB_COLUMNS, lab_events(ecgs, seed))
    _write_csv(root / "machine_measurements.csv", _MEASURED_COLUMNS, measured)
    _write_csv(root / "record_list.csv", _RECORD_COLUMNS, listed)
    namespace = _namespace(patients, seed, spoiled_fraction)
    marker = {"parameters": parameters, "namespace": namespace, "records": len(ecgs)}
    _write_json(root / MARKER, {**marker, "spoiled": spoiled})
    (root / UNFINISHED_MARKER).unlink()
    return Synthesis(root, namespace, patients, len(ecgs), spoiled, already_there=False)


def _namespace(patients: int, seed: int, spoiled_fraction: float) -> str:
    """No two data sets with different signals share it, and no real one has it."""
    name = f"synthetic/v{GENERATOR_VERSION}-seed{seed}-patients{patients}"
    return name if spoiled_fraction == 0.03 else f"{name}-spoiled{spoiled_fraction:g}"


def _whole(root: Path, parameters: Row) -> Synthesis | None:
    """The data set that already lies there whole, None where there is none yet.

    Raises UserError where the directory holds anything but this data set or a part of it.
    """
    if root.exists() and not root.is_dir():
        raise UserError(f"{root} is a file; name a directory for the synthetic data set.")
    if not root.exists() or not any(root.iterdir()):
        return None
    remedy = "name an empty directory, or delete this one first"
    unfinished = root / UNFINISHED_MARKER
    marker = root / MARKER
    if not unfinished.exists() and not marker.exists():
        raise UserError(f"{root} is not empty and holds no synthetic data set; {remedy}.")
    found = json.loads((marker if marker.exists() else unfinished).read_text())
    if found.get("parameters", found) != parameters:
        raise UserError(f"{root} holds a synthetic data set of other parameters; {remedy}.")
    if not marker.exists():
        return None
    unfinished.unlink(missing_ok=True)
    return Synthesis(
        root,
        found["namespace"],
        parameters["patients"],
        found["records"],
        found["spoiled"],
        already_there=True,
    )


def _cast(patients: int, seed: int) -> tuple[dict[int, tuple[Patient, Row]], list[_Ecg]]:
    """The patients, each with their row of `patients.csv`, and their ECGs, in order of time.

    Each patient is drawn from a stream of random numbers of their own.
    """
    ids = np.random.default_rng([seed, 0])
    subjects = 10_000_000 + np.sort(ids.choice(10_000_000, patients, replace=False))
    people: dict[int, tuple[Patient, Row]] = {}
    ecgs: list[_Ecg] = []
    for number, subject in enumerate(subjects.tolist()):
        rng = np.random.default_rng([seed, 2, number])
        male = bool(rng.random() < 0.52)
        age = float(np.clip(rng.normal(61, 18), 18, 91))
        anchor_age = 91 if age > 89 else int(age)  # MIMIC-IV writes 91 for everyone over 89
        anchor_year = int(rng.integers(2110, 2201))
        patient = draw_patient(rng, age=age, male=male)
        group = int(rng.choice([2008, 2011, 2014, 2017]))
        people[subject] = (
            patient,
            {
                "subject_id": subject,
                "gender": "M" if male else "F",
                "anchor_age": anchor_age,
                "anchor_year": anchor_year,
                "anchor_year_group": f"{group} - {group + 2}",
            },
        )
        count = min(int(rng.geometric(0.5)), 8)
        start = dt.datetime(anchor_year, 1, 1) + dt.timedelta(
            minutes=int(rng.integers(0, 300 * 24 * 60))
        )
        ecgs += _visits(rng, subject, age, start, count, len(ecgs))
    studies = 40_000_000 + ids.choice(10_000_000, len(ecgs), replace=False)
    numbered = zip(ecgs, studies.tolist(), strict=True)
    return people, [_Ecg(**{**vars(e), "study_id": s}) for e, s in numbered]


def _visits(
    rng: Generator, subject: int, age: float, start: dt.datetime, count: int, stream: int
) -> list[_Ecg]:
    """A patient's ECGs, weeks apart or a day; half of them in the rhythm of the one before."""
    ecgs: list[_Ecg] = []
    time, rhythm = start, draw_rhythm(rng, age)
    for number in range(count):
        if number:
            hours = rng.exponential(30) + 3 if rng.random() < 0.6 else rng.exponential(2000) + 24
            time += dt.timedelta(minutes=int(hours * 60))
            if rng.random() < 0.5:
                rhythm = draw_rhythm(rng, age)
        potassium = draw_potassium(rng)
        ecgs.append(_Ecg(subject, 0, time, rhythm, potassium, stream + number))
    return ecgs


def _choose_spoiled(records: Sequence[int], fraction: float, seed: int) -> dict[str, list[int]]:
    """Which records are spoiled, by kind, in turn."""
    wanted = round(fraction * len(records))
    if fraction and len(records) >= 40:
        wanted = max(wanted, len(SPOILS))
    chosen = np.random.default_rng([seed, 3]).permutation(records)[:wanted].tolist()
    return {kind: sorted(chosen[n :: len(SPOILS)]) for n, kind in enumerate(SPOILS)}


def _write_record(
    root: Path, ecg: _Ecg, units: Int16[np.ndarray, "12 time"], spoil: str | None, rng: Generator
) -> None:
    """Header and samples of one ECG, the samples spoiled where asked."""
    if spoil == "nan_samples":
        lead, start = int(rng.integers(12)), int(rng.integers(units.shape[1] - 600))
        units[lead, start : start + int(rng.integers(1, 600))] = _MISSING_SAMPLE
    elif spoil == "flat_lead":
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
    if spoil == "cut_file":
        os.truncate(samples, int(samples.stat().st_size * rng.uniform(0.2, 0.8)))
    elif spoil == "missing_file":
        samples.unlink()


def _measure(ecg: _Ecg, patient: Patient, recording: Recording, rng: Generator) -> Row:
    """The row of `machine_measurements.csv`: the words, and where the median beat's waves lie."""
    reports = [ecg.rhythm.words]
    if patient.block and not ecg.rhythm.paced_ventricles:
        reports.append(f"{patient.block.capitalize()} bundle branch block")
    if -180 < recording.qrs_axis < -30 and not ecg.rhythm.paced_ventricles:
        reports.append("Left axis deviation")
    normal = ecg.rhythm.words == "Sinus rhythm" and len(reports) == 1
    reports += ["", "Normal ECG" if normal else "Abnormal ECG"]
    if rng.random() < 0.1:  # some carts end every line with a full stop
        reports = [f"{line}." if line else line for line in reports]
    has_p = np.isfinite(recording.p_ms)
    p_onset = 40
    qrs_onset = p_onset + recording.pr_ms if has_p else 200
    measured = {
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
        **{name: round(value) for name, value in measured.items()},
    }


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Row]) -> None:
    """A table with empty cells where a row has nothing."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _write_json(path: Path, content: Row) -> None:
    """Put a marker in place at once or not at all, on the disk before the name is there."""
    part = path.with_name(path.name + ".part")
    with part.open("w") as file:
        json.dump(content, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
