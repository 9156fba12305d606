"""Tables that list and compare runs."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from enecg.errors import UserError
from enecg.tasks import TASKS
from pipeline.evaluation.predictions import ENSEMBLE
from pipeline.report.table import (
    NOT_APPLICABLE,
    Table,
    format_measure,
    method_label,
    score_heading,
)
from pipeline.runs.results import RunResults


def list_runs(runs: Sequence[RunResults]) -> Table:
    """Build a table with one run per row.

    Args:
        runs: Results of the runs.

    Returns:
        Columns for folder, data set, experts, untrained weights, time of completion and EnECG's
        scores: one for each of the paper's tasks in any run, and one for a run's first custom task.
    """
    all_tasks = {name: task for run in runs for name, task in run.tasks.items()}
    tasks = {name: all_tasks[name] for name in TASKS if name in all_tasks}
    has_own_tasks = len(all_tasks) > len(tasks)
    rows = []
    for run in runs:
        config = run.config
        untrained = {label for label in run.weights.values() if label.startswith("random:")}
        rows.append(
            (
                str(run.folder),
                config["dataset"],
                ",".join(run.weights),
                ", ".join(sorted(untrained)) or "no",
                config["finished"].replace("T", " ")[:16],
                *(_format_score(run, name) for name in tasks),
                *([_format_own_tasks(run)] if has_own_tasks else []),
            )
        )
    heading = (f"{name} {task.metric_name} {task.unit}".rstrip() for name, task in tasks.items())
    columns = ("run", "data set", "experts", "untrained", "finished", *heading)
    return Table("", (*columns, *(["custom tasks"] if has_own_tasks else [])), tuple(rows))


def compare_runs(runs: Sequence[RunResults]) -> list[Table]:
    """Build tables of the settings that differ and of the scores, with one column per run.

    Args:
        runs: Results of two or more runs of the same data set.

    Returns:
        The table of settings, with a note on whether the runs have the same seeds and patients, and
        one table of scores per task.

    Raises:
        UserError: The runs have different data sets.
    """
    names = choose_names(runs)
    datasets = {name: run.config["dataset"] for name, run in zip(names, runs, strict=True)}
    if len(set(datasets.values())) > 1:
        listed = ", ".join(f"{name} of {dataset}" for name, dataset in datasets.items())
        raise UserError(
            f"Runs of different data sets cannot be compared: {listed}; pass runs of one data set."
        )
    return [_build_settings_table(runs, names), *_build_score_tables(runs, names)]


def _build_settings_table(runs: Sequence[RunResults], names: Sequence[str]) -> Table:
    configs = [_flatten_config(run) for run in runs]
    keys = dict.fromkeys(key for config in configs for key in config)
    rows = [
        (key, *(config.get(key, "-") for config in configs))
        for key in keys
        if len({config.get(key) for config in configs}) > 1
    ]
    notes = [] if rows else ["The runs have the same settings."]
    if len({run.config["cohorts_digest"] for run in runs}) > 1:
        notes.append(
            "WARNING: the runs have different seeds or patients, so part of the difference between "
            "their scores is due to chance. Seeds and patients depend on --seed, --repeats, "
            "--patients, --ecgs, --limit, --records, folds and the records with embeddings."
        )
    else:
        notes.append("All runs have the same training and test patients.")
    return Table("Settings that differ", ("", *names), tuple(rows), notes=tuple(notes))


def _flatten_config(run: RunResults) -> dict[str, str]:
    """Flatten the settings and stores of a run into a dictionary of strings."""
    config = run.config
    flat: dict[str, str] = {}

    def add(key: str, value: Any) -> None:
        if isinstance(value, dict):
            for name, item in value.items():
                add(f"{key} {name}".strip(), item)
        else:
            flat[key] = value if isinstance(value, str) else json.dumps(value).replace('"', "")

    add("", config["settings"])
    # Replace requested values such as `all` or `auto` with resolved ones.
    for key in ("tasks", "experts", "device", "records"):
        add(key, config[key])
    add("record index", config["index_digest"][:12])
    for store in config["stores"]:
        weights = run.provenance[store["identity"]]["weights"]
        add(f"store of {store['expert']}", f"{weights}, {store['identity']}")
    add("version of", config["versions"])
    return flat


def _build_score_tables(runs: Sequence[RunResults], names: Sequence[str]) -> list[Table]:
    tasks = {name: task for run in runs for name, task in run.tasks.items()}
    tables = []
    for task in tasks.values():
        rows = []
        for method in dict.fromkeys(method for run in runs for method in run.methods):
            scores = [run.score(method, task.name) for run in runs]
            if any(scores):
                labels = dict.fromkeys(
                    method_label(method, run) for run in runs if method in run.methods
                )
                rows.append((" or ".join(labels), *map(format_measure, scores)))
        tables.append(Table(score_heading(task), ("", *names), tuple(rows)))
    repeated = any(len(run.config["seeds"]) > 1 for run in runs)
    value = "Mean ± SD over repeats" if repeated else "Score of one repeat"
    note = f"{value} [95% interval, bootstrap by patient], for each run separately."
    return [*tables[:-1], replace(tables[-1], notes=(note,))]


def _format_own_tasks(run: RunResults) -> str:
    """Format EnECG's score on the first custom task and the number of other custom tasks."""
    names = [name for name in run.tasks if name not in TASKS]
    if not names:
        return NOT_APPLICABLE
    more = f", {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[0]} {_format_score(run, names[0])}{more}"


def _format_score(run: RunResults, task: str) -> str:
    """Format EnECG's score without its interval."""
    return format_measure(run.score(ENSEMBLE, task)).partition(" [")[0]


def choose_names(runs: Sequence[RunResults]) -> list[str]:
    """Return the names of the run folders, or their paths if the names are not unique."""
    names = [run.folder.resolve().name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.folder) for run in runs]
