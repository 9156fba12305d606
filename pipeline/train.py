"""Stage two: heads and gate from the stores alone, over repeats, to a table and a run folder."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from enecg.errors import UserError
from enecg.tasks import ALL, TASKS, Task, choose, own_tasks
from pipeline import run_folder, runs
from pipeline.base_run import cohorts_of, hidden_layers, like_base, open_base
from pipeline.cache import available, open_cache, open_same, read_features
from pipeline.cohorts import Cohort, draw
from pipeline.datasets.base import Dataset
from pipeline.datasets.registry import open_dataset
from pipeline.evaluate import Score, scores
from pipeline.fit import Fit
from pipeline.questions import Questions, ask
from pipeline.refill import refill_command
from pipeline.repeat import Inputs, Step, check_labels, run_repeats
from pipeline.report.page import write_markdown, write_page
from pipeline.request import resolve_device
from pipeline.run_log import RunLog
from pipeline.saved_run import SavedRun
from pipeline.targets import fit as fit_targets
from pipeline.train_settings import TrainSettings

Progress = Callable[[int, int], None]


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
    base = None if settings.base is None else open_base(settings.base)
    if base is not None:
        settings = like_base(settings, base)
    inputs = gather(dataset, store, settings, base)
    if settings.fit.top_k > len(inputs.cache.experts):
        raise UserError(
            f"--top-k {settings.fit.top_k} is more than the {len(inputs.cache.experts)} experts "
            "that there are; give a smaller one, or 0 for all."
        )
    if base is None:
        cohorts = [
            draw(
                inputs.record_id,
                inputs.labels["patient_id"].to_numpy(),
                patients=settings.patients,
                seed=settings.seed + number,
                ecgs=settings.ecgs,
            )
            for number in range(settings.repeats)
        ]
    else:
        cohorts = cohorts_of(base, inputs.record_id)
    for cohort in cohorts:
        check_labels(cohort, inputs)
    told = (*inputs.notes, *_too_few(settings, inputs), *_never_seen(cohorts, inputs))
    inputs = replace(inputs, notes=told)
    with run_folder.replacing(folder) as made:
        log = RunLog(made)
        log.tell(f"{len(inputs.record_id):,} records of {inputs.dataset.namespace}, from {store}.")
        for note in told:
            log.tell(note)
        everyone = np.unique(np.concatenate([cohort.everyone for cohort in cohorts]))
        features = read_features(inputs.cache, everyone, device)
        log.tell(f"Embeddings of {len(everyone):,} records read.")
        bases = None if base is None else hidden_layers(base, device)
        step = _counter(log, progress, len(inputs.cache.experts) + 2)
        with one_thread():
            repeats = run_repeats(cohorts, inputs, features, settings.fit, step, bases)
        judged = scores([one for repeat in repeats for one in repeat.predictions])
        seconds = time.monotonic() - started
        run_folder.write(made, settings, device, inputs, repeats, judged, seconds)
        finished = runs.read(made)
        text = write_markdown(finished)
        page = write_page(finished, repeats)
        log.tell(f"Done in {seconds:.1f} s.")
    return Results(folder, folder / page.name, text, judged, seconds)


def _too_few(settings: TrainSettings, inputs: Inputs) -> tuple[str, ...]:
    """A note where fewer patients are there than were asked for: all of them are drawn then."""
    there = inputs.labels["patient_id"].nunique()
    if there >= settings.patients:
        return ()
    return (
        f"{settings.patients:,} patients were asked for, and all {there:,} that are there drawn.",
    )


def gather(
    dataset: str | Dataset,
    store: str | Path,
    settings: TrainSettings,
    base: SavedRun | None = None,
) -> Inputs:
    """Open what is trained from, and see that it bears the tasks that are asked.

    With a `base` it is that run's stores.
    """
    own = own_tasks(settings.own_tasks)
    everything = ALL in settings.tasks or not (settings.tasks or own)
    # An own task is asked for by being there.
    names = [name for name in settings.tasks if name != ALL] + [task.name for task in own]
    chosen = choose(names, own)
    source = open_dataset(dataset) if isinstance(dataset, str) else dataset
    made_by = (settings.weights, settings.pooling, settings.dtype, settings.limit)
    if base is None:
        cache = open_cache(
            store,
            source.namespace,
            experts=settings.experts,
            weights=settings.weights,
            pooling=settings.pooling,
            dtype=settings.dtype,
        )
    else:
        refill = refill_command(dataset, store, base.experts, *made_by)
        cache = open_same(store, source.namespace, base.stores, refill)
    refill = refill_command(dataset, store, tuple(cache.experts), *made_by)
    there = available(cache, source.index().record_id[: settings.limit], refill)
    paper = [task for task in TASKS.values() if everything or task in chosen]
    asked = ask(source, settings.labels, own, paper)
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


def _tasks(chosen: tuple[Task, ...], asked: Questions, everything: bool) -> tuple[Task, ...]:
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


def _unlabelled(asked: Questions) -> list[str]:
    """A sentence on the paper's tasks that the data set's own tables do not answer."""
    lacking = [name for name, task in TASKS.items() if task.column not in asked.table]
    if not lacking or asked.from_file:
        return []
    return [f"The data set has no labels for {', '.join(lacking)}."]


def _never_seen(cohorts: Sequence[Cohort], inputs: Inputs) -> list[str]:
    """A sentence for each task with test records of classes that no training patient has."""
    told = []
    for task in inputs.tasks:
        left_out = 0
        for cohort in cohorts:
            targets = fit_targets(task, inputs.labels.loc[cohort.train, task.column])
            labels = inputs.labels.loc[cohort.test, task.column].dropna()
            left_out += int(np.isnan(targets.encode(labels)).sum())
        if left_out:
            told.append(
                f"{task.title}: {left_out} test records are of classes that no training patient "
                "has, and are left out."
            )
    return told


@contextmanager
def one_thread() -> Iterator[None]:
    """Have torch use one CPU thread: the heads are small, and threads that wait for each other
    cost a busy machine six times the work itself.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _counter(log: RunLog, progress: Progress | None, total: int) -> Step:
    done = 0

    def step(name: str, fits: Sequence[Fit]) -> None:
        nonlocal done
        done += 1
        log.tell_fits(name, fits)
        if progress is not None:
            progress(done, total)

    return step
