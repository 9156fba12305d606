"""Check that test patients of a run were not in the pretraining data of its experts."""

from dataclasses import replace
from pathlib import Path

from pipeline.training.inputs import Inputs
from pipeline.training.pretraining_patients import (
    ListPaths,
    PretrainedExpert,
    check_cohorts,
    count_validation_patients,
    find_pretrained,
)
from pipeline.training.settings import TrainSettings
from pipeline.training.splits import Splits


def check_pretraining(
    splits: Splits, inputs: Inputs, settings: TrainSettings, base: Path | None = None
) -> tuple[Splits, tuple[PretrainedExpert, ...]]:
    """Check that no test patient was in an expert's pretraining data, or exclude such patients.

    Args:
        splits: The cohorts of all repeats.
        inputs: Stores and patients.
        settings: Weights, lists of patients, and whether to exclude such patients.
        base: Folder of the base run, which contains copies of the lists. Default: none.

    Returns:
        The splits without the excluded patients, with notes on excluded patients and on validation
        patients in the pretraining data of an expert; and the experts with pretrained weights.

    Raises:
        UserError: A test patient was in the pretraining data and `settings.exclude_pretrained` is
            False, or all test patients of a repeat were; see also `find_pretrained`.
    """
    pretrained = find_pretrained(
        [store.provenance for store in inputs.cache.experts.values()],
        inputs.dataset.namespace,
        ListPaths(settings.weights, settings.pretraining_patients, base),
    )
    patient_id = inputs.labels["patient_id"]
    cohorts, notes = check_cohorts(
        splits.cohorts, pretrained, patient_id, exclude=settings.exclude_pretrained
    )
    notes += count_validation_patients(cohorts, pretrained, patient_id)
    return replace(splits, cohorts=cohorts, notes=(*splits.notes, *notes)), pretrained
