"""Stage two: heads and gate from the stores alone, over repeats, to a table and a run folder."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from enecg.errors import UserError
from pipeline.datasets.base import Dataset
from pipeline.evaluation.scores import Score, compute_scores
from pipeline.extraction.request import resolve_device
from pipeline.labels.targets import fit_targets
from pipeline.report.page import write_markdown, write_page
from pipeline.runs import results as runs
from pipeline.runs.base_run import adopt_settings, load_cohorts, load_hidden_layers, open_base
from pipeline.runs.output_folder import check_output, replace_output
from pipeline.runs.run_log import RunLog
from pipeline.runs.write_run import write_run
from pipeline.training.cache import read_features
from pipeline.training.cohorts import Cohort, draw
from pipeline.training.fit import Fit
from pipeline.training.gather import gather
from pipeline.training.repeat import Inputs, Step, check_labels, run_repeats
from pipeline.training.stack import one_thread
from pipeline.training.train_settings import TrainSettings
from stores.record_ids import as_ids

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
    folder = check_output(Path(out))
    device = resolve_device(settings.device)
    base = None if settings.base is None else open_base(settings.base)
    if base is not None:
        settings = adopt_settings(settings, base)
    inputs = gather(dataset, store, settings, None if base is None else base.stores)
    if settings.fit.top_k > len(inputs.cache.experts):
        raise UserError(
            f"--top-k {settings.fit.top_k} is more than the {len(inputs.cache.experts)} experts "
            "that there are; give a smaller one, or 0 for all."
        )
    if base is None:
        cohorts = [
            draw(
                inputs.record_id,
                as_ids(inputs.labels["patient_id"]),
                patients=settings.patients,
                seed=settings.seed + number,
                ecgs=settings.ecgs,
            )
            for number in range(settings.repeats)
        ]
    else:
        cohorts = load_cohorts(base, inputs.record_id, inputs.dataset.index())
    for cohort in cohorts:
        check_labels(cohort, inputs)
    told = (*inputs.notes, *_too_few(settings, inputs), *_never_seen(cohorts, inputs))
    inputs = replace(inputs, notes=told)
    with replace_output(folder) as made:
        log = RunLog(made)
        log.write(f"{len(inputs.record_id):,} records of {inputs.dataset.namespace}, from {store}.")
        for note in told:
            log.write(note)
        everyone = np.unique(np.concatenate([cohort.everyone for cohort in cohorts]))
        features = read_features(inputs.cache, everyone, device)
        log.write(f"Embeddings of {len(everyone):,} records read.")
        bases = None if base is None else load_hidden_layers(base, device)
        step = _counter(log, progress, len(inputs.cache.experts) + 2)
        with one_thread():
            repeats = run_repeats(cohorts, inputs, features, settings.fit, step, bases)
        judged = compute_scores([one for repeat in repeats for one in repeat.predictions])
        seconds = time.monotonic() - started
        write_run(made, settings, device, inputs, repeats, judged, seconds)
        finished = runs.read_results(made)
        text = write_markdown(finished)
        page = write_page(finished, repeats)
        log.write(f"Done in {seconds:.1f} s.")
    return Results(folder, folder / page.name, text, judged, seconds)


def _too_few(settings: TrainSettings, inputs: Inputs) -> tuple[str, ...]:
    """A note where fewer patients are there than were asked for: all of them are drawn then."""
    there = inputs.labels["patient_id"].nunique()
    if there >= settings.patients:
        return ()
    return (
        f"{settings.patients:,} patients were asked for, and all {there:,} that are there drawn.",
    )


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


def _counter(log: RunLog, progress: Progress | None, total: int) -> Step:
    done = 0

    def step(name: str, fits: Sequence[Fit]) -> None:
        nonlocal done
        done += 1
        log.write_fits(name, fits)
        if progress is not None:
            progress(done, total)

    return step
