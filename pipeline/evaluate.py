"""Evaluate a saved run on other data."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet

from enecg.errors import UserError
from enecg.tasks import TASKS, Task
from pipeline.datasets.base import Dataset
from pipeline.datasets.registry import open_dataset
from pipeline.datasets.selection import select_records
from pipeline.evaluation.evaluable_tasks import select_tasks
from pipeline.evaluation.predictions import TaskPredictions, predictions_table
from pipeline.evaluation.scores import Score, compute_scores
from pipeline.extraction.request import StoreSelection, extract_command, resolve_device
from pipeline.labels.folds import Folds, describe_test_folds, read_folds
from pipeline.labels.label_source import resolve_labels
from pipeline.report.evaluation_tables import evaluation_tables
from pipeline.report.formats import to_markdown
from pipeline.report.results_file import TABLES
from pipeline.runs.output_folder import check_output, replace_output
from pipeline.runs.predictor import load_predictor
from pipeline.runs.repeat_predictions import predict_repeat
from pipeline.runs.results import RESULTS
from pipeline.runs.results_document import results_document
from pipeline.runs.saved_run import SavedRun
from pipeline.runs.unseen_patients import describe_patients, find_unseen, note_changed_index
from pipeline.training.features import find_complete, read_features
from pipeline.training.pretraining_patients import ListPaths, check_unseen, find_pretrained
from pipeline.training.store_selection import open_by_provenance
from pipeline.training.torch_state import single_thread
from pipeline.waveforms.options import DecodeOptions

EVALUATION = "evaluation.json"


@dataclass(frozen=True)
class Evaluation:
    """Results of evaluating a run on other data.

    Attributes:
        markdown: Tables and notes in Markdown.
        scores: Scores of all methods and tasks.
        predictions: Predictions of all methods, tasks and repeats.
        folder: Output folder; None if the results were not written.
    """

    markdown: str
    scores: tuple[Score, ...]
    predictions: tuple[TaskPredictions, ...]
    folder: Path | None


def evaluate(
    run: str | Path,
    dataset: str | Dataset,
    store: str | Path,
    *,
    labels: str | Path | None = None,
    out: str | Path | None = None,
    limit: int | None = None,
    records: str | Path | None = None,
    folds: Folds | None = None,
    device: str = "auto",
    exclude_pretrained: bool = False,
    pretraining_patients: Sequence[str] = (),
) -> Evaluation:
    """Evaluate a run on patients that are not among its training and validation patients.

    Embeddings are read from stores with the run's provenance except for the data set. Waveforms are
    not read. If the run was trained on the same data set or on one with the same patients, each
    repeat is evaluated without its own training and validation patients, otherwise on all patients.

    Args:
        run: The run folder.
        dataset: A data set, or its spec such as ``"mimic-iv-ecg:/data/mimic"``.
        store: Root folder or URL of the stores.
        labels: CSV or Parquet file of labels. Default: the data set's own labels.
        out: Output folder for scores, tables and predictions. Default: nothing is written.
        limit: Use only the first `limit` records of the data set's index. Default: all.
        records: File of the ids of the records to use, as read by `read_record_ids`; applied
            before `limit`. Default: all.
        folds: Table of folds; only the records of its test folds are evaluated. Default: all.
        device: Torch device, such as ``"cuda:1"``; ``"auto"`` selects a GPU if available.
        exclude_pretrained: Whether to exclude the pretraining patients of the experts, instead of
            raising an error.
        pretraining_patients: Files with lists of pretraining patients, for lists that are neither
            in the run folder nor beside the weights.

    Returns:
        Scores with bootstrap intervals by patient, and the predictions.

    Raises:
        UserError: An argument is invalid, a patient was in the pretraining data of an expert and
            `exclude_pretrained` is False, or no task can be evaluated.
        StoreError: Embeddings have not been extracted, or a store is damaged.
    """
    saved = SavedRun(Path(run).expanduser())
    repeats = range(len(saved.cohorts))
    folder = None if out is None else check_output(Path(out), (EVALUATION,), "evaluation")
    device = resolve_device(device)
    source = open_dataset(dataset) if isinstance(dataset, str) else dataset
    settings = saved.config["settings"]
    selection = StoreSelection(
        saved.experts,
        tuple(settings["weights"]),
        tuple(settings["pooling"]),
        settings["dtype"],
        tuple(settings.get("expert_settings", ())),
        DecodeOptions.from_json(settings.get("decoding", {})),
        tuple(settings.get("precision", ("float32",))),
    )
    command = extract_command(dataset, store, selection, limit, records)
    cache = open_by_provenance(store, source.namespace, saved.stores, command)
    predictors = [load_predictor(saved.folder, repeat, device) for repeat in repeats]
    trained = [targets.task for targets in predictors[0].targets.values()]
    own_tasks = [task for task in trained if task.name not in TASKS]
    paper_tasks = [task for task in trained if task.name in TASKS]
    label_source = resolve_labels(
        source,
        labels,
        own_tasks,
        paper_tasks,
        missing_values=settings.get("missing_values", ()),
        trained=True,
    )

    record_id = select_records(source.index().record_id, limit=limit, records=records)
    assignment = None if folds is None else read_folds(folds, source.index(), parts=("test",))
    if assignment is not None:
        record_id = record_id[assignment.part.reindex(record_id).notna().to_numpy()]
    table = label_source.table.reindex(record_id)
    unseen = find_unseen(saved, source, record_id)
    columns = [task.column for task in trained if task.column in table]
    labeled = table[columns].notna().any(axis=1).to_numpy()
    complete = find_complete(cache.stores, record_id[labeled & unseen.any(0)], command)
    is_complete = np.isin(record_id, complete.record_id)
    table, unseen = table[is_complete], unseen[:, is_complete]
    unseen, pretraining_notes = check_unseen(
        unseen,
        find_pretrained(
            saved.stores,
            source.namespace,
            ListPaths(settings["weights"], pretraining_patients, saved.folder),
        ),
        source.index().patient_id[pd.Index(source.index().record_id).get_indexer(table.index)],
        exclude=exclude_pretrained,
    )
    tasks, notes = select_tasks([predictor.targets for predictor in predictors], table, unseen)
    if not tasks:
        raise UserError(
            f"{saved.folder} has no task that can be evaluated on {source.namespace}. "
            f"{' '.join(notes)} Choose another data set, or pass a label file as --labels."
        )
    features = read_features(cache, complete.record_id, device)
    predictions = tuple(
        prediction
        for repeat in repeats
        for prediction in predict_repeat(
            repeat, predictors[repeat], features, table, unseen[repeat], tasks
        )
    )
    with single_thread():
        scores = compute_scores(predictions)
    config = {
        "run": str(saved.folder.resolve()),
        "trained_on": saved.config["dataset"],
        "dataset": source.namespace,
        "index_digest": source.index().digest,
        "judged_on": describe_patients(saved, source.namespace),
        "seeds": [cohort["seed"] for cohort in saved.cohorts],
        "tasks": [task.name for task in tasks],
        "experts": list(saved.experts),
        "records": len(complete.record_id),
        "records_left_out": complete.skipped,
        "notes": [
            *note_changed_index(saved, source),
            *label_source.notes,
            *notes,
            *pretraining_notes,
            *([] if assignment is None else [describe_test_folds(assignment, len(record_id))]),
        ],
    }
    if assignment is not None:
        config["evaluated_folds"] = assignment.to_document()
    text = to_markdown(evaluation_tables(saved, config, tasks, scores))
    evaluation = Evaluation(text, scores, predictions, folder)
    if folder is not None:
        with replace_output(folder, EVALUATION) as unfinished:
            _write_evaluation(unfinished, config, tasks, evaluation)
    return evaluation


def _write_evaluation(
    folder: Path, config: dict[str, Any], tasks: tuple[Task, ...], evaluation: Evaluation
) -> None:
    results = results_document(tasks, {}, evaluation.scores)
    for name, document in ((EVALUATION, config), (RESULTS, results)):
        (folder / name).write_text(json.dumps(document, indent=1), encoding="utf-8")
    (folder / TABLES).write_text(evaluation.markdown, encoding="utf-8")
    pyarrow.parquet.write_table(
        predictions_table(evaluation.predictions), folder / "predictions.parquet"
    )
