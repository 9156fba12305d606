"""Train heads and gate on the embeddings of a store root, and write a run folder."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from enecg.errors import UserError
from enecg.experts import Expert
from pipeline.datasets.base import Dataset
from pipeline.evaluation.differences import Difference, compute_differences
from pipeline.evaluation.predictions import ENSEMBLE, RANDOM, WITHOUT
from pipeline.evaluation.scores import Score, compute_scores
from pipeline.extraction.request import resolve_device
from pipeline.labels.targets import fit_targets
from pipeline.report.model_card import write_card
from pipeline.report.results_file import write_markdown
from pipeline.runs import results as runs
from pipeline.runs.base_run import adopt_settings, load_cohorts, load_hidden_layers, open_base
from pipeline.runs.output_folder import check_output, replace_output
from pipeline.runs.run_log import RunLog
from pipeline.runs.write_run import write_run
from pipeline.training.cohorts import Cohort
from pipeline.training.domain import fit_domains
from pipeline.training.features import read_features
from pipeline.training.fitted_models import FittedModel
from pipeline.training.inputs import Inputs, prepare_inputs
from pipeline.training.label_efficiency import (
    LabelEfficiency,
    parse_fractions,
    train_fractions,
)
from pipeline.training.labeled_repeat import check_labels
from pipeline.training.leave_one_out import add_leave_one_out
from pipeline.training.parallel import count_cores
from pipeline.training.pretraining_check import check_pretraining
from pipeline.training.pretraining_patients import run_list
from pipeline.training.random_baselines import add_random_baselines
from pipeline.training.rare_labels import note_rare_labels
from pipeline.training.repeat import LogFit, Repeat, choose_references, run_repeats
from pipeline.training.settings import TrainSettings
from pipeline.training.splits import Splits, make_splits
from pipeline.training.store_selection import Cache
from pipeline.training.torch_state import single_thread

Progress = Callable[[int, int], None]
"""Called as ``progress(done, total)``; see `train`."""


@dataclass(frozen=True)
class Results:
    """Scores, tables and paths of a training run.

    Attributes:
        folder: Path of the run folder.
        page: Path of the HTML page of results; None if it was not requested.
        markdown: The result tables in Markdown.
        scores: Scores of all methods and tasks.
        seconds: Duration in seconds, without writing the run folder.
    """

    folder: Path
    page: Path | None
    markdown: str
    scores: tuple[Score, ...]
    seconds: float


def train(
    dataset: str | Dataset,
    store: str | Path,
    out: str | Path,
    experts: Sequence[str | Expert] = (),
    *,
    settings: TrainSettings | None = None,
    progress: Progress | None = None,
    share: bool = False,
    page: bool = True,
) -> Results:
    """Train heads and gate, evaluate them on test patients, and write a run folder.

    No waveforms are read and no expert is run. If `out` contains an earlier run, it is replaced
    after the new run is complete.

    Args:
        dataset: A data set, or its spec such as ``"mimic-iv-ecg:/data/mimic"``.
        store: Root folder or URL of the stores.
        out: Path of the run folder.
        experts: Names of registered experts, or expert objects; the store of an object is the one
            with the identity of its `spec`. Default: the experts of `settings`.
        settings: Tasks, experts, cohorts and hyperparameters. Default: those of `TrainSettings`.
        progress: Called as ``progress(done, total)`` before the first and after each training step.
            A step trains the heads of one expert, all gates or all ensembles, in all repeats.
        share: Whether other users may read the run folder; by default only its owner can.
        page: Whether to write the HTML page of results.

    Returns:
        Scores, tables and paths.

    Raises:
        UserError: An option is invalid, labels or stores are missing, an expert was pretrained on a
            test patient, or `out` is not writable or contains files that are not of a run.
        StoreError: A store is incomplete, damaged or unreachable.
    """
    settings = settings or TrainSettings()
    started = time.monotonic()
    folder = check_output(Path(out))
    device = resolve_device(settings.device)
    base = None if settings.base is None else open_base(settings.base)
    if base is not None:
        settings = adopt_settings(settings, base)
        if experts:
            raise UserError(f"The base run {settings.base} determines the experts; omit them.")
    inputs = prepare_inputs(
        dataset, store, settings, None if base is None else base.stores, experts
    )
    settings = replace(settings, experts=tuple(inputs.cache.experts)) if experts else settings
    if settings.fit.top_k > len(inputs.cache.experts):
        raise UserError(
            f"--top-k {settings.fit.top_k} exceeds the number of experts "
            f"({len(inputs.cache.experts)}); use a smaller number, or 0 to use all."
        )
    if settings.leave_one_out and len(inputs.cache.experts) < 2:
        raise UserError(
            f"--leave-one-out requires at least two experts, but the only one is "
            f"{next(iter(inputs.cache.experts))}; extract and select another expert, or omit the "
            "option."
        )
    fractions = [value for value in parse_fractions(settings.label_fractions) if value < 1]
    if base is None:
        splits = make_splits(settings, inputs)
    else:
        loaded = load_cohorts(base, inputs.record_id, inputs.dataset.index())
        splits = Splits(tuple(loaded), folds=base.config.get("folds"))
    splits, pretrained = check_pretraining(
        splits, inputs, settings, None if base is None else base.folder
    )
    cohorts = splits.cohorts
    for cohort in cohorts:
        check_labels(cohort, inputs)
    notes = (
        *inputs.notes,
        *splits.notes,
        *_note_unknown_classes(cohorts, inputs),
        *note_rare_labels(cohorts, inputs),
    )
    inputs = replace(inputs, notes=notes)
    with replace_output(folder, share=share) as unfinished, single_thread():
        log = RunLog(unfinished)
        log.write(f"{len(inputs.record_id):,} records of {inputs.dataset.namespace} in {store}.")
        for note in notes:
            log.write(note)
        names = list(inputs.cache.experts)
        # With several experts, the gates and the ensembles are two more steps.
        steps = (len(names) + 2 if len(names) > 1 else 1) * (1 + len(fractions))
        steps += len(inputs.baselines) + (len(names) if settings.leave_one_out else 0)
        log_fit = _make_log_callback(log, progress, steps)
        record_id = np.unique(np.concatenate([cohort.record_id for cohort in cohorts]))
        features = read_features(
            inputs.cache, record_id, device, max_bytes=settings.fit.max_cache_bytes
        )
        log.write(f"Read the embeddings of {len(record_id):,} records.")
        bases = None if base is None else load_hidden_layers(base, device)
        # Records of the largest repeat, with all of its patients and with each fraction of them.
        longest = max(len(cohort.record_id) for cohort in cohorts)
        sizes = [max(1, int(longest * fraction)) for fraction in (1.0, *fractions)]
        threads = _count_threads(settings, device, inputs.cache, len(record_id), sizes)
        repeats = run_repeats(
            cohorts, inputs, features, settings.fit, log_fit, bases, threads=threads
        )
        domains = fit_domains(features, cohorts)
        if inputs.baselines:
            random = read_features(
                Cache(dict(inputs.baselines), inputs.cache.leads),
                record_id,
                device,
                max_bytes=settings.fit.max_cache_bytes,
            )
            repeats = add_random_baselines(
                repeats, inputs, random, settings.fit, log_fit, threads=threads
            )
        if settings.leave_one_out:
            repeats = add_leave_one_out(repeats, inputs, features, settings.fit, log_fit)
        scores = _compute_scores(repeats, names)
        efficiency = LabelEfficiency()
        if settings.label_fractions:
            efficiency = train_fractions(
                *(fractions, repeats, inputs, features, settings.fit, log_fit), threads=threads
            )
            inputs = replace(inputs, notes=(*notes, *efficiency.notes))
        differences = _compute_differences(repeats, inputs)
        seconds = time.monotonic() - started
        write_run(
            *(unfinished, settings, device, inputs, repeats, scores, seconds),
            differences=differences,
            label_fractions=efficiency.fractions,
            folds=splits.folds,
            domains=domains,
        )
        for pretraining in pretrained:
            if pretraining.patients is not None:
                run_list(unfinished, pretraining.expert).write_bytes(pretraining.patients)
        run = runs.read_results(unfinished)
        text = write_markdown(run)
        write_card(run)
        name = _draw_page(run) if page else None
        log.write(f"Finished in {seconds:.1f} s.")
    return Results(folder, None if name is None else folder / name, text, scores, seconds)


def _count_threads(
    settings: TrainSettings, device: str, cache: Cache, records: int, sizes: Sequence[int]
) -> int:
    """Return the maximum number of threads in which heads are trained; see `run_repeats`."""
    if device != "cpu":
        return 1
    # Fewer features or records may need more memory, because only small embeddings are encoded.
    fitting = min(
        settings.fit.max_threads(records, size, store.features)
        for store in cache.experts.values()
        for size in sizes
    )
    return min(settings.threads or count_cores(), fitting)


def _compute_scores(repeats: Sequence[Repeat], experts: Sequence[str]) -> tuple[Score, ...]:
    """Compute all scores; with a single expert, EnECG has the same scores as the expert."""
    predictions = [prediction for repeat in repeats for prediction in repeat.predictions]
    if len(experts) > 1:
        return compute_scores(predictions)
    scores = compute_scores([item for item in predictions if item.method != ENSEMBLE])
    copies = [replace(score, method=ENSEMBLE) for score in scores if score.method == experts[0]]
    return (*scores, *copies)


def _compute_differences(repeats: Sequence[Repeat], inputs: Inputs) -> tuple[Difference, ...]:
    """Compute the differences between methods and their references.

    Args:
        repeats: The trained repeats.
        inputs: Inputs with the tasks and the experts that have a baseline with random weights.

    Returns:
        The differences of EnECG from the methods of `choose_references` and from EnECG without each
        expert, and of each expert from the same expert with random weights.
    """
    predictions = [prediction for repeat in repeats for prediction in repeat.predictions]
    methods = dict.fromkeys(prediction.method for prediction in predictions)

    def choose(method: str) -> dict[str, dict[str, list[str]]]:
        """Return a comparison with the same reference method in all repeats."""
        return {method: {task.name: [method] * len(repeats) for task in inputs.tasks}}

    choices = choose_references(repeats)
    for method in methods:
        if method.startswith(WITHOUT):
            choices |= choose(method)
    differences = compute_differences(predictions, choices)
    for expert in inputs.baselines:
        differences += compute_differences(predictions, choose(RANDOM + expert), method=expert)
    return differences


def _draw_page(run: runs.RunResults) -> str:
    """Write the HTML page of results to the run folder and return its file name."""
    # Imported here because only the page needs matplotlib.
    from pipeline.report.page import write_page

    return write_page(run).name


def _note_unknown_classes(cohorts: Sequence[Cohort], inputs: Inputs) -> list[str]:
    """Return a note for each task if classes of test records do not occur in training records."""
    notes = []
    for task in inputs.tasks:
        excluded = 0
        for cohort in cohorts:
            targets = fit_targets(task, inputs.labels.loc[cohort.train, task.column])
            labels = inputs.labels.loc[cohort.test, task.column].dropna()
            excluded += int(np.isnan(targets.encode(labels)).sum())
        if excluded:
            notes.append(
                f"{task.title}: excluded {excluded} test records of classes that no training "
                "patient has, counted over all repeats."
            )
    return notes


def _make_log_callback(log: RunLog, progress: Progress | None, total: int) -> LogFit:
    """Report 0 finished steps to `progress`; return a callback that logs and reports each step."""
    done = 0
    if progress is not None:
        progress(done, total)

    def log_fit(name: str, fits: Sequence[FittedModel]) -> None:
        nonlocal done
        done += 1
        log.write_fits(name, fits)
        if progress is not None:
            progress(done, total)

    return log_fit
