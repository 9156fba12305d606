"""Targets, predictions, gate weights and learning curves of a run folder, for plots."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float
from pydantic import TypeAdapter

from enecg.metrics import NAN
from pipeline.evaluation.predictions import ENSEMBLE, TaskPredictions
from pipeline.labels.targets import Targets
from pipeline.runs.parquet_file import MAX_PARQUET_BYTES, parse_parquet
from pipeline.runs.results import PREDICTIONS, RunResults
from pipeline.runs.run_documents import open_document, translate_read_errors
from pipeline.runs.task_summary import TaskSummary
from pipeline.runs.training_details import GATE_WEIGHTS, LEARNING_CURVES, Curves
from stores.record_ids import as_ids
from stores.regular_files import read_regular

PredictionsByMethod = dict[str, dict[str, list[TaskPredictions]]]
"""Predictions by method and task, one element per repeat."""

_CURVES = TypeAdapter(list[dict[str, dict[str, list[float | None]]]])


@dataclass(frozen=True)
class RunDetails:
    """Data that the plots of a run need in addition to its scores.

    Attributes:
        targets: Targets by task, one element per repeat.
        predictions: Predictions of EnECG and of each expert for the labeled test records.
        gate_weights: Weights of the experts for these records, by task, one element per repeat.
            Records are in the order of EnECG's predictions, experts in the order of the run. Empty
            for runs with a single expert and for runs of earlier versions.
        learning_curves: Validation loss before training and after every epoch, by method and task,
            one element per repeat. Empty for runs of earlier versions.
    """

    targets: tuple[dict[str, Targets], ...]
    predictions: PredictionsByMethod
    gate_weights: dict[str, list[Float[np.ndarray, "record expert"]]]
    learning_curves: tuple[Curves, ...]

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks."""
        return list(self.targets[0])

    def ensemble(self, task: str) -> list[TaskPredictions]:
        """Return EnECG's predictions for a task, one element per repeat."""
        return self.predictions[ENSEMBLE][task]

    def classes(self, task: str) -> list[tuple[str, ...]]:
        """Return the class or label names of a task, one element per repeat."""
        return [targets[task].classes for targets in self.targets]


def read_details(run: RunResults) -> RunDetails:
    """Read the targets, predictions, gate weights and learning curves of a run from its folder.

    Args:
        run: Results of the run, including the path of its folder.

    Returns:
        The details.

    Raises:
        UserError: A file is missing or damaged.
    """
    folder = run.folder
    targets = tuple(
        _read_targets(folder / f"repeat-{number}" / "targets.json", run.tasks)
        for number in range(len(run.config["seeds"]))
    )
    predictions = _read_predictions(
        folder / PREDICTIONS, (ENSEMBLE, *(n for n in run.weights if n in run.methods)), targets
    )
    weights = folder / GATE_WEIGHTS
    curves = folder / LEARNING_CURVES
    experts = len(run.weights)
    return RunDetails(
        targets,
        predictions,
        _read_gate_weights(weights, predictions[ENSEMBLE], experts)
        if experts > 1 and weights.exists()
        else {},
        _read_curves(curves) if curves.exists() else (),
    )


def _read_targets(file: Path, tasks: Mapping[str, TaskSummary]) -> dict[str, Targets]:
    with open_document(file) as document:
        targets = {name: Targets.from_document(name, document["targets"][name]) for name in tasks}
        if any(targets[name].task.kind != task.kind for name, task in tasks.items()):
            raise ValueError("a task has a different kind than in the results")
        return targets


def _read_predictions(
    file: Path, methods: Sequence[str], targets: Sequence[Mapping[str, Targets]]
) -> PredictionsByMethod:
    with translate_read_errors(file):
        table = parse_parquet(
            read_regular(file, MAX_PARQUET_BYTES),
            ("task", "method"),
            [("method", "in", list(methods))],
        )
        predictions: PredictionsByMethod = {}
        for method in methods:
            of_method = table.filter(pc.equal(table["method"], method))
            predictions[method] = {
                task: [
                    _build_predictions(
                        _select(of_method, task, repeat), by_task[task], method, repeat
                    )
                    for repeat, by_task in enumerate(targets)
                ]
                for task in targets[0]
            }
        return predictions


def _select(table: pa.Table, task: str, repeat: int) -> pa.Table:
    is_selected = pc.and_(pc.equal(table["task"], task), pc.equal(table["repeat"], repeat))
    return table.filter(is_selected)


def _build_predictions(
    rows: pa.Table, targets: Targets, method: str, repeat: int
) -> TaskPredictions:
    """Build the predictions of one method, task and repeat; raise ValueError if invalid."""
    task, count = targets.task, len(rows)
    # A multilabel task has one row per record and label: all rows of the first label, then all rows
    # of the second, and so on.
    labels = targets.classes if task.kind == "multilabel" else ()
    columns = max(len(labels), 1)
    if count == 0 or count % columns:
        raise ValueError(f"{count} rows of {task.name}")
    count //= columns
    record_id, patient_id = (
        as_ids(rows[name].to_numpy()[:count]) for name in ("record_id", "patient_id")
    )
    truth, predicted = (
        rows[name].to_numpy().astype(np.float64).reshape(columns, count).T
        for name in ("truth", "predicted")
    )
    probability = None
    if task.kind != "regression":
        classes = 2 if labels else len(targets.classes)
        values = _read_lists(rows["probability"], classes)
        probability = values[:, 1].reshape(columns, count).T if labels else values
        highest = 1 if labels else classes - 1
        if not (np.isin(truth, range(highest + 1)).all() and _is_finite(probability)):
            raise ValueError("invalid class or probability")
    if not _is_finite(truth) or not _is_finite(predicted):
        raise ValueError("values are not finite")
    if labels and rows["label"].to_pylist()[::count] != list(labels):
        raise ValueError("labels differ from those of the targets, or are in a different order")
    if not labels:
        truth, predicted = truth[:, 0], predicted[:, 0]
    return TaskPredictions(
        *(task, method, repeat, record_id, patient_id, truth, predicted, probability),
        labels=labels,
    )


def _read_lists(column: pa.ChunkedArray, length: int) -> Float[np.ndarray, "row value"]:
    """Convert a column of lists to a matrix; raise ValueError if a length differs."""
    if column.null_count or not pc.all(pc.equal(pc.list_value_length(column), length)).as_py():
        raise ValueError(f"a list does not have {length} elements")
    values = pc.list_flatten(column).to_numpy().astype(np.float64)
    matrix: np.ndarray = values.reshape(len(column), length)
    return matrix


def _is_finite(values: np.ndarray) -> bool:
    return bool(np.isfinite(values).all())


def _read_gate_weights(
    file: Path, predictions: Mapping[str, Sequence[TaskPredictions]], experts: int
) -> dict[str, list[Float[np.ndarray, "record expert"]]]:
    with translate_read_errors(file):
        table = parse_parquet(read_regular(file, MAX_PARQUET_BYTES), ("task",))
        return {
            task: [
                _align_weights(_select(table, task, prediction.repeat), prediction, experts)
                for prediction in repeats
            ]
            for task, repeats in predictions.items()
        }


def _align_weights(
    rows: pa.Table, predictions: TaskPredictions, experts: int
) -> Float[np.ndarray, "record expert"]:
    """Return the gate weights in the order of the records of `predictions`."""
    record_id = as_ids(rows["record_id"].to_numpy())
    order = np.argsort(record_id)
    index = np.searchsorted(record_id, predictions.record_id, sorter=order)
    positions = order[np.minimum(index, len(order) - 1)]
    if not np.array_equal(record_id[positions], predictions.record_id):
        raise ValueError("records with predictions have no weights")
    weights = _read_lists(rows["weights"], experts)[positions]
    if not _is_finite(weights):
        raise ValueError("weights are not finite")
    return weights


def _read_curves(file: Path) -> tuple[Curves, ...]:
    with open_document(file) as document:
        return tuple(
            {
                method: {
                    task: [NAN if loss is None else loss for loss in losses]
                    for task, losses in by_task.items()
                }
                for method, by_task in repeat.items()
            }
            for repeat in _CURVES.validate_python(document)
        )
