"""Table of the labels of a multilabel task: prevalence, and EnECG's AUROC and F1."""

from collections.abc import Sequence

import numpy as np

from enecg.label_metrics import f1_of_labels
from enecg.metrics import auroc
from enecg.tasks import Task
from pipeline.report.table import NOT_APPLICABLE, Table
from pipeline.runs.run_details import RunDetails


def label_table(details: RunDetails, task: Task) -> Table:
    """Build a table for a multilabel task.

    Args:
        details: Details of a run.
        task: The task.

    Returns:
        A table with one row per label that the heads predict in at least one repeat.
    """
    by_repeat = [
        {single.labels[0]: single for single in predictions.by_label()}
        for predictions in details.ensemble(task.name)
    ]
    rows = []
    for label in dict.fromkeys(label for by_label in by_repeat for label in by_label):
        repeats = [by_label.get(label) for by_label in by_repeat]
        shares = [
            targets.shares[targets.classes.index(label)]
            for targets in (by_task[task.name] for by_task in details.targets)
            if label in targets.classes
        ]
        positives = [
            0 if predictions is None else int(predictions.truth.sum()) for predictions in repeats
        ]
        areas, f1 = [], []
        for predictions in repeats:
            if predictions is not None and predictions.truth.any():
                truth, probability = predictions.truth, predictions.probability
                assert probability is not None
                areas.append(auroc(truth.astype(int), probability))
                f1.append(f1_of_labels(truth[:, None], predictions.predicted[:, None]))
        rows.append(
            (
                label,
                f"{100 * np.mean(shares):.1f}",
                " / ".join(map(str, positives)),
                _format(areas),
                _format(f1),
            )
        )
    heading = (
        *("", "positive in training, %", "positive test records, by repeat"),
        *("AUROC ↑", "F1 ↑"),
    )
    note = "AUROC and F1 of EnECG: mean ± SD over the repeats whose test records include the label."
    return Table(f"{task.title}: labels", heading, tuple(rows), notes=(note,))


def _format(values: Sequence[float]) -> str:
    defined = [value for value in values if not np.isnan(value)]
    if not defined:
        return NOT_APPLICABLE
    deviation = f" ± {np.std(defined, ddof=1):.3f}" if len(defined) > 1 else ""
    return f"{np.mean(defined):.3f}{deviation}"
