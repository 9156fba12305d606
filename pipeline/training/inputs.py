"""Inputs of a training run: stores, records, labels and tasks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from enecg.errors import UserError
from enecg.experts import Expert
from enecg.tasks import ALL, TASKS, Task, parse_tasks, select_tasks
from pipeline.datasets.base import Dataset, decoding_of
from pipeline.datasets.registry import resolve_dataset
from pipeline.datasets.selection import select_records
from pipeline.extraction.request import extract_command
from pipeline.labels.label_source import LabelSource, resolve_labels
from pipeline.training.baseline_stores import (
    BaselineRequest,
    describe_architectures,
    open_baselines,
    parse_baselines,
)
from pipeline.training.features import find_complete
from pipeline.training.settings import TrainSettings
from pipeline.training.store_selection import (
    EXTRACT_OBJECTS,
    Cache,
    open_by_provenance,
    open_cache,
    open_experts,
)
from stores.embeddings import EmbeddingStore
from stores.record_ids import RecordIds


@dataclass(frozen=True)
class Inputs:
    """Inputs that all repeats of a training run share.

    Attributes:
        dataset: The data set.
        cache: The stores.
        record_id: Ids of the records that have an embedding in every store.
        skipped: Number of requested records that lack an embedding in at least one store.
        labels: Table with a row for each of `record_id`: ``patient_id`` and one column per task.
        tasks: The tasks to train.
        notes: Notes on labels, baselines and omitted experts, shown below the result tables.
        baselines: Stores of the random baselines by expert; empty without ``--baselines``.
    """

    dataset: Dataset
    cache: Cache
    record_id: RecordIds
    skipped: int
    labels: pd.DataFrame
    tasks: tuple[Task, ...]
    notes: tuple[str, ...] = ()
    baselines: Mapping[str, EmbeddingStore] = field(default_factory=dict)


def prepare_inputs(
    dataset: str | Dataset,
    store: str | Path,
    settings: TrainSettings,
    provenances: Sequence[Mapping[str, Any]] | None = None,
    experts: Sequence[str | Expert] = (),
) -> Inputs:
    """Open the stores and labels that the settings select, and check the requested tasks.

    Args:
        dataset: A data set, or its spec such as ``"mimic-iv-ecg:/data/mimic"``.
        store: Root folder or URL of the stores.
        settings: Tasks, labels and experts.
        provenances: Provenance of each store to open. Default: the stores that `settings` select.
        experts: Names of experts, or objects; see `open_experts`. Default: those of `settings`.

    Returns:
        The inputs.

    Raises:
        UserError: An option is invalid, stores or labels are missing, or the labels of a task are
            invalid.
        StoreError: A store is incomplete or damaged.
    """
    own_tasks = parse_tasks(settings.own_tasks)
    every_task = ALL in settings.tasks or not (settings.tasks or own_tasks)
    # Custom tasks are always trained, even if `settings.tasks` does not name them.
    requested = [name for name in settings.tasks if name != ALL]
    chosen = select_tasks(requested + [task.name for task in own_tasks], own_tasks)
    source = resolve_dataset(dataset, settings.decoding)
    selection = replace(settings.stores, decoding=decoding_of(source))
    if experts:
        cache = open_experts(store, source.namespace, experts, selection)
    elif provenances is None:
        cache = open_cache(store, source.namespace, selection)
    else:
        command = extract_command(dataset, store, selection, settings.limit, settings.records)
        cache = open_by_provenance(store, source.namespace, provenances, command)
    selection = replace(selection, experts=tuple(cache.experts))
    command = extract_command(dataset, store, selection, settings.limit, settings.records)
    if not all(isinstance(expert, str) for expert in experts):
        command = EXTRACT_OBJECTS
    record_id = select_records(
        source.index().record_id, limit=settings.limit, records=settings.records
    )
    complete = find_complete(cache.stores, record_id, command)
    baselines: dict[str, EmbeddingStore] = {}
    if settings.baselines is not None:
        if provenances is not None:
            raise UserError(
                "--baselines cannot be combined with --base, because the hidden layers of the base "
                "run were not trained on embeddings by experts with random weights; omit one of "
                "the options."
            )
        weights = parse_baselines(settings.baselines)
        request = BaselineRequest(
            dataset, store, selection, weights, settings.limit, settings.records
        )
        baselines = open_baselines(request, source.namespace, cache.experts)
        both = find_complete(
            tuple(baselines.values()), complete.record_id, request.command(baselines)
        )
        complete = replace(both, skipped=complete.skipped + both.skipped)
    paper_tasks = [task for task in TASKS.values() if every_task or task in chosen]
    labels = resolve_labels(
        source,
        settings.labels,
        own_tasks,
        paper_tasks,
        missing_values=settings.missing_values,
    )
    labels = replace(labels, table=labels.table.reindex(complete.record_id))
    return Inputs(
        source,
        cache,
        complete.record_id,
        complete.skipped,
        labels.table,
        _select_tasks(chosen, labels, every_task, source.namespace),
        (
            *labels.notes,
            *_note_unlabeled(labels),
            *describe_architectures(cache.experts, baselines),
            *_note_omitted(cache),
        ),
        baselines,
    )


def _note_omitted(cache: Cache) -> list[str]:
    """Return a note if experts are omitted that have stores."""
    if not cache.omitted:
        return []
    return [
        f"Omitted {', '.join(cache.omitted)}: no store of these experts has the requested weights "
        "and options. To use them, pass the weights and options of their stores, which enecg "
        "store show prints."
    ]


def _select_tasks(
    chosen: tuple[Task, ...], labels: LabelSource, every_task: bool, namespace: str
) -> tuple[Task, ...]:
    """Return the chosen tasks or, for `every_task`, all tasks that have labels."""
    labeled = [task for task in (*TASKS.values(), *labels.own) if labels.has(task)]
    by_name = {task.name: task for task in labeled}
    missing = [task for task in chosen if task.name not in by_name]
    if missing or not labeled:
        names = ", ".join(task.name for task in missing) or "any task"
        unused = "".join(f" {note}" for note in labels.unused)
        if labels.from_file:
            columns = " and ".join(task.column.removeprefix("own:") for task in missing)
            raise UserError(
                f"{labels.source} has no labels for {names}; add "
                + (f"labels in {columns}" if columns else "a column of labels")
                + ", or define tasks for its columns with --task."
                + unused
            )
        columns = ", ".join(task.column for task in missing or TASKS.values())
        raise UserError(
            f"The data set {namespace} has no labels for {names} "
            f"(available: {', '.join(by_name) or 'none'}). Pass a table with a column record_id "
            f"and the columns {columns} as --labels, or add the data set's tables "
            f"that contain these labels (see docs/labels.md).{unused}"
        )
    return tuple(labeled) if every_task else tuple(by_name[task.name] for task in chosen)


def _note_unlabeled(labels: LabelSource) -> list[str]:
    """Return a note that lists the paper's tasks without labels in the data set's own tables."""
    missing = [name for name, task in TASKS.items() if task.column not in labels.table]
    if not missing or labels.from_file:
        return []
    return [f"The data set has no labels for {', '.join(missing)}."]
