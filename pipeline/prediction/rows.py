"""Predictions as flat rows for CSV and Parquet, and as JSON documents."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from pipeline.labels.targets import Targets
from pipeline.prediction.live_run import LiveRun
from pipeline.prediction.predicted import EcgPrediction, RefusedEcg, TaskPrediction

SEPARATOR = "; "
"""Separator of the classes of a set, and of warnings, in one cell."""

Result = EcgPrediction | RefusedEcg


def make_schema(live: LiveRun, tasks: Sequence[str], record: pa.DataType) -> pa.Schema:
    """Return the columns of the flat rows of a run.

    Args:
        live: The run.
        tasks: Names of the tasks.
        record: Type of record ids.

    Returns:
        Columns ``record``, ``status`` (``predicted`` or ``refused``), ``reason`` and ``detail`` of
        a refusal; the columns of each task; ``distance_EXPERT``; ``warnings`` and ``notice``. A
        regression ``age`` has the columns ``age``, ``age_unit``, ``age_low``, ``age_high`` and
        ``age_weight_EXPERT``. A classification ``sex`` has the columns ``sex``, ``sex_set``,
        ``sex_p_CLASS`` and ``sex_weight_EXPERT``.
    """
    fields = [("record", record), *((name, pa.string()) for name in ("status", "reason", "detail"))]
    experts = live.saved.experts
    for task in tasks:
        if live.repeats[0].targets[task].task.kind == "regression":
            fields += [(task, pa.float64()), (f"{task}_unit", pa.string())]
            fields += [(f"{task}_{bound}", pa.float64()) for bound in ("low", "high")]
        else:
            classes = _classes([repeat.targets[task] for repeat in live.repeats])
            fields += [(task, pa.string()), (f"{task}_set", pa.string())]
            fields += [(f"{task}_p_{name}", pa.float64()) for name in classes]
        fields += [(f"{task}_weight_{name}", pa.float64()) for name in experts]
    fields += [(f"distance_{name}", pa.float64()) for name in experts]
    return pa.schema([*fields, ("warnings", pa.string()), ("notice", pa.string())])


def _classes(targets_by_repeat: Sequence[Targets]) -> tuple[str, ...]:
    """Return the classes of all repeats, each once."""
    return tuple(dict.fromkeys(name for targets in targets_by_repeat for name in targets.classes))


def to_row(result: Result) -> dict[str, Any]:
    """Return a prediction or refusal as a flat row; columns without a value are omitted."""
    if isinstance(result, RefusedEcg):
        return {
            "record": result.record,
            "status": "refused",
            "reason": result.reason,
            "detail": result.detail,
            "notice": result.notice,
        }
    row: dict[str, Any] = {"record": result.record, "status": "predicted"}
    for task, prediction in result.tasks.items():
        row |= _task_row(task, prediction)
        row |= {f"{task}_weight_{name}": weight for name, weight in prediction.weights.items()}
    row |= {f"distance_{name}": distance for name, distance in result.distances.items()}
    if result.warnings:
        row["warnings"] = SEPARATOR.join(result.warnings)
    return row | {"notice": result.notice}


def _task_row(task: str, prediction: TaskPrediction) -> dict[str, Any]:
    if prediction.kind == "regression":
        row: dict[str, Any] = {task: prediction.value, f"{task}_unit": prediction.unit}
        bounds = prediction.interval or ()
        return row | dict(zip((f"{task}_low", f"{task}_high"), bounds, strict=False))
    row = {task: SEPARATOR.join(prediction.labels)}
    if prediction.prediction_set is not None:
        row[f"{task}_set"] = SEPARATOR.join(prediction.prediction_set)
    return row | {f"{task}_p_{name}": value for name, value in prediction.probabilities.items()}


def to_document(result: Result, coverage: float) -> dict[str, Any]:
    """Return a prediction or refusal as JSON values.

    Args:
        result: The prediction or refusal.
        coverage: Coverage of intervals and prediction sets.

    Returns:
        ``record`` and ``notice``, with either ``refused`` or ``tasks``, ``distances`` and
        ``warnings``.
    """
    if isinstance(result, RefusedEcg):
        refused = {"reason": result.reason, "detail": result.detail}
        return {"record": result.record, "refused": refused, "notice": result.notice}
    return {
        "record": result.record,
        "tasks": {name: _task_document(one, coverage) for name, one in result.tasks.items()},
        "distances": dict(result.distances),
        "warnings": list(result.warnings),
        "notice": result.notice,
    }


def _task_document(prediction: TaskPrediction, coverage: float) -> Mapping[str, Any]:
    weights = dict(prediction.weights)
    if prediction.kind == "regression":
        return {
            "value": prediction.value,
            "unit": prediction.unit,
            "interval": None if prediction.interval is None else list(prediction.interval),
            "coverage": coverage,
            "weights": weights,
        }
    predicted: Any = list(prediction.labels)
    return {
        **({"labels": predicted} if prediction.kind == "multilabel" else {"class": predicted[0]}),
        "probabilities": dict(prediction.probabilities),
        "prediction_set": None
        if prediction.prediction_set is None
        else list(prediction.prediction_set),
        "coverage": coverage,
        "weights": weights,
    }
