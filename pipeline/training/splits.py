"""Cohorts of all repeats: drawn at random, or split by a table of folds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from enecg.errors import UserError
from pipeline.labels.folds import PARTS, FoldAssignment, read_folds
from pipeline.training.cohorts import Cohort, draw_cohort, split_by_part
from pipeline.training.inputs import Inputs
from pipeline.training.settings import TrainSettings
from stores.record_ids import as_ids


@dataclass(frozen=True)
class Splits:
    """The cohort of every repeat.

    Attributes:
        cohorts: One cohort per repeat.
        notes: Notes on the split, shown below the result tables.
        folds: Provenance of the table of folds; None if the patients are drawn at random.
    """

    cohorts: tuple[Cohort, ...]
    notes: tuple[str, ...] = ()
    folds: Mapping[str, Any] | None = None


def make_splits(settings: TrainSettings, inputs: Inputs) -> Splits:
    """Draw the cohort of each repeat, or split all records by the table of folds.

    Args:
        settings: Folds, repeats, patients and seed.
        inputs: Records and patients.

    Returns:
        The cohorts.

    Raises:
        UserError: There are too few patients, the folds are invalid, or `settings` has both folds
            and a number of patients.
    """
    patient_id = as_ids(inputs.labels["patient_id"])
    seeds = range(settings.seed, settings.seed + settings.repeats)
    if settings.folds is None:
        cohorts = tuple(
            draw_cohort(
                inputs.record_id,
                patient_id,
                patients=settings.patients,
                seed=seed,
                ecgs=settings.ecgs,
            )
            for seed in seeds
        )
        return Splits(cohorts, _note_patients(settings, inputs))
    if settings.patients != TrainSettings.patients:
        raise UserError(
            "--patients draws patients at random, but --folds uses all patients of its folds; "
            "omit one of them."
        )
    assignment = read_folds(settings.folds, inputs.dataset.index())
    cohorts = tuple(
        split_by_part(inputs.record_id, patient_id, assignment.part, seed=seed, ecgs=settings.ecgs)
        for seed in seeds
    )
    return Splits(cohorts, _describe_folds(assignment, inputs), assignment.to_document())


def _note_patients(settings: TrainSettings, inputs: Inputs) -> tuple[str, ...]:
    """Return a note if fewer patients are available than requested."""
    available = inputs.labels["patient_id"].nunique()
    if available >= settings.patients:
        return ()
    return (
        f"{settings.patients:,} patients were requested; all {available:,} available patients are "
        "used.",
    )


def _describe_folds(assignment: FoldAssignment, inputs: Inputs) -> tuple[str, ...]:
    """Describe the folds, and count the records that are in no part."""
    document = assignment.to_document()
    name = document["file"]
    stated = [f"{part} {', '.join(document[part])}" for part in PARTS if document[part]]
    if document["validation"] and not document["train"]:
        stated.append("train all other folds")
    folds = f", folds: {'; '.join(stated)}" if stated else ""
    notes = [
        f"Split by column {assignment.folds.column} of {name} (SHA-256 {assignment.sha256[:12]})"
        f"{folds}."
    ]
    listed = assignment.part[assignment.part.notna()].index
    without_embedding = int((~listed.isin(inputs.record_id)).sum())
    without_fold = len(inputs.record_id) - int(listed.isin(inputs.record_id).sum())
    unused = sum(assignment.unused.values())
    if assignment.unknown_records:
        notes.append(f"{assignment.unknown_records:,} records of {name} are not in the data set.")
    if without_embedding:
        notes.append(
            f"{without_embedding:,} records of {name} are not in the cohort: they are unreadable, "
            "or not selected by --limit or --records."
        )
    if without_fold:
        # `without_fold` counts only records with embeddings; `unused` also counts the others.
        other = f"; {unused:,} records of {name} are in other folds" if unused else ""
        notes.append(
            f"{without_fold:,} records with embeddings are in none of the selected folds{other}."
        )
    return tuple(notes)
