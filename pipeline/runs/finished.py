"""Finished runs, read back from their folders: what every table is made from.

`results.json` holds the tasks, the number of parameters by method, the thresholds of binary tasks,
and all scores.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from enecg.errors import UserError
from enecg.metrics import NAN, Bin
from enecg.tasks import Kind, Task
from pipeline.evaluation.evaluate import CONSTANT, ZERO_SHOT, Measure, Score

CONFIG = "config.json"
RESULTS = "results.json"
PROVENANCE = "provenance.json"
NEEDED = {
    *("dataset", "index_digest", "finished", "settings", "device", "seeds", "cohorts_digest"),
    *("tasks", "notes", "experts", "records", "patients", "records_left_out"),
    *("seconds", "peak_memory_bytes", "stores", "versions"),
}
"""What `config.json` holds at least."""
Thresholds = Mapping[str, Mapping[str, Sequence[float]]]
"""By method and binary task, from which probability on the second class is said, by repeat;
infinite where it never is."""
DEPTH = 3
"""Folders below the one asked for that runs are looked for in."""


@dataclass(frozen=True)
class JudgedTask:
    """What a table needs of a task: the same as in `enecg.tasks.Task`, but for its functions.

    `classes`: of a binary task; a multiclass task's are each repeat's own.
    """

    name: str
    title: str
    kind: Kind
    unit: str
    metric_name: str
    higher_is_better: bool
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """A finished run.

    `config`: the document `config.json`. `provenance`: what defines each store, by identity.
    `parameters`: by method, how many are trained and how many there are in all; empty where they
    were not counted. `thresholds`: empty where they were not kept.
    """

    folder: Path
    config: dict[str, Any]
    provenance: dict[str, dict[str, Any]]
    tasks: dict[str, JudgedTask]
    parameters: dict[str, tuple[int, int]]
    scores: tuple[Score, ...]
    thresholds: Thresholds = field(default_factory=dict)

    @property
    def weights(self) -> dict[str, str]:
        """The weights of each expert, by name, as they were asked for."""
        named = {one["expert"]: one["weights"] for one in self.provenance.values()}
        return {expert: named[expert] for expert in self.config["experts"]}

    @property
    def untrained(self) -> list[str]:
        """The experts whose weights were drawn at random."""
        return [name for name, told in self.weights.items() if told.startswith("random:")]

    @property
    def methods(self) -> list[str]:
        """All methods, in the order of their scores."""
        return list(dict.fromkeys(score.method for score in self.scores))

    @property
    def ensembles(self) -> list[str]:
        """The methods that join experts, EnECG among them."""
        return [
            one
            for one in self.methods
            if one != CONSTANT and one not in self.weights and not one.startswith(ZERO_SHOT)
        ]

    def score(self, method: str, task: str) -> Score | None:
        """A method's score on a task; None where it gave no answers."""
        for score in self.scores:
            if (score.method, score.task) == (method, task):
                return score
        return None


def results(
    tasks: Sequence[Task],
    parameters: Mapping[str, tuple[int, int]],
    scores: Sequence[Score],
    thresholds: Thresholds | None = None,
) -> dict[str, Any]:
    """The document `results.json`; a value that is not defined is null there, as is the threshold
    of a class that is never said.
    """
    document: dict[str, Any] = _finite(
        {
            "tasks": [
                {
                    "name": one.name,
                    "title": one.title,
                    "kind": one.kind,
                    "unit": one.unit,
                    "metric_name": one.metric_name,
                    "higher_is_better": one.higher_is_better,
                    "classes": list(one.classes),
                }
                for one in tasks
            ],
            "parameters": {name: list(counted) for name, counted in parameters.items()},
            "thresholds": thresholds or {},
            "scores": [asdict(one) for one in scores],
        }
    )
    return document


def read(folder: Path) -> Run:
    """Read a run back. Raises UserError where there is none, or it is of an older version."""
    folder = folder.expanduser()
    if not (folder / CONFIG).is_file():
        raise UserError(
            f"{folder} is no run: it has no {CONFIG}; name the folder that enecg train --out made."
        )
    with _understood(folder / CONFIG) as config:
        if not config.keys() >= NEEDED or not config["experts"]:
            raise KeyError(CONFIG)
    with _understood(folder / PROVENANCE) as provenance:
        if not {one["expert"] for one in provenance.values()} >= set(config["experts"]):
            raise KeyError(PROVENANCE)
    with _understood(folder / RESULTS) as document:
        return Run(
            folder=folder,
            config=config,
            provenance=provenance,
            tasks={
                one["name"]: JudgedTask(**one | {"classes": tuple(one["classes"])})
                for one in document["tasks"]
            },
            parameters={name: (own, all_) for name, (own, all_) in document["parameters"].items()},
            scores=tuple(_score(one) for one in document["scores"]),
            thresholds=_thresholds(document.get("thresholds", {})),
        )


@contextmanager
def _understood(file: Path) -> Iterator[Any]:
    """A JSON document, and a sentence that names its file where what is done with it fails."""
    try:
        yield json.loads(file.read_text())
    except FileNotFoundError as error:
        raise UserError(
            f"{file.parent} is not whole: its {file.name} is not there; train again."
        ) from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{file} was written by another version of EnECG, or is damaged; train again."
        ) from error


def find(folder: Path) -> Iterator[Path]:
    """The folders of runs in a folder, itself or below it, by name.

    Raises UserError where there is no such folder.
    """
    folder = folder.expanduser()
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}; name one that holds runs.")
    yield from _find(folder, DEPTH)


def _find(folder: Path, depth: int) -> Iterator[Path]:
    if (folder / CONFIG).is_file() and (folder / RESULTS).is_file():
        yield folder
    elif depth:
        for below in sorted(one for one in folder.iterdir() if one.is_dir()):
            yield from _find(below, depth - 1)


def _score(told: dict[str, Any]) -> Score:
    others = tuple(Measure(**_measured(one)) for one in told["others"])
    bins = tuple(Bin(**one) for one in told["reliability"])
    counted = {name: tuple(told[name]) for name in ("n", "patients")}
    return Score(**_measured(told) | counted | {"others": others, "reliability": bins})


def _thresholds(told: dict[str, dict[str, list[float | None]]]) -> Thresholds:
    return {
        method: {
            task: tuple(math.inf if one is None else one for one in of_repeats)
            for task, of_repeats in of_tasks.items()
        }
        for method, of_tasks in told.items()
    }


def _measured(told: dict[str, Any]) -> dict[str, Any]:
    numbers = {name: NAN if told[name] is None else told[name] for name in _NUMBERS}
    values = tuple(NAN if one is None else one for one in told["values"])
    return told | numbers | {"values": values}


_NUMBERS = ("mean", "low", "high")


def _finite(value: Any) -> Any:
    """A JSON value, null for NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
