"""Results of a finished run: `results.json`, `config.json` and `provenance.json`."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from enecg.errors import UserError
from enecg.metrics import NAN, Bin
from enecg.tasks import Kind, Task
from pipeline.evaluation.predictions import CONSTANT, ZERO_SHOT
from pipeline.evaluation.scores import Measure, Score

CONFIG = "config.json"
RESULTS = "results.json"
PROVENANCE = "provenance.json"
CONFIG_KEYS = {
    *("dataset", "index_digest", "finished", "settings", "device", "seeds", "cohorts_digest"),
    *("tasks", "notes", "experts", "records", "patients", "records_left_out"),
    *("seconds", "peak_memory_bytes", "stores", "versions"),
}
"""Required keys of `config.json`."""
Thresholds = Mapping[str, Mapping[str, Sequence[float]]]
"""Thresholds by method, binary task and repeat: the lowest probability for which class 1 is
predicted; infinity if it never is."""
SEARCH_DEPTH = 3
"""Levels of subfolders that `find_runs` searches."""


@dataclass(frozen=True)
class TaskSummary:
    """The fields of `enecg.tasks.Task` that tables need.

    Attributes:
        name: Name in files and options.
        title: Name in tables.
        kind: ``"regression"``, ``"binary"`` or ``"multiclass"``.
        unit: Unit of a regression; empty otherwise.
        metric_name: The main metric.
        higher_is_better: Direction of the main metric.
        classes: Class names of a binary task; empty otherwise, because each repeat of a
            multiclass task has its own.
    """

    name: str
    title: str
    kind: Kind
    unit: str
    metric_name: str
    higher_is_better: bool
    classes: tuple[str, ...]

    @classmethod
    def from_task(cls, task: Task) -> Self:
        """Take the fields from a task."""
        return cls(**{one.name: getattr(task, one.name) for one in fields(cls)})


@dataclass(frozen=True)
class RunResults:
    """Results of a finished run or evaluation.

    Attributes:
        folder: Run folder.
        config: Contents of `config.json`.
        provenance: Provenance of each store, by identity.
        tasks: Tasks by name.
        parameters: Trainable and total parameters by method; empty if not counted.
        scores: Scores of all methods and tasks.
        thresholds: See `Thresholds`; empty if not recorded.
    """

    folder: Path
    config: dict[str, Any]
    provenance: dict[str, dict[str, Any]]
    tasks: dict[str, TaskSummary]
    parameters: dict[str, tuple[int, int]]
    scores: tuple[Score, ...]
    thresholds: Thresholds = field(default_factory=dict)

    @property
    def weights(self) -> dict[str, str]:
        """Weights of each expert by name, as requested: ``"published"``, ``"random:0"``, ..."""
        weights = {one["expert"]: one["weights"] for one in self.provenance.values()}
        return {expert: weights[expert] for expert in self.config["experts"]}

    @property
    def untrained(self) -> list[str]:
        """Names of experts with random weights."""
        return [name for name, weights in self.weights.items() if weights.startswith("random:")]

    @property
    def methods(self) -> list[str]:
        """All methods, in the order of the scores."""
        return list(dict.fromkeys(score.method for score in self.scores))

    @property
    def ensembles(self) -> list[str]:
        """Methods that combine experts, including EnECG."""
        return [
            method
            for method in self.methods
            if method != CONSTANT
            and method not in self.weights
            and not method.startswith(ZERO_SHOT)
        ]

    def score(self, method: str, task: str) -> Score | None:
        """Return the score of a method on a task, None if the method does not support it."""
        for score in self.scores:
            if (score.method, score.task) == (method, task):
                return score
        return None


def results_document(
    tasks: Sequence[Task],
    parameters: Mapping[str, tuple[int, int]],
    scores: Sequence[Score],
    thresholds: Thresholds | None = None,
) -> dict[str, Any]:
    """Build the contents of `results.json`.

    Args:
        tasks: Tasks, in order.
        parameters: Trainable and total parameters by method.
        scores: Scores of all methods and tasks.
        thresholds: See `Thresholds`.

    Returns:
        JSON values; NaN and infinity become null.
    """
    document: dict[str, Any] = _replace_nonfinite(
        {
            "tasks": [asdict(TaskSummary.from_task(task)) for task in tasks],
            "parameters": {name: list(counts) for name, counts in parameters.items()},
            "thresholds": thresholds or {},
            "scores": [asdict(score) for score in scores],
        }
    )
    return document


def check_run_folder(folder: Path) -> None:
    """Raise UserError if `folder` is not a run folder."""
    if not (folder / CONFIG).is_file():
        raise UserError(
            f"{folder} is not a run folder: {CONFIG} is missing. Pass the folder that was given "
            "to enecg train by --out."
        )


def read_results(folder: Path) -> RunResults:
    """Read the results of a run.

    Args:
        folder: Run folder.

    Returns:
        Its configuration, provenance and scores.

    Raises:
        UserError: `folder` is not a run folder, a file is missing, or a file is damaged or was
            written by another version.
    """
    folder = folder.expanduser()
    check_run_folder(folder)
    with _read_json(folder / CONFIG) as config:
        if not config.keys() >= CONFIG_KEYS or not config["experts"]:
            raise UserError(_damaged(folder / CONFIG))
    with _read_json(folder / PROVENANCE) as provenance:
        if not {one["expert"] for one in provenance.values()} >= set(config["experts"]):
            raise UserError(_damaged(folder / PROVENANCE))
    with _read_json(folder / RESULTS) as document:
        return RunResults(
            folder=folder,
            config=config,
            provenance=provenance,
            tasks={
                one["name"]: TaskSummary(**one | {"classes": tuple(one["classes"])})
                for one in document["tasks"]
            },
            parameters={
                name: (trainable, total)
                for name, (trainable, total) in document["parameters"].items()
            },
            scores=tuple(_parse_score(one) for one in document["scores"]),
            thresholds=_parse_thresholds(document.get("thresholds", {})),
        )


@contextmanager
def _read_json(file: Path) -> Iterator[Any]:
    """Yield a JSON document; errors in reading or using it become a UserError naming the file."""
    try:
        yield json.loads(file.read_text())
    except FileNotFoundError as error:
        raise UserError(
            f"{file.parent} is incomplete: {file.name} is missing. Train again."
        ) from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(_damaged(file)) from error


def _damaged(file: Path) -> str:
    return f"{file} is damaged or was written by another version of EnECG. Train again."


def find_runs(folder: Path) -> Iterator[Path]:
    """Find run folders in a folder and up to `SEARCH_DEPTH` levels below.

    Args:
        folder: Folder to search; may be a run folder itself.

    Yields:
        Run folders in order of their names. Folders inside a run folder are not searched.

    Raises:
        UserError: The folder does not exist.
    """
    folder = folder.expanduser()
    if not folder.is_dir():
        raise UserError(f"The folder {folder} does not exist; pass one that contains runs.")
    yield from _find_runs(folder, SEARCH_DEPTH)


def _find_runs(folder: Path, depth: int) -> Iterator[Path]:
    if (folder / CONFIG).is_file() and (folder / RESULTS).is_file():
        yield folder
    elif depth:
        for subfolder in sorted(path for path in folder.iterdir() if path.is_dir()):
            yield from _find_runs(subfolder, depth - 1)


def _parse_score(document: dict[str, Any]) -> Score:
    others = tuple(Measure(**_parse_measure(one)) for one in document["others"])
    bins = tuple(Bin(**one) for one in document["reliability"])
    counts = {name: tuple(document[name]) for name in ("n", "patients")}
    return Score(**_parse_measure(document) | counts | {"others": others, "reliability": bins})


def _parse_thresholds(document: dict[str, dict[str, list[float | None]]]) -> Thresholds:
    return {
        method: {
            task: tuple(math.inf if value is None else value for value in values)
            for task, values in by_task.items()
        }
        for method, by_task in document.items()
    }


def _parse_measure(document: dict[str, Any]) -> dict[str, Any]:
    numbers = {
        name: NAN if document[name] is None else document[name] for name in ("mean", "low", "high")
    }
    values = tuple(NAN if value is None else value for value in document["values"])
    return document | numbers | {"values": values}


def _replace_nonfinite(value: Any) -> Any:
    """Replace NaN and infinity by None, and tuples by lists; JSON has neither."""
    if isinstance(value, dict):
        return {key: _replace_nonfinite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_replace_nonfinite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
