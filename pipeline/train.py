"""Stage two: heads and gate from the stores alone, over repeats, to a table and a run folder."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from enecg.errors import UserError
from enecg.tasks import TASKS, Task, choose
from pipeline import run_folder
from pipeline.cache import available, open_cache, read_features
from pipeline.cohorts import draw
from pipeline.datasets.base import Dataset
from pipeline.datasets.registry import open_dataset
from pipeline.evaluate import Score, score
from pipeline.fit import FitSettings
from pipeline.repeat import Inputs, Repeat, check_labels, run_repeat
from pipeline.report.page import write_page
from pipeline.report.table import markdown
from pipeline.request import resolve_device

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class TrainSettings:
    """What is trained, on whom, and how.

    `tasks` by name, or `all` that the data set has labels for; `experts` by name, or every one
    that the store has with these weights; `patients` drawn for each of `repeats`, with the seeds
    `seed`, `seed + 1`, ...; `limit` takes the first records of the index.
    """

    tasks: tuple[str, ...] = ("all",)
    experts: tuple[str, ...] = ()
    weights: tuple[str, ...] = ("published",)
    pooling: tuple[str, ...] = ("default",)
    dtype: str = "float16"
    device: str = "auto"
    repeats: int = 3
    patients: int = 10_000
    seed: int = 0
    limit: int | None = None
    fit: FitSettings = field(default_factory=FitSettings)


@dataclass(frozen=True)
class Results:
    """A finished training: the folder that holds everything, its page, and its table."""

    folder: Path
    page: Path
    markdown: str
    scores: tuple[Score, ...]
    seconds: float


def train(
    dataset: str | Dataset,
    store: str | Path,
    out: str | Path,
    settings: TrainSettings | None = None,
    *,
    progress: Progress | None = None,
) -> Results:
    """Train, judge on held-out patients, and write the run folder `out`.

    Opens no waveform and no expert. Raises UserError or StoreError where the data set, the
    stores or the labels do not bear what is asked.
    """
    settings = settings or TrainSettings()
    started = time.monotonic()
    folder = run_folder.check(Path(out))
    device = resolve_device(settings.device)
    inputs = gather(dataset, store, settings)
    cohorts = [
        draw(
            inputs.record_id,
            inputs.labels["patient_id"].to_numpy(),
            patients=settings.patients,
            seed=settings.seed + number,
        )
        for number in range(settings.repeats)
    ]
    for cohort in cohorts:
        check_labels(cohort, inputs)
    run_folder.make(folder)
    everyone = np.unique(np.concatenate([cohort.everyone for cohort in cohorts]))
    features = read_features(inputs.cache, everyone, device)
    step = _counter(progress, settings.repeats * (len(inputs.cache.experts) + 1))
    with _one_thread():
        repeats = [
            run_repeat(number, cohort, inputs, features, settings.fit, step)
            for number, cohort in enumerate(cohorts)
        ]
    scores = _scores(repeats)
    seconds = time.monotonic() - started
    text = markdown(scores, inputs, seeds=[cohort.seed for cohort in cohorts])
    run_folder.write(folder, settings, inputs, repeats, scores, text, seconds)
    page = write_page(folder, inputs, repeats, scores, seconds)
    return Results(folder, page, text, scores, seconds)


def gather(dataset: str | Dataset, store: str | Path, settings: TrainSettings) -> Inputs:
    """Open what is trained from, and see that it bears the tasks that are asked."""
    chosen = () if "all" in settings.tasks else choose(settings.tasks)
    source = open_dataset(dataset) if isinstance(dataset, str) else dataset
    cache = open_cache(
        store,
        source.namespace,
        experts=settings.experts,
        weights=settings.weights,
        pooling=settings.pooling,
        dtype=settings.dtype,
    )
    limit = f" --limit {settings.limit}" if settings.limit else ""
    there = available(
        cache,
        source.index().record_id[: settings.limit],
        f"enecg extract --dataset {dataset} --store {store} --experts {','.join(cache.experts)} "
        f"--weights {','.join(settings.weights)} --pooling {','.join(settings.pooling)} "
        f"--dtype {settings.dtype}{limit}",
    )
    labels = source.labels().reindex(there.record_id)
    tasks = _tasks(chosen, labels)
    return Inputs(source, cache, there.record_id, there.left_out, labels, tasks)


def _tasks(chosen: tuple[Task, ...], labels: pd.DataFrame) -> tuple[Task, ...]:
    """The chosen tasks, or where none is chosen all that there are labels for."""
    has = [
        task
        for task in TASKS.values()
        if task.column in labels and labels[task.column].notna().any()
    ]
    lacking = [task.name for task in chosen if task not in has]
    if lacking or not has:
        raise UserError(
            f"The data set has no labels for {', '.join(lacking) or 'any task'}; it has them for "
            f"{', '.join(task.name for task in has) or 'none'}. The README tells which table "
            "gives which label."
        )
    return chosen or tuple(has)


def _scores(repeats: Sequence[Repeat]) -> tuple[Score, ...]:
    """A score for every method on every task, in the order of the first repeat's predictions."""
    by_method = zip(*(one.predictions for one in repeats), strict=True)
    return tuple(score(together) for together in by_method)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Have torch use one CPU thread: the heads are small, and threads that wait for each other
    cost a busy machine six times the work itself.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _counter(progress: Progress | None, total: int) -> Callable[[], None]:
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    return step
