"""Find the records on which a saved run may be evaluated: those of unseen patients."""

import numpy as np
from jaxtyping import Bool

from pipeline.datasets.base import Dataset, same_patients
from pipeline.runs.saved_run import SavedRun


def find_unseen(
    saved: SavedRun, dataset: Dataset, limit: int | None = None
) -> Bool[np.ndarray, "repeat record"]:
    """Find records of patients that each repeat was neither trained nor validated on.

    A data set may assign records to other patients today than at training time. In the run's own
    data set, a patient with a training or validation record therefore counts as seen, too.

    Args:
        saved: The run.
        dataset: Data set to evaluate on.
        limit: Number of records from the start of the index; None for all.

    Returns:
        True for unseen records. All records are unseen if the data set's patients are not those
        of the run.
    """
    index = dataset.index()
    trained_on = saved.config["dataset"]
    if not same_patients(trained_on, dataset.namespace):
        return np.ones((len(saved.cohorts), len(index.record_id[:limit])), bool)
    masks = []
    for repeat in range(len(saved.cohorts)):
        seen = np.isin(index.patient_id, saved.patients_seen(repeat))
        if dataset.namespace == trained_on:
            used = np.isin(index.record_id, saved.records_seen(repeat))
            seen |= np.isin(index.patient_id, index.patient_id[used])
        masks.append(~seen[:limit])
    return np.stack(masks)


def describe_patients(saved: SavedRun, namespace: str) -> str:
    """Describe in a sentence on which patients a run is evaluated."""
    trained_on = saved.config["dataset"]
    if same_patients(trained_on, namespace):
        return (
            f"Trained on {trained_on}; each repeat is evaluated on patients of {namespace} that "
            "it was neither trained nor validated on."
        )
    return f"Trained on {trained_on}, evaluated on {namespace}."


def note_changed_index(saved: SavedRun, dataset: Dataset) -> tuple[str, ...]:
    """Return a note if the records or patients changed since the training."""
    namespace = dataset.namespace
    if (
        namespace != saved.config["dataset"]
        or dataset.index().digest == saved.config["index_digest"]
    ):
        return ()
    return (
        f"The records or patients of {namespace} have changed since the training; patients who now "
        "have one of its training or validation records count as seen.",
    )
