"""Tables of results: methods down, tasks or metrics across, each number with its interval."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from enecg.metrics import BINS, SECONDARY_METRICS
from pipeline.evaluation.bootstrap import DRAWS, RANK_DRAWS
from pipeline.evaluation.predictions import CONSTANT, ZERO_SHOT
from pipeline.evaluation.scores import Measure
from pipeline.runs.results import RunResults, TaskSummary

NOT_FOR_THIS = "–"
NOT_DEFINED = "not defined"
PARAMETERS = "parameters of heads and gate, trained / all"
HELD_OUT = "Patients are split 70/20/10; every number is of test patients."


@dataclass(frozen=True)
class Table:
    """A heading a column, and rows of cells; `best` marks each column's best method by (row,
    column); `notes` are sentences that belong to it.
    """

    title: str
    heading: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    best: frozenset[tuple[int, int]] = frozenset()
    notes: tuple[str, ...] = ()


def warning(untrained: Sequence[str]) -> str:
    """What holds of all numbers that come from experts without trained weights."""
    return (
        f"Untrained weights: {', '.join(untrained)}. Their weights were drawn at random, so these "
        "numbers say that the pipeline works, not how good the experts are."
    )


def label(method: str, run: RunResults) -> str:
    """A method's name, and what of it is untrained: its experts' weights, its heads."""
    if method == CONSTANT:
        return method
    expert = method.removeprefix(ZERO_SHOT)
    if expert in run.weights:
        told = run.weights[expert]
        untrained = [f"untrained, {told}"] if told.startswith("random:") else []
        heads = ["untrained heads"] if method.startswith(ZERO_SHOT) else []
        return f"{expert} ({'; '.join(heads + untrained)})" if heads + untrained else expert
    if run.untrained:
        return f"{method} (of {len(run.untrained)} untrained experts of {len(run.weights)})"
    return method


def by_task(run: RunResults, methods: Sequence[str], title: str) -> Table:
    """The paper's metric of these methods on every task: mean ± SD over repeats and the 95 %
    interval, with the number of parameters, and the test records at the end.
    """
    tasks = list(run.tasks.values())
    scores = [[run.score(method, task.name) for task in tasks] for method in methods]
    rows = [
        (label(method, run), *(cell(score) for score in of_method), parameters(run, method))
        for method, of_method in zip(methods, scores, strict=True)
    ]
    rows.append(("test records (patients)", *(_counts(run, task.name) for task in tasks), ""))
    best = {
        (_best(methods, [one[place] for one in scores], task.higher_is_better), place + 1)
        for place, task in enumerate(tasks)
    }
    heading = ("", *(_heading(task) for task in tasks), PARAMETERS)
    return Table(title, heading, tuple(rows), frozenset(best))


def other_metrics(run: RunResults, methods: Sequence[str], task: TaskSummary) -> Table | None:
    """The metrics of a task besides the paper's; None where nothing was measured."""
    scores = {method: run.score(method, task.name) for method in methods}
    measured = {
        method: {one.metric: one for one in score.others}
        for method, score in scores.items()
        if score is not None
    }
    metrics = [
        one
        for one in SECONDARY_METRICS[task.kind]
        if any(one.name in of for of in measured.values())
    ]
    if not metrics:
        return None
    columns = [[of.get(metric.name) for of in measured.values()] for metric in metrics]
    rows = [
        (label(method, run), *(cell(column[place]) for column in columns))
        for place, method in enumerate(measured)
    ]
    best = {
        (_best(list(measured), column, metric.higher_is_better), place)
        for place, (metric, column) in enumerate(zip(metrics, columns, strict=True), start=1)
    }
    heading = (
        f"{one.name}{f' {task.unit}' if one.has_unit and task.unit else ''} "
        f"{'↑' if one.higher_is_better else '↓'}"
        for one in metrics
    )
    title = f"{task.title}: other metrics"
    return Table(title, ("", *heading), tuple(rows), frozenset(best))


def notes(run: RunResults) -> tuple[str, ...]:
    """What holds of all tables of a run."""
    seeds = run.config["seeds"]
    interval = f"[95 % interval, bootstrap by patient, {DRAWS:,} draws]"
    if len(seeds) > 1:
        told = [
            f"{len(seeds)} repeats (seeds {', '.join(map(str, seeds))}): mean ± SD over repeats "
            f"{interval}.",
            "The intervals are by patient, given these repeats' heads; how far scores move with "
            "the patients drawn and with training is told by the SD over repeats.",
        ]
    else:
        told = [
            f"1 repeat (seed {seeds[0]}): score {interval}.",
            "The intervals are by patient, given this repeat's heads; how far scores move with "
            "the patients drawn and with training, one repeat cannot tell.",
        ]
    told.append(run.config.get("judged_on", HELD_OUT))
    if run.parameters:
        told.append("Parameters: of heads and gate; the frozen experts' own are not counted.")
    if run.config["records_left_out"]:
        told.append(f"{run.config['records_left_out']} ECGs could not be had and are left out.")
    told += run.config["notes"]
    for task in run.tasks.values():
        told += _gaps(run, task)
    return tuple(told)


def notes_on_others(run: RunResults) -> tuple[str, ...]:
    """How the metrics besides the paper's are made, as far as the run has them."""
    kinds = {task.kind for task in run.tasks.values()}
    told = []
    if kinds - {"regression"}:
        told += [
            f"AUROC and AUPRC rank the records: their intervals are of {RANK_DRAWS} draws. A "
            "constant's AUPRC is the share of the class that it is of.",
            f"ECE: expected calibration error in {BINS} equal bins of the probability, of the "
            "second class where there are two, of the class held most probable where there are "
            "more.",
            "Intervals of ECE and of means over classes are shifted by the bootstrap's own bias: "
            "its draws repeat records and lack rare classes.",
        ]
    if "multiclass" in kinds:
        told.append("Classes without a test record are left out of a mean over classes.")
    return tuple(told)


def cell(measure: Measure | None) -> str:
    """`mean ± SD [low, high]`, with the digits that it bears."""
    if measure is None:
        return NOT_FOR_THIS
    if math.isnan(measure.mean):
        return NOT_DEFINED
    digits = 1 if abs(measure.mean) >= 5 else 2 if abs(measure.mean) >= 1 else 3
    deviation = "" if measure.deviation is None else f" ± {measure.deviation:.{digits}f}"
    interval = f"[{measure.low:.{digits}f}, {measure.high:.{digits}f}]"
    return f"{measure.mean:.{digits}f}{deviation} {interval}"


def parameters(run: RunResults, method: str) -> str:
    """How many parameters of heads and gate a method trains, and how many it has."""
    if method == CONSTANT:
        return "0 / 0"
    if method not in run.parameters:
        return "not counted"
    trained, all_of_them = run.parameters[method]
    return f"{trained:,} / {all_of_them:,}"


def _heading(task: TaskSummary) -> str:
    arrow = "↑" if task.higher_is_better else "↓"
    return f"{task.title}, {task.metric_name}{f' {task.unit}' if task.unit else ''} {arrow}"


def _counts(run: RunResults, task: str) -> str:
    score = next(score for score in run.scores if score.task == task)
    counted = zip(score.n, score.patients, strict=True)
    return " / ".join(f"{n:,} ({patients:,})" for n, patients in counted)


def _best(methods: Sequence[str], column: Sequence[Measure | None], higher_is_better: bool) -> int:
    """The row of the best method; -1 where no method has a value, or none beats the constant."""
    values = {
        row: one.mean if higher_is_better else -one.mean
        for row, one in enumerate(column)
        if one is not None and not math.isnan(one.mean)
    }
    best = max(values, key=lambda row: values[row], default=-1)
    return -1 if best >= 0 and methods[best] == CONSTANT else best


def _gaps(run: RunResults, task: TaskSummary) -> list[str]:
    """Metrics that some repeats, or some draws, have no value of."""
    told = []
    for score in (one for one in run.scores if one.task == task.name):
        for one in (score, *score.others):
            missing = sum(map(math.isnan, one.values))
            if missing:
                told.append(
                    f"{task.title}: {one.metric} is not defined in {missing} of "
                    f"{len(one.values)} repeats, whose test records do not have what it needs "
                    "(two classes, or two values); the mean is that of the others."
                )
    return list(dict.fromkeys(told))
