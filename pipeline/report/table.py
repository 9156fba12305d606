"""The results table: methods down, tasks across, in Markdown and as rows for the page."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

from enecg.tasks import TASKS
from pipeline.cache import Cache
from pipeline.evaluate import ENSEMBLE, Score
from pipeline.repeat import Inputs


@dataclass(frozen=True)
class Table:
    """A heading a column, and rows of cells; `best` marks each task's best method."""

    heading: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    best: frozenset[tuple[int, int]]
    notes: tuple[str, ...]


def label(method: str, cache: Cache) -> str:
    """A method's name, and that its weights are untrained where they are."""
    if method in cache.experts:
        weights = cache.experts[method].provenance["weights"]
        return f"{method} (untrained, {weights})" if weights.startswith("random:") else method
    untrained = [
        name
        for name, store in cache.experts.items()
        if store.provenance["weights"].startswith("random:")
    ]
    if method == ENSEMBLE and untrained:
        return f"{method} (of {len(untrained)} untrained experts of {len(cache.experts)})"
    return method


def tabulate(scores: Sequence[Score], inputs: Inputs, seeds: Sequence[int]) -> Table:
    """Every method on every task: mean ± SD over repeats, and the 95 % interval by patient."""
    cache = inputs.cache
    tasks = list(dict.fromkeys(score.task for score in scores))
    methods = list(dict.fromkeys(score.method for score in scores))
    by_cell = {(score.method, score.task): score for score in scores}
    rows = [
        (label(method, cache), *(_cell(by_cell.get((method, task))) for task in tasks))
        for method in methods
    ]
    counted = [by_cell[methods[0], task] for task in tasks]
    rows.append(
        (
            "test records (patients)",
            *(
                " / ".join(f"{n} ({patients})" for n, patients in zip(s.n, s.patients, strict=True))
                for s in counted
            ),
        )
    )
    best = set()
    for column, task in enumerate(tasks, start=1):
        means = [one.mean if (one := by_cell.get((method, task))) else nan for method in methods]
        pick = max(means) if TASKS[task].higher_is_better else min(means)
        best.add((means.index(pick), column))
    notes = (
        f"{len(seeds)} repeats (seeds {', '.join(map(str, seeds))}): mean ± SD over repeats "
        "[95 % interval, bootstrap by patient].",
        "Patients are split 70/20/10; every number is of test patients.",
        *_left_out(inputs),
    )
    return Table(("", *(_heading(task) for task in tasks)), tuple(rows), frozenset(best), notes)


def _left_out(inputs: Inputs) -> list[str]:
    unlabelled = [name for name, task in TASKS.items() if task.column not in inputs.labels]
    notes = []
    if inputs.left_out:
        notes.append(f"{inputs.left_out} ECGs could not be had and are left out.")
    if unlabelled:
        notes.append(f"The data set has no labels for {', '.join(unlabelled)}.")
    return notes


def markdown(scores: Sequence[Score], inputs: Inputs, seeds: Sequence[int]) -> str:
    """The table in Markdown, its columns aligned for a terminal."""
    table = tabulate(scores, inputs, seeds)
    lines = [table.heading, *table.rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(table.heading))]
    told = [f"| {' | '.join(map(str.ljust, line, widths))} |" for line in lines]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([told[0], rule, *told[1:], "", *table.notes]) + "\n"


def number(task: str, value: float) -> str:
    """A metric with the digits that it bears."""
    return f"{value:.3f}" if TASKS[task].higher_is_better else f"{value:.1f}"


def _heading(task: str) -> str:
    it = TASKS[task]
    arrow = "↑" if it.higher_is_better else "↓"
    return f"{it.title}, {it.metric_name}{f' {it.unit}' if it.unit else ''} {arrow}"


def _cell(score: Score | None) -> str:
    if score is None:
        return "not for regressions"
    deviation = "" if score.deviation is None else f" ± {number(score.task, score.deviation)}"
    low, high = number(score.task, score.low), number(score.task, score.high)
    return f"{number(score.task, score.mean)}{deviation} [{low}, {high}]"
