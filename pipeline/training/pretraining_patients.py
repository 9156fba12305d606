"""Lists of the patients on whose ECGs the weights of an expert were pretrained.

A list is a text file with one patient id per line, sorted, beside the weights. Its SHA-256 is in
the metadata of the weights and in the provenance of the stores that were extracted with them, so
that a missing, incomplete or wrong list is detected.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool

from enecg.errors import UserError
from enecg.experts import ExpertOption, get_definition
from enecg.pretraining import METADATA_KEY, Pretraining
from pipeline.datasets.base import same_patients
from pipeline.training.cohorts import Cohort
from stores.errors import UnsafeFile
from stores.record_ids import RecordIds, as_ids
from stores.regular_files import read_regular

SUFFIX = ".patients.txt"
MAX_LIST_BYTES = 1 << 30


@dataclass(frozen=True)
class PretrainedExpert:
    """An expert with pretrained weights, and the patients of its pretraining.

    Attributes:
        expert: Name of the expert.
        pretraining: Pretraining metadata in the store's provenance.
        patients: Contents of the list; None if the expert was pretrained on a data set that has no
            patients in common with the current one.
    """

    expert: str
    pretraining: Pretraining
    patients: bytes | None

    def contains(self, patient_id: RecordIds) -> Bool[np.ndarray, " record"]:
        """Return a mask of the patients that are in the list."""
        known = np.array((self.patients or b"").decode().splitlines(), str)
        mask: np.ndarray = np.isin(patient_id.astype(str), known)
        return mask


def patients_file(weights: Path) -> Path:
    """Return the path of the list that belongs to a file of weights."""
    return weights.with_suffix(SUFFIX)


def format_patients(patient_id: RecordIds) -> bytes:
    """Return the contents of a list.

    Args:
        patient_id: Ids of the patients.

    Returns:
        The distinct ids, sorted, one per line.

    Raises:
        UserError: An id is empty or contains a line break.
    """
    ids = np.unique(patient_id).tolist()
    for patient in ids:
        if len(str(patient).splitlines()) != 1:
            raise UserError(
                f"The patient id {patient!r} is empty or contains a line break; rename it."
            )
    return "".join(f"{patient}\n" for patient in ids).encode()


@dataclass(frozen=True)
class ListPaths:
    """Search path for lists: given files, a run folder, and the folder of the weights.

    Attributes:
        weights: Values of ``--weights``.
        files: Values of ``--pretraining-patients``.
        folder: Run folder with copies of the lists; None if there is none.
    """

    weights: Sequence[str]
    files: Sequence[str] = ()
    folder: Path | None = None

    def find(self, expert: str) -> list[Path]:
        """Return the candidate paths of an expert's list in search order; they need not exist."""
        candidates = list(map(Path, self.files))
        if self.folder is not None:
            candidates.append(run_list(self.folder, expert))
        try:
            choice = ExpertOption.parse("--weights", self.weights).get(expert)
            path = get_definition(expert).find_weights(choice, fetch=False).path
        except UserError:
            # Stores that are selected by provenance do not need the file of the weights.
            path = None
        if path is not None:
            candidates += [patients_file(path), patients_file(path.resolve())]
        return list(dict.fromkeys(candidate.expanduser() for candidate in candidates))


def run_list(folder: Path, expert: str) -> Path:
    """Return the path of the copy of an expert's list in a run folder.

    Args:
        folder: Run folder.
        expert: Name of the expert.

    Returns:
        The path of the copy, which need not exist.
    """
    return folder / f"{expert}{SUFFIX}"


def find_pretrained(
    provenances: Sequence[Mapping[str, Any]], namespace: str, paths: ListPaths
) -> tuple[PretrainedExpert, ...]:
    """Find the experts with pretrained weights and read the lists of their patients.

    Args:
        provenances: Provenance of each store.
        namespace: Namespace of the data set whose patients are used for the test.
        paths: Search path for the lists.

    Returns:
        The experts whose stores have pretraining metadata.

    Raises:
        UserError: The metadata is damaged, or the list of patients of this data set is unavailable.
    """
    pretrained = []
    for provenance in provenances:
        if METADATA_KEY not in provenance:
            continue
        expert = str(provenance["expert"])
        pretraining = Pretraining.from_json(
            provenance[METADATA_KEY], f"The store of {expert} for {namespace}"
        )
        patients = None
        if same_patients(pretraining.dataset, namespace):
            patients = _read_list(expert, pretraining, paths.find(expert))
        pretrained.append(PretrainedExpert(expert, pretraining, patients))
    return tuple(pretrained)


def _read_list(expert: str, pretraining: Pretraining, candidates: Sequence[Path]) -> bytes:
    problems = []
    for path in candidates:
        if not path.exists():
            continue
        try:
            contents = read_regular(path, MAX_LIST_BYTES)
        except (OSError, UnsafeFile) as error:
            problems.append(f"{path} cannot be read ({error})")
            continue
        if hashlib.sha256(contents).hexdigest() == pretraining.patients_sha256:
            return contents
        problems.append(f"{path} has another SHA-256")
    if not problems:
        problems.append(f"not found: {', '.join(map(str, candidates)) or 'no file given'}")
    raise UserError(
        f"The weights of {expert} were pretrained on {pretraining.patients:,} patients of "
        f"{pretraining.dataset}, but the list of these patients (SHA-256 "
        f"{pretraining.patients_sha256[:12]}...) is not available ({'; '.join(problems)}), so they "
        "cannot be excluded from the test; copy it beside the weights, or pass it as "
        "--pretraining-patients FILE."
    )


def check_cohorts(
    cohorts: Sequence[Cohort],
    pretrained: Sequence[PretrainedExpert],
    patient_id: "pd.Series[Any]",
    *,
    exclude: bool,
) -> tuple[tuple[Cohort, ...], tuple[str, ...]]:
    """Ensure that no test patient was in the pretraining data of an expert.

    Args:
        cohorts: The cohort of each repeat.
        pretrained: The experts with pretrained weights.
        patient_id: Patient of each record, by record id.
        exclude: Whether to remove the test records of such patients instead of raising an error.

    Returns:
        The cohorts without such test records, and notes on the removed records.

    Raises:
        UserError: There are such test patients and `exclude` is False, or a repeat would have no
            test record.
    """
    checked: list[Cohort] = []
    notes: list[str] = []
    for number, cohort in enumerate(cohorts):
        patients = as_ids(patient_id.loc[cohort.test])
        where = f"repeat {number} (seed {cohort.seed})"
        remedy = (
            "pretrain with the --seed, --repeats, --patients, --folds, --limit and --records of "
            "this command, or exclude these patients from the test with --exclude-pretrained"
        )
        seen = find_seen(patients, pretrained, where, None if exclude else remedy)
        if seen.any():
            notes.append(_describe_excluded(patients, seen, where))
        checked.append(replace(cohort, test=cohort.test[~seen]))
    return tuple(checked), tuple(notes)


def count_validation_patients(
    cohorts: Sequence[Cohort],
    pretrained: Sequence[PretrainedExpert],
    patient_id: "pd.Series[Any]",
) -> tuple[str, ...]:
    """Count the validation patients who were in the pretraining data of an expert.

    They are not excluded, because they are not test patients.

    Args:
        cohorts: The cohort of each repeat.
        pretrained: The experts with pretrained weights.
        patient_id: Patient by record id.

    Returns:
        A note for each expert with such patients.
    """
    notes = []
    for expert in pretrained:
        patients = [np.unique(as_ids(patient_id.loc[cohort.validation])) for cohort in cohorts]
        seen = [int(expert.contains(ids).sum()) for ids in patients]
        if any(seen):
            counts = ", ".join(
                f"{count:,} of {len(ids):,}" for count, ids in zip(seen, patients, strict=True)
            )
            repeats = " (by repeat)" if len(cohorts) > 1 else ""
            notes.append(
                f"Validation patients in the pretraining data of {expert.expert}: "
                f"{counts}{repeats}. Validation losses of {expert.expert}, by which epochs, "
                "thresholds and the gate are chosen, may be lower than on new patients."
            )
    return tuple(notes)


def find_seen(
    patients: RecordIds, pretrained: Sequence[PretrainedExpert], where: str, remedy: str | None
) -> Bool[np.ndarray, " record"]:
    """Find the test records of patients who were in the pretraining data of an expert.

    Args:
        patients: Patient of each test record.
        pretrained: The experts with pretrained weights.
        where: Name of the repeat, for the error message.
        remedy: Remedy for the error message. None excludes such patients instead of raising an
            error.

    Returns:
        Mask of the records to exclude.

    Raises:
        UserError: There are such patients and `remedy` is not None, or all records are of such
            patients.
    """
    seen = np.zeros(len(patients), bool)
    for expert in pretrained:
        mask = expert.contains(patients)
        seen |= mask
        if mask.any() and remedy is not None:
            raise UserError(
                f"{len(np.unique(patients[mask])):,} of the {len(np.unique(patients)):,} test "
                f"patients of {where} were in the pretraining data of {expert.expert} on "
                f"{expert.pretraining.dataset}; {remedy}."
            )
    if len(seen) and seen.all():
        raise UserError(
            f"All test patients of {where} were in the pretraining data of an expert; use other "
            "weights or other test patients."
        )
    return seen


def _describe_excluded(patients: RecordIds, seen: Bool[np.ndarray, " record"], where: str) -> str:
    return (
        f"Excluded {int(seen.sum()):,} test records of {len(np.unique(patients[seen])):,} patients "
        f"from {where}, because these patients were in the pretraining data of an expert."
    )


def check_unseen(
    unseen: Bool[np.ndarray, "repeat record"],
    pretrained: Sequence[PretrainedExpert],
    patients: RecordIds,
    *,
    exclude: bool,
) -> tuple[Bool[np.ndarray, "repeat record"], tuple[str, ...]]:
    """Ensure that no patient of an evaluation was in the pretraining data of an expert.

    Args:
        unseen: Records to evaluate, for each repeat of the run.
        pretrained: The run's experts with pretrained weights.
        patients: Patient of each record.
        exclude: Whether to exclude the records of such patients instead of raising an error.

    Returns:
        The records to evaluate, and notes on the removed records.

    Raises:
        UserError: There are such patients and `exclude` is False, or a repeat would have no record.
    """
    checked = unseen.copy()
    notes: list[str] = []
    for repeat, mask in enumerate(unseen):
        where = f"repeat {repeat}"
        remedy = "exclude them with --exclude-pretrained"
        seen = find_seen(patients[mask], pretrained, where, None if exclude else remedy)
        checked[repeat, mask] = ~seen
        if seen.any():
            notes.append(_describe_excluded(patients[mask], seen, where))
    return checked, tuple(notes)
