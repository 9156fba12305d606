"""Contents of `results.json`: conversion to JSON and back."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pydantic import TypeAdapter

from enecg.metrics import NAN
from enecg.tasks import Task
from pipeline.evaluation.differences import Difference
from pipeline.evaluation.label_fractions import LabelFraction
from pipeline.evaluation.scores import Score
from pipeline.runs.task_summary import TaskSummary

Thresholds = Mapping[str, Mapping[str, Sequence[float]]]
"""Thresholds by method, binary task and repeat. Class 1 is predicted if its probability is at least
the threshold; if the threshold is infinite, class 1 is never predicted."""

MAX_CLASSES = 1000
"""Maximum number of classes of a task in a run folder."""

_TASK = TypeAdapter(TaskSummary)
_SCORE = TypeAdapter(Score)
_DIFFERENCE = TypeAdapter(Difference)
_PARAMETERS = TypeAdapter(dict[str, tuple[int, int]])


def results_document(
    tasks: Sequence[Task],
    parameters: Mapping[str, tuple[int, int]],
    scores: Sequence[Score],
    thresholds: Thresholds | None = None,
    *,
    differences: Sequence[Difference] = (),
    label_fractions: Sequence[LabelFraction] = (),
) -> dict[str, Any]:
    """Build the contents of `results.json`.

    Args:
        tasks: Tasks in the order of the columns of tables.
        parameters: Numbers of trainable and of all parameters by method.
        scores: Scores of all methods and tasks.
        thresholds: See `Thresholds`.
        differences: Differences between EnECG and other methods.
        label_fractions: Scores after training on fractions of the patients.

    Returns:
        JSON-serializable values, with None in place of NaN and infinity.
    """
    document: dict[str, Any] = replace_nonfinite(
        {
            "tasks": [asdict(TaskSummary.from_task(task)) for task in tasks],
            "parameters": {name: list(counts) for name, counts in parameters.items()},
            "thresholds": thresholds or {},
            "scores": [asdict(score) for score in scores],
            "differences": [asdict(difference) for difference in differences],
            "label_fractions": [asdict(fraction) for fraction in label_fractions],
        }
    )
    return document


def parse_task(document: dict[str, Any]) -> TaskSummary:
    """Parse a task.

    Args:
        document: Element of `tasks` in `results.json`.

    Returns:
        The task.

    Raises:
        LookupError: A field is missing.
        TypeError: A field has the wrong type.
        ValueError: A field has an invalid value.
    """
    classes = tuple(map(str, document["classes"]))
    expected = range(2, 3) if document["kind"] == "binary" else range(MAX_CLASSES + 1)
    if len(classes) not in expected:
        raise ValueError(f"a {document['kind']} task cannot have {len(classes)} classes")
    return _TASK.validate_python(document | {"classes": classes})


def parse_score(document: dict[str, Any]) -> Score:
    """Parse an element of `scores`, with the same exceptions as `parse_task`."""
    others = [_parse_measure(measure) for measure in document["others"]]
    return _SCORE.validate_python(_parse_measure(document) | {"others": others})


def parse_difference(document: dict[str, Any]) -> Difference:
    """Parse an element of `differences`, with the same exceptions as `parse_task`."""
    return _DIFFERENCE.validate_python(_parse_measure(document))


def parse_fraction(document: dict[str, Any]) -> LabelFraction:
    """Parse an element of `label_fractions`, with the same exceptions as `parse_task`."""
    return LabelFraction(
        float(document["fraction"]),
        tuple(map(int, document["patients"])),
        tuple(map(parse_score, document["scores"])),
    )


def parse_thresholds(document: dict[str, dict[str, list[float | None]]]) -> Thresholds:
    """Parse `thresholds`, with infinity in place of None."""
    return {
        method: {
            task: tuple(math.inf if value is None else value for value in values)
            for task, values in by_task.items()
        }
        for method, by_task in document.items()
    }


def parse_parameters(document: Any) -> dict[str, tuple[int, int]]:
    """Parse `parameters`, with the same exceptions as `parse_task`."""
    return _PARAMETERS.validate_python(document)


def _parse_measure(document: dict[str, Any]) -> dict[str, Any]:
    numbers = {
        name: NAN if document[name] is None else document[name] for name in ("mean", "low", "high")
    }
    values = tuple(NAN if value is None else value for value in document["values"])
    return document | numbers | {"values": values}


def replace_nonfinite(value: Any) -> Any:
    """Replace NaN and infinity, which JSON does not support, with None, and tuples with lists."""
    if isinstance(value, dict):
        return {key: replace_nonfinite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [replace_nonfinite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
