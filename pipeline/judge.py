"""A run judged on other data: every repeat's heads and gate answer for patients they never saw."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet
from jaxtyping import Bool

from enecg.errors import UserError
from enecg.tasks import TASKS, Task
from pipeline.datasets.base import Dataset, RecordIndex, same_patients
from pipeline.datasets.registry import open_dataset
from pipeline.evaluation.evaluate import CONSTANT, Predicted, Score, predictions_table, scores
from pipeline.extraction.request import resolve_device
from pipeline.labels.label_source import resolve_labels
from pipeline.labels.targets import Targets
from pipeline.report.formats import markdown
from pipeline.report.page import TABLES
from pipeline.report.paper import all_other_metrics
from pipeline.report.table import by_task, notes_on_others
from pipeline.report.table import notes as run_notes
from pipeline.runs import finished as runs
from pipeline.runs import run_folder
from pipeline.runs.predictor import Answers, Predictor, load_run
from pipeline.runs.saved_run import SavedRun
from pipeline.training.cache import Features, available, open_same, read_features
from pipeline.training.refill import refill_command
from stores.record_ids import RecordIds, as_ids

EVALUATION = "evaluation.json"


@dataclass(frozen=True)
class Judgement:
    """A run's scores on other data, their table, every answer, and the folder, if any."""

    markdown: str
    scores: tuple[Score, ...]
    predictions: tuple[Predicted, ...]
    folder: Path | None


def judge(
    run: str | Path,
    dataset: str | Dataset,
    store: str | Path,
    *,
    labels: str | Path | None = None,
    out: str | Path | None = None,
    limit: int | None = None,
    device: str = "auto",
) -> Judgement:
    """Judge a run on the records of a data set whose patients it has not seen.

    Of the data set that it was trained on, each repeat is judged on the patients that it was
    neither trained nor validated on; of another, on all. Needs embeddings by the same experts and
    weights; opens no ECG. `labels`: a file in place of the data set's own labels; `limit`: the
    first so many records of the index. Raises UserError or StoreError in a sentence.
    """
    saved = SavedRun(Path(run).expanduser())
    seeds = [one["seed"] for one in saved.cohorts]
    folder = None if out is None else run_folder.check(Path(out), (EVALUATION,), "evaluation")
    where = resolve_device(device)
    source = open_dataset(dataset) if isinstance(dataset, str) else dataset
    given = saved.config["settings"]
    refill = refill_command(
        *(dataset, store, saved.experts, given["weights"], given["pooling"], given["dtype"], limit)
    )
    cache = open_same(store, source.namespace, saved.stores, refill)
    predictors = [load_run(saved.folder, number, where) for number in range(len(seeds))]
    of_run = [targets.task for targets in predictors[0].targets.values()]
    own = [task for task in of_run if task.name not in TASKS]
    paper = [task for task in of_run if task.name in TASKS]
    asked = resolve_labels(source, labels, own, paper, trained=True)

    ids = source.index().record_id[:limit]
    table = asked.table.reindex(ids)
    unseen = np.stack(
        [
            _unseen(saved, number, source.namespace, source.index(), ids)
            for number in range(len(seeds))
        ]
    )
    columns = [task.column for task in of_run if task.column in table]
    wanted = table[columns].notna().any(axis=1).to_numpy() & unseen.any(0)
    there = available(cache, ids[wanted], refill)
    kept = np.isin(ids, there.record_id)
    table, unseen = table[kept], unseen[:, kept]
    tasks, notes = _answerable([one.targets for one in predictors], table, unseen)
    if not tasks:
        raise UserError(
            f"There is nothing to judge {saved.folder} by in {source.namespace}: "
            f"{' '.join(notes)} Give other data, or other labels by --labels."
        )
    features = read_features(cache, there.record_id, where)
    predictions = [
        _predict(number, predictor, features, table, unseen[number], tasks)
        for number, predictor in enumerate(predictors)
    ]
    answers = tuple(one for of_repeat in predictions for one in of_repeat)
    judged = scores(answers)
    config = {
        "run": str(saved.folder.resolve()),
        "trained_on": saved.config["dataset"],
        "dataset": source.namespace,
        "index_digest": source.index().digest,
        "judged_on": _whom(saved, source.namespace),
        "seeds": seeds,
        "tasks": [task.name for task in tasks],
        "experts": list(saved.experts),
        "records": len(there.record_id),
        "records_left_out": there.left_out,
        "notes": [
            *_index_notes(saved, source.namespace, source.index()),
            *asked.notes,
            *notes,
        ],
    }
    text = _told(saved, config, tasks, judged)
    if folder is not None:
        with run_folder.replacing(folder, EVALUATION) as made, run_folder.writing(folder):
            _write(made, config, tasks, judged, answers, text)
    return Judgement(text, judged, answers, folder)


def _unseen(
    saved: SavedRun, repeat: int, namespace: str, index: RecordIndex, record_id: RecordIds
) -> Bool[np.ndarray, " record"]:
    """Which of the first records of an index a repeat knows nothing of the patients of.

    Those whom it was trained or validated on, it knows. Who took a record may be told otherwise
    now than then, so within its namespace it knows whoever has one of its records today, too.
    """
    if not same_patients(saved.config["dataset"], namespace):
        return np.ones(len(record_id), bool)
    known = np.isin(index.patient_id, saved.patients_seen(repeat))
    if namespace == saved.config["dataset"]:
        used = np.isin(index.record_id, saved.records_seen(repeat))
        known |= np.isin(index.patient_id, index.patient_id[used])
    unseen: np.ndarray = ~known[: len(record_id)]
    return unseen


def _index_notes(saved: SavedRun, namespace: str, index: RecordIndex) -> tuple[str, ...]:
    """A sentence where the data set has other records or patients than when the run was trained."""
    if namespace != saved.config["dataset"] or index.digest == saved.config["index_digest"]:
        return ()
    return (
        f"The records or patients of {namespace} are others than when the run was trained; "
        "whoever has one of its records today counts as seen.",
    )


def _whom(saved: SavedRun, namespace: str) -> str:
    trained_on = saved.config["dataset"]
    if same_patients(trained_on, namespace):
        return (
            f"Trained on {trained_on}, judged on those patients of {namespace} that the repeat "
            "was neither trained nor validated on."
        )
    return f"Trained on {trained_on}, judged on {namespace}."


def _answerable(
    targets: Sequence[dict[str, Targets]],
    table: pd.DataFrame,
    unseen: Bool[np.ndarray, "repeat record"],
) -> tuple[tuple[Task, ...], tuple[str, ...]]:
    """The tasks that every repeat can be judged by, and sentences on what is left out."""
    tasks, lacking, notes = [], [], []
    for name, first in targets[0].items():
        task = first.task
        if task.column not in table or table[task.column].isna().all():
            lacking.append(name)
            continue
        labels = table[task.column].dropna()
        if task.kind == "multiclass":
            strange = int((~labels.isin(first.classes)).sum())
            if strange == len(labels):
                notes.append(f"{task.title} is left out: no label is one of the run's classes.")
                continue
            if strange:
                become = f"count as {task.other_class}" if task.other_class else "are left out"
                notes.append(
                    f"{task.title}: {strange} of {len(labels)} labels are not among the run's "
                    f"classes, and {become}."
                )
        known = [
            _known(of_repeat[name], table, mask)
            for of_repeat, mask in zip(targets, unseen, strict=True)
        ]
        if not all(one.any() for one in known):
            notes.append(
                f"{task.title} is left out: a repeat has seen every patient who has a label."
            )
            continue
        tasks.append(task)
    if lacking:
        notes.append(f"There are no labels for {', '.join(lacking)}, which are left out.")
    return tuple(tasks), tuple(notes)


def _known(
    targets: Targets, table: pd.DataFrame, unseen: Bool[np.ndarray, " record"]
) -> Bool[np.ndarray, " record"]:
    known: np.ndarray = unseen & ~np.isnan(targets.encode(table[targets.task.column]))
    return known


def _predict(
    repeat: int,
    predictor: Predictor,
    features: Features,
    table: pd.DataFrame,
    unseen: Bool[np.ndarray, " record"],
    tasks: Sequence[Task],
) -> list[Predicted]:
    """A repeat's answers by every method, the constant predictor's among them."""
    outputs = predictor.outputs(features)
    of_methods: Answers = {CONSTANT: {}} | predictor.answers(outputs)
    found = []
    for method, answers in of_methods.items():
        for task in tasks:
            targets = predictor.targets[task.name]
            known = _known(targets, table, unseen)
            truth = targets.encode(table[task.column])[known]
            if method == CONSTANT:
                said = np.full(len(truth), targets.constant)
                probability = np.tile(targets.shares, (len(truth), 1))
            else:
                said = answers[task.name][known]
                probability = outputs[method][task.name].cpu().numpy()[known]
            regression = task.kind == "regression"
            found.append(
                Predicted(
                    task=task,
                    method=method,
                    repeat=repeat,
                    record_id=features.record_id[known],
                    patient_id=as_ids(table["patient_id"])[known],
                    truth=targets.decode(truth) if regression else truth,
                    predicted=said.astype(np.float64),
                    probability=None if regression else probability.astype(np.float64),
                )
            )
    return found


def _told(
    saved: SavedRun, config: dict[str, Any], tasks: Sequence[Task], judged: Sequence[Score]
) -> str:
    """The tables of an evaluation in Markdown: the paper's metric, the others, and the notes."""
    document = runs.results(tasks, {}, judged)
    run = runs.Run(
        folder=saved.folder,
        config=config,
        provenance={str(place): one for place, one in enumerate(saved.stores)},
        tasks={one["name"]: runs.JudgedTask(**one) for one in document["tasks"]},
        parameters={},
        scores=tuple(judged),
    )
    main = by_task(run, run.methods, f"{saved.folder} on {config['dataset']}")
    # No head was trained here: the column of parameters has nothing to tell.
    main = replace(main, heading=main.heading[:-1], rows=tuple(row[:-1] for row in main.rows))
    others = all_other_metrics(run, run.methods)
    tables = [main, *others]
    told = (*run_notes(run), *notes_on_others(run))
    return markdown([*tables[:-1], replace(tables[-1], notes=told)])


def _write(
    folder: Path,
    config: dict[str, Any],
    tasks: Sequence[Task],
    judged: Sequence[Score],
    answers: Sequence[Predicted],
    text: str,
) -> None:
    """The folder of an evaluation: what was judged on what, the scores, the table, the answers."""
    for name, document in (
        (EVALUATION, config),
        (runs.RESULTS, runs.results(tasks, {}, judged)),
    ):
        (folder / name).write_text(json.dumps(document, indent=1))
    (folder / TABLES).write_text(text)
    pyarrow.parquet.write_table(predictions_table(answers), folder / "predictions.parquet")
