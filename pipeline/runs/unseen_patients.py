"""Records of patients that a saved run used neither for training nor for validation."""

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

    If the run was trained on the same data set, the current patients of its training and validation
    records are excluded as well, because patient ids can have changed since training.

    Args:
        saved: The saved run.
        dataset: Data set to evaluate on.
        record_id: Ids of the records to evaluate; all must be in the data set's index.

    Returns:
        Mask of the records of unseen patients. All records are unseen if `same_patients` is false
        for the data set of the run and `dataset`.
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
    """Describe the patients that a run is evaluated on.

    Args:
        saved: The run.
        namespace: Namespace of the data set that the run is evaluated on.

    Returns:
        One sentence.
    """
    trained_on = saved.config["dataset"]
    if same_patients(trained_on, namespace):
        return (
            f"Trained on {trained_on}; each repeat is evaluated on patients of {namespace} that "
            "were used neither for its training nor for its validation."
        )
    return f"Trained on {trained_on}, evaluated on {namespace}."


def note_changed_index(saved: SavedRun, dataset: Dataset) -> tuple[str, ...]:
    """Return a note if the data set's index has changed since training.

    Args:
        saved: The run.
        dataset: Data set that the run is evaluated on.

    Returns:
        One note, or none if the run was trained on another data set or the index is unchanged.
    """
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
