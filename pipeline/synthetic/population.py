"""Random generation of synthetic patients, and of the time and rhythm of their ECGs."""

import datetime as dt
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from pipeline.synthetic.patient import Patient, draw_patient
from pipeline.synthetic.rhythms import Rhythm, draw_rhythm

ABNORMAL_POTASSIUM = 0.15
"""Fraction of abnormal potassium results. With MIMIC-IV's fraction of about 3 %, a demo with a few
hundred ECGs would have too few positive labels."""


@dataclass(frozen=True)
class Person:
    """A patient with the columns of the hospital's tables.

    Attributes:
        subject_id: MIMIC-IV subject id.
        patient: Properties of the heart and torso.
        anchor_age: Age in years in `anchor_year`; 91 for all patients over 89, as in MIMIC-IV.
        anchor_year: Year of the first ECG, shifted for de-identification as in MIMIC-IV.
        anchor_year_group: Three-year period that contains the anchor year before it was shifted.
    """

    subject_id: int
    patient: Patient
    anchor_age: int
    anchor_year: int
    anchor_year_group: str


@dataclass(frozen=True)
class PlannedEcg:
    """An ECG before its simulation.

    Attributes:
        subject_id: MIMIC-IV subject id.
        study_id: MIMIC-IV-ECG study id.
        time: Time of the recording.
        rhythm: Rhythm during the recording.
        potassium_mmol_l: Potassium concentration in mmol/L.
        stream: Index of the ECG; part of the seed of the ECG's random generator.
    """

    subject_id: int
    study_id: int
    time: dt.datetime
    rhythm: Rhythm
    potassium_mmol_l: float
    stream: int

    @property
    def path(self) -> str:
        """Path of the record without suffix, relative to the root of the data set."""
        subject, study = f"p{self.subject_id}", f"s{self.study_id}"
        return f"files/{subject[:5]}/{subject}/{study}/{self.study_id}"


class Population(NamedTuple):
    """Patients and their ECGs.

    Attributes:
        people: Patients by subject id.
        ecgs: ECGs sorted by subject id and time.
    """

    people: dict[int, Person]
    ecgs: list[PlannedEcg]


def draw_population(patients: int, seed: int) -> Population:
    """Draw patients with one to eight ECGs each, two on average.

    Each patient has a separate random generator.

    Args:
        patients: Number of patients.
        seed: Seed of the data set.

    Returns:
        The patients and their ECGs.
    """
    ids = np.random.default_rng([seed, 0])
    subjects = 10_000_000 + np.sort(ids.choice(10_000_000, patients, replace=False))
    people: dict[int, Person] = {}
    ecgs: list[PlannedEcg] = []
    for number, subject in enumerate(subjects.tolist()):
        rng = np.random.default_rng([seed, 2, number])
        male = bool(rng.random() < 0.52)
        age = float(np.clip(rng.normal(61, 18), 18, 91))
        anchor_age = 91 if age > 89 else int(age)
        anchor_year = int(rng.integers(2110, 2201))
        patient = draw_patient(rng, age=age, male=male)
        group = int(rng.choice([2008, 2011, 2014, 2017]))
        people[subject] = Person(
            subject, patient, anchor_age, anchor_year, f"{group} - {group + 2}"
        )
        count = min(int(rng.geometric(0.5)), 8)
        start = dt.datetime(anchor_year, 1, 1) + dt.timedelta(
            minutes=int(rng.integers(0, 300 * 24 * 60))
        )
        ecgs += _draw_ecgs(rng, people[subject], start, count, len(ecgs))
    studies = 40_000_000 + ids.choice(10_000_000, len(ecgs), replace=False)
    numbered = zip(ecgs, studies.tolist(), strict=True)
    return Population(people, [replace(ecg, study_id=study) for ecg, study in numbered])


def draw_potassium(rng: Generator) -> float:
    """Draw a potassium concentration in mmol/L, abnormal with probability `ABNORMAL_POTASSIUM`."""
    quantile = rng.random() / ABNORMAL_POTASSIUM
    if quantile < 0.6:
        return float(np.clip(5.5 + rng.gamma(2, 0.45), 5.5, 8.4))
    if quantile < 1:
        return float(np.clip(3.05 - rng.gamma(2, 0.2), 1.9, 3.05))
    return float(np.clip(rng.normal(4.15, 0.35), 3.4, 5.0))


def _draw_ecgs(
    rng: Generator, person: Person, start: dt.datetime, count: int, stream: int
) -> list[PlannedEcg]:
    """Draw the ECGs of a patient, hours to months apart; half of them keep the previous rhythm."""
    age = person.patient.age
    ecgs: list[PlannedEcg] = []
    time, rhythm = start, draw_rhythm(rng, age)
    for number in range(count):
        if number:
            hours = rng.exponential(30) + 3 if rng.random() < 0.6 else rng.exponential(2000) + 24
            time += dt.timedelta(minutes=int(hours * 60))
            if rng.random() < 0.5:
                rhythm = draw_rhythm(rng, age)
        potassium = draw_potassium(rng)
        ecgs.append(PlannedEcg(person.subject_id, 0, time, rhythm, potassium, stream + number))
    return ecgs
