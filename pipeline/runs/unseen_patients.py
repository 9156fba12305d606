"""Records of patients that were used neither for training nor for validation of a saved run."""

import numpy as np
import pandas as pd
from jaxtyping import Bool

from pipeline.datasets.base import Dataset, same_patients
from pipeline.runs.saved_run import SavedRun
from stores.record_ids import RecordIds


def find_unseen(
    saved: SavedRun, dataset: Dataset, record_id: RecordIds
) -> Bool[np.ndarray, "repeat record"]:
    """For each repeat, find the records of patients not used for training or validation.

    The patient of a record may have changed in the data set's index since training. Therefore, if
    the run was trained on the same data set, all current patients of its training and validation
    records are excluded as well.

    Args:
        saved: The saved run.
        dataset: Data set to evaluate on.
        record_id: Ids of the records to evaluate; all must be in the data set's index.

    Returns:
        Boolean mask, True for records of unseen patients. It is True everywhere if the data set
        and the one that the run was trained on have no patients in common.
    """
    index = dataset.index()
    trained_on = saved.config["dataset"]
    if not same_patients(trained_on, dataset.namespace):
        return np.ones((len(saved.cohorts), len(record_id)), bool)
    selected = pd.Index(index.record_id).get_indexer(pd.Index(record_id))
    masks = []
    for repeat in range(len(saved.cohorts)):
        seen = np.isin(index.patient_id, saved.patients_seen(repeat))
        if dataset.namespace == trained_on:
            used = np.isin(index.record_id, saved.records_seen(repeat))
            seen |= np.isin(index.patient_id, index.patient_id[used])
        masks.append(~seen[selected])
    return np.stack(masks)


def describe_patients(saved: SavedRun, namespace: str) -> str:
    """Return a sentence that describes which patients a run is evaluated on."""
    trained_on = saved.config["dataset"]
    if same_patients(trained_on, namespace):
        return (
            f"Trained on {trained_on}; each repeat is evaluated on patients of {namespace} that "
            "were used neither for its training nor for its validation."
        )
    return f"Trained on {trained_on}, evaluated on {namespace}."


def note_changed_index(saved: SavedRun, dataset: Dataset) -> tuple[str, ...]:
    """Return a note if the data set's index has changed since the run was trained on it."""
    namespace = dataset.namespace
    if (
        namespace != saved.config["dataset"]
        or dataset.index().digest == saved.config["index_digest"]
    ):
        return ()
    return (
        f"The records or patients of {namespace} have changed since the run was trained; all "
        "current patients of its training and validation records are excluded.",
    )
