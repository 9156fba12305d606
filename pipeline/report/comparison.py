"""Runs side by side: a list of them, and what two or more differ in, settings before scores."""

import json
from collections.abc import Sequence
from typing import Any

from enecg.errors import UserError
from enecg.tasks import TASKS
from pipeline.evaluation.predictions import ENSEMBLE
from pipeline.report.table import NOT_FOR_THIS, Table, cell, label
from pipeline.runs.results import RunResults


def listed(runs: Sequence[RunResults]) -> Table:
    """A row a run: data set, experts, when, and EnECG's scores: a column for each of the paper's
    tasks that any of them has, and one for all tasks of a lab's own.
    """
    asked = {name: task for run in runs for name, task in run.tasks.items()}
    tasks = {name: asked[name] for name in TASKS if name in asked}
    own = len(asked) > len(tasks)
    rows = []
    for run in runs:
        config = run.config
        weights = {told for told in run.weights.values() if told.startswith("random:")}
        rows.append(
            (
                str(run.folder),
                config["dataset"],
                ",".join(run.weights),
                ", ".join(sorted(weights)) or "no",
                config["finished"].replace("T", " ")[:16],
                *(_short(run, name) for name in tasks),
                *([_own(run)] if own else []),
            )
        )
    heading = (f"{name} {task.metric_name} {task.unit}".rstrip() for name, task in tasks.items())
    columns = ("run", "data set", "experts", "untrained", "finished", *heading)
    return Table("", (*columns, *(["own tasks"] if own else [])), tuple(rows))


def compare(runs: Sequence[RunResults]) -> list[Table]:
    """Differences of the settings, then the scores on each task, a column a run.

    Raises UserError where the runs are of different data sets. Where the patients differ, the
    first table says so.
    """
    names = _names(runs)
    datasets = {name: run.config["dataset"] for name, run in zip(names, runs, strict=True)}
    if len(set(datasets.values())) > 1:
        told = ", ".join(f"{name} of {dataset}" for name, dataset in datasets.items())
        raise UserError(
            f"These runs are of different data sets ({told}): their scores cannot be compared."
        )
    return [_settings(runs, names), *_scores(runs, names)]


def _settings(runs: Sequence[RunResults], names: Sequence[str]) -> Table:
    """What the runs were asked for and read, as far as it differs."""
    flat = [_flat(run) for run in runs]
    keys = dict.fromkeys(key for one in flat for key in one)
    rows = [
        (key, *(one.get(key, "-") for one in flat))
        for key in keys
        if len({one.get(key) for one in flat}) > 1
    ]
    return Table("Settings that differ", ("", *names), tuple(rows), notes=_cohorts(runs, rows))


def _cohorts(runs: Sequence[RunResults], rows: Sequence[object]) -> tuple[str, ...]:
    told = [] if rows else ["None: these runs were made alike."]
    if len({run.config["cohorts_digest"] for run in runs}) > 1:
        told.append(
            "WARNING: these runs were trained and tested on different patients, so that their "
            "scores differ by chance too; the same --seed, --repeats, --patients and --limit, and "
            "experts with the same records, give the same patients."
        )
    else:
        told.append("The same patients were trained and tested on in all of them.")
    return tuple(told)


def _flat(run: RunResults) -> dict[str, str]:
    """The settings and the stores of a run, one value a key."""
    config = run.config
    flat: dict[str, str] = {}

    def add(key: str, value: Any) -> None:
        if isinstance(value, dict):
            for name, one in value.items():
                add(f"{key} {name}".strip(), one)
        else:
            flat[key] = value if isinstance(value, str) else json.dumps(value).replace('"', "")

    add("", config["settings"])
    # What came of the settings says more than what was asked for, such as `all`.
    for key in ("tasks", "experts", "device", "records"):
        add(key, config[key])
    add("index of records", config["index_digest"][:12])
    for store in config["stores"]:
        made = run.provenance[store["identity"]]
        add(f"store of {store['expert']}", f"{made['weights']}, {store['identity']}")
    add("version of", config["versions"])
    return flat


def _scores(runs: Sequence[RunResults], names: Sequence[str]) -> list[Table]:
    """A table a task: a row a method of any run, a column a run."""
    tasks = {name: task for run in runs for name, task in run.tasks.items()}
    tables = []
    for task in tasks.values():
        rows = []
        for method in dict.fromkeys(one for run in runs for one in run.methods):
            scores = [run.score(method, task.name) for run in runs]
            if any(scores):
                told = dict.fromkeys(label(method, run) for run in runs if method in run.methods)
                rows.append((" or ".join(told), *map(cell, scores)))
        arrow = "↑" if task.higher_is_better else "↓"
        title = f"{task.title}, {task.metric_name} {task.unit}".rstrip()
        tables.append(Table(f"{title} {arrow}", ("", *names), tuple(rows)))
    repeated = any(len(run.config["seeds"]) > 1 for run in runs)
    what = "Mean ± SD over repeats" if repeated else "One repeat's score"
    note = f"{what} [95 % interval, bootstrap by patient]; of each run by itself."
    return [
        Table(one.title, one.heading, one.rows, notes=(note,) if one is tables[-1] else ())
        for one in tables
    ]


def _own(run: RunResults) -> str:
    """EnECG's score on the first of a run's own tasks, and how many more it has."""
    names = [name for name in run.tasks if name not in TASKS]
    if not names:
        return NOT_FOR_THIS
    more = f", {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[0]} {_short(run, names[0])}{more}"


def _short(run: RunResults, task: str) -> str:
    score = run.score(ENSEMBLE, task)
    return cell(score).partition(" [")[0] if score is not None else NOT_FOR_THIS


def _names(runs: Sequence[RunResults]) -> list[str]:
    """The runs by the names of their folders, in full where two are alike."""
    short = [run.folder.resolve().name for run in runs]
    return short if len(set(short)) == len(short) else [str(run.folder) for run in runs]
