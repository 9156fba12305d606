"""Write a synthetic data set in the layout of MIMIC-IV-ECG."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from enecg.ecg_format import LEADS
from enecg.errors import UserError
from pipeline.mimic_codes import UNMEASURED
from pipeline.synthetic.markers import MARKER, UNFINISHED_MARKER
from pipeline.synthetic.mimic_layout import (
    FILE_LEADS,
    Row,
    measurement_row,
    write_record,
    write_tables,
)
from pipeline.synthetic.population import draw_population
from pipeline.synthetic.simulation import quantize, simulate
from stores.documents import InvalidDocument, parse_document

GENERATOR_VERSION = 1
"""Part of the namespace; increment it with any change of signals or labels."""

DEFECTS = ("nan_samples", "flat_lead", "cut_file", "missing_file", "unknown_rr")
"""Defects that are added to some records. Records with one of the first four cannot be decoded, for
the reason of the same name in `waveforms.failures`. `unknown_rr` is a missing RR interval."""


@dataclass(frozen=True)
class SyntheticDataset:
    """A synthetic data set on disk.

    Attributes:
        directory: Root of the data set.
        namespace: Namespace of the data set, unique for each set of signals.
        patients: Number of patients.
        records: Number of ECGs.
        spoiled: Ids of the defective records by defect.
        already_existed: Whether the complete data set existed before the call.
    """

    directory: Path
    namespace: str
    patients: int
    records: int
    spoiled: dict[str, list[int]]
    already_existed: bool


def synthesize(
    directory: str | Path,
    *,
    patients: int = 200,
    seed: int = 0,
    spoiled_fraction: float = 0.03,
    progress: Callable[[int, int], None] | None = None,
) -> SyntheticDataset:
    """Write synthetic patients with about two ECGs each.

    The data set has MIMIC's file names and columns: records such as
    ``files/p1000/p10000032/s40689238/40689238.{hea,dat}`` (format 16, 200 adu/mV),
    ``record_list.csv``, ``machine_measurements.csv``, ``hosp/patients.csv`` and
    ``hosp/labevents.csv``. Equal parameters give equal files. A complete data set is not written
    again; an incomplete data set is overwritten.

    Args:
        directory: A new or empty directory, or one with a data set of the same parameters.
        patients: Number of patients, at least 1.
        seed: Seed of all random numbers, at least 0.
        spoiled_fraction: Fraction of records with one of `DEFECTS`, 0 to 1. If there are at least
            40 records, every defect occurs at least once, unless the fraction is 0.
        progress: Called as ``progress(done, total)`` with record counts.

    Returns:
        The description of the data set.

    Raises:
        UserError: A parameter is out of range, or the directory is a file, contains other files or
            a data set with other parameters, or has a damaged marker.
    """
    root = Path(directory)
    if patients < 1:
        raise UserError(f"patients is {patients}; it must be at least 1.")
    if not 0 <= spoiled_fraction <= 1:
        raise UserError(f"spoiled_fraction is {spoiled_fraction}; it must be between 0 and 1.")
    if seed < 0:
        raise UserError(f"seed is {seed}; it must be at least 0.")
    parameters = {
        "generator_version": GENERATOR_VERSION,
        "patients": patients,
        "seed": seed,
        "spoiled_fraction": spoiled_fraction,
    }
    existing = _find_existing(root, parameters)
    if existing is not None:
        return existing
    root.mkdir(parents=True, exist_ok=True)
    _write_json(root / UNFINISHED_MARKER, parameters)

    population = draw_population(patients, seed)
    ecgs = population.ecgs
    spoiled = _choose_spoiled([ecg.study_id for ecg in ecgs], spoiled_fraction, seed)
    defects = {record: defect for defect, records in spoiled.items() for record in records}
    measurements: list[Row] = []
    for done, ecg in enumerate(ecgs, start=1):
        rng = np.random.default_rng([seed, 1, ecg.stream])
        patient, defect = population.people[ecg.subject_id].patient, defects.get(ecg.study_id)
        recording = simulate(patient, ecg.rhythm, ecg.potassium_mmol_l, rng)
        units = quantize(recording.ecg_mv)[[LEADS.index(lead) for lead in FILE_LEADS]]
        write_record(root, ecg, units, defect, rng)
        row = measurement_row(ecg, patient, recording, rng)
        if defect == "unknown_rr":
            row["rr_interval"] = UNMEASURED
        measurements.append(row)
        if progress is not None:
            progress(done, len(ecgs))

    write_tables(root, population, measurements, seed)
    namespace = _namespace(patients, seed, spoiled_fraction)
    marker = {"parameters": parameters, "namespace": namespace, "records": len(ecgs)}
    _write_json(root / MARKER, {**marker, "spoiled": spoiled})
    (root / UNFINISHED_MARKER).unlink()
    return SyntheticDataset(root, namespace, patients, len(ecgs), spoiled, already_existed=False)


def _namespace(patients: int, seed: int, spoiled_fraction: float) -> str:
    """Return a name that is unique for each set of signals."""
    name = f"synthetic/v{GENERATOR_VERSION}-seed{seed}-patients{patients}"
    return name if spoiled_fraction == 0.03 else f"{name}-spoiled{spoiled_fraction:g}"


def _find_existing(root: Path, parameters: dict[str, Any]) -> SyntheticDataset | None:
    """Return the complete data set in `root`, if any; raise UserError for any other content."""
    if root.exists() and not root.is_dir():
        raise UserError(f"{root} is a file; use a folder for the synthetic data set.")
    if not root.exists() or not any(root.iterdir()):
        return None
    remedy = "use an empty folder, or delete this one first"
    unfinished = root / UNFINISHED_MARKER
    marker = root / MARKER
    if not unfinished.exists() and not marker.exists():
        raise UserError(f"{root} is not empty and is not a synthetic data set; {remedy}.")
    complete = marker.exists()
    if complete:
        document = _read_marker(marker, remedy, "parameters", "namespace", "records", "spoiled")
    else:
        document = {"parameters": _read_marker(unfinished, remedy)}
    if document["parameters"] != parameters:
        raise UserError(f"{root} is a synthetic data set with other parameters; {remedy}.")
    if not complete:
        return None
    unfinished.unlink(missing_ok=True)
    return SyntheticDataset(
        root,
        document["namespace"],
        parameters["patients"],
        document["records"],
        document["spoiled"],
        already_existed=True,
    )


def _read_marker(path: Path, remedy: str, *names: str) -> dict[str, Any]:
    """Return the JSON object in a marker; raise UserError unless it has these names."""
    try:
        document = parse_document(path.read_bytes())
    except InvalidDocument:
        document = None
    if not isinstance(document, dict) or not document.keys() >= {*names}:
        raise UserError(f"{path} is damaged; {remedy}.")
    return document


def _choose_spoiled(records: Sequence[int], fraction: float, seed: int) -> dict[str, list[int]]:
    """Return the ids of randomly chosen records by defect, about equally many for each defect."""
    count = round(fraction * len(records))
    if fraction and len(records) >= 40:
        count = max(count, len(DEFECTS))
    chosen = np.random.default_rng([seed, 3]).permutation(records)[:count].tolist()
    return {defect: sorted(chosen[n :: len(DEFECTS)]) for n, defect in enumerate(DEFECTS)}


def _write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file atomically."""
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
