"""What a training is made from, opened and seen to bear the tasks that are asked."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from enecg.errors import UserError
from enecg.tasks import ALL, TASKS, Task, parse_tasks, select_tasks
from pipeline.datasets.base import Dataset
from pipeline.datasets.registry import open_dataset
from pipeline.labels.label_source import LabelSource, resolve_labels
from pipeline.training.cache import available, open_cache, open_same
from pipeline.training.refill import refill_command
from pipeline.training.repeat import Inputs
from pipeline.training.train_settings import TrainSettings


def gather(
    dataset: str | Dataset,
    store: str | Path,
    settings: TrainSettings,
    stores: Sequence[Mapping[str, Any]] | None = None,
) -> Inputs:
    """Open what is trained from, and see that it bears the tasks that are asked.

    `stores`: the provenance of each, where it is not for the settings to choose them.
    """
    own = parse_tasks(settings.own_tasks)
    everything = ALL in settings.tasks or not (settings.tasks or own)
    # An own task is asked for by being there.
    names = [name for name in settings.tasks if name != ALL] + [task.name for task in own]
    chosen = select_tasks(names, own)
    source = open_dataset(dataset) if isinstance(dataset, str) else dataset
    made_by = (settings.weights, settings.pooling, settings.dtype, settings.limit)
    if stores is None:
        cache = open_cache(
            store,
            source.namespace,
            experts=settings.experts,
            weights=settings.weights,
            pooling=settings.pooling,
            dtype=settings.dtype,
        )
    else:
        refill = refill_command(dataset, store, settings.experts, *made_by)
        cache = open_same(store, source.namespace, stores, refill)
    refill = refill_command(dataset, store, tuple(cache.experts), *made_by)
    there = available(cache, source.index().record_id[: settings.limit], refill)
    paper = [task for task in TASKS.values() if everything or task in chosen]
    asked = resolve_labels(source, settings.labels, own, paper)
    asked = replace(asked, table=asked.table.reindex(there.record_id))
    tasks = _tasks(chosen, asked, everything)
    return Inputs(
        source,
        cache,
        there.record_id,
        there.left_out,
        asked.table,
        tasks,
        (*asked.notes, *_unlabelled(asked)),
    )


def _tasks(chosen: tuple[Task, ...], asked: LabelSource, everything: bool) -> tuple[Task, ...]:
    """The chosen tasks, and with `everything` all others that there are labels for."""
    has = [task for task in (*TASKS.values(), *asked.own) if asked.has(task)]
    names = [task.name for task in has]
    lacking = [task.name for task in chosen if task.name not in names]
    if asked.from_file and (lacking or not has):
        wanted = [task.column for task in chosen if task.name in lacking]
        raise UserError(
            f"{asked.source} has no labels for {', '.join(lacking) or 'any task'}; give it "
            + (f"a column {' and '.join(wanted)}" if wanted else "a column of labels")
            + ", or name tasks of your own by --task."
        )
    if lacking or not has:
        raise UserError(
            f"The data set has no labels for {', '.join(lacking) or 'any task'}; it has them for "
            f"{', '.join(names) or 'none'}. The README tells which table gives which label."
        )
    if everything:
        return tuple(has)
    by_name = dict(zip(names, has, strict=True))
    return tuple(by_name[task.name] for task in chosen)


def _unlabelled(asked: LabelSource) -> list[str]:
    """A sentence on the paper's tasks that the data set's own tables do not answer."""
    lacking = [name for name, task in TASKS.items() if task.column not in asked.table]
    if not lacking or asked.from_file:
        return []
    return [f"The data set has no labels for {', '.join(lacking)}."]
