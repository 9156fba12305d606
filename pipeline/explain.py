"""Attribute the outputs of a run to the samples and waves of ECGs."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from enecg.attribution.explanation import Explanation, explain_ecg
from enecg.errors import UserError
from pipeline.datasets.base import Dataset
from pipeline.datasets.registry import resolve_dataset
from pipeline.evaluation.predictions import ENSEMBLE
from pipeline.explanation.ecgs import Refusal, draw_cohort, mean_reference, read_ecgs
from pipeline.explanation.explained_output import explained_output, select_class
from pipeline.explanation.options import ExplainOptions
from pipeline.explanation.results import ExplainedRecord, ExplanationResult
from pipeline.prediction.live_run import load_run
from pipeline.report.explanation_files import FIGURES, MARKER, write_explanation
from pipeline.runs.output_folder import check_output

Progress = Callable[[int, int], None]


def explain(
    run: str | Path,
    dataset: str | Dataset,
    records: Sequence[int | str] = (),
    *,
    task: str = "rr_interval",
    options: ExplainOptions | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> ExplanationResult:
    """Attribute the outputs of a run to the samples and waves of ECGs.

    Integrated gradients are computed through each expert with its preprocessing and head, and
    through their gated mixture if there are several. The baseline is the mean of ECGs of training
    and validation patients, if the data set has any; see `mean_reference`. The effect of occluding
    each window, such as the QRS complexes, is also computed, including for experts without
    gradients.

    Args:
        run: Run folder.
        dataset: A data set, or its spec such as ``"ludb:/data/ludb"``.
        records: Ids of the records to explain. Default: `options.cohort` records of patients not
            used for training or validation, drawn at random.
        task: Name of a task of the run.
        options: Number of records to draw, class, repeat, steps, baseline and device. Default:
            `ExplainOptions()`.
        out: Folder for the page, figures and tables. Default: nothing is written.
        progress: Called as ``progress(done, total)`` after each explained record.

    Returns:
        The explanations, and the refused records with reasons.

    Raises:
        UserError: An argument is invalid, an expert is unavailable, too few ECGs are readable for
            the baseline, or both or neither of `records` and `options.cohort` are given.
    """
    options = options or ExplainOptions()
    if bool(records) == bool(options.cohort):
        raise UserError("Pass either the ids of the records to explain, or --cohort.")
    folder = None if out is None else check_output(Path(out), (MARKER,), "explanation")
    live = load_run(run, options.repeat, options.device)
    source = resolve_dataset(dataset, live.decoding)
    output = explained_output(live, task)
    targets = live.repeats[0].targets[task]
    candidates = list(dict.fromkeys(map(str, records)))
    count = len(candidates)
    if options.cohort:
        candidates = draw_cohort(live.saved, source, options.repeat, options.seed)
        count = options.cohort
    mean, references = mean_reference(
        live.saved,
        source,
        repeat=options.repeat,
        number=options.references,
        seed=options.seed,
        excluded=set(candidates[:count]),
    )
    baseline = torch.from_numpy(mean).to(live.device)
    explained: list[ExplainedRecord] = []
    refusals: list[Refusal] = []
    for ecg in read_ecgs(source, [name for name in candidates if name not in references]):
        if isinstance(ecg, Refusal):
            refusals.append(ecg)
            continue
        signal = torch.from_numpy(ecg.signal).to(live.device)
        chosen = select_class(output, targets, signal, options.class_name)
        methods = explain_ecg(
            *(chosen, signal, baseline, ecg.windows), steps=options.steps, mixture=ENSEMBLE
        )
        if len(explained) >= FIGURES:
            # Only figures show the contributions of samples.
            methods = {name: _without_samples(explanation) for name, explanation in methods.items()}
        class_name = "" if targets.task.kind == "regression" else targets.classes[chosen.index]
        explained.append(ExplainedRecord(ecg, class_name, methods))
        if progress is not None:
            progress(len(explained), count)
        if len(explained) == count:
            break
    weights = {store["expert"]: store["weights"] for store in live.saved.stores}
    result = ExplanationResult(
        task=task,
        title=targets.task.title,
        unit=targets.task.unit if targets.task.kind == "regression" else "probability",
        dataset=source.namespace,
        run=str(live.saved.folder),
        weights={name: weights[name] for name in live.saved.experts},
        settings={
            "repeat": options.repeat,
            "steps": options.steps,
            "seed": options.seed,
            "cohort": options.cohort,
            "baseline_records": references,
        },
        records=explained,
        refusals=refusals,
    )
    if folder is not None:
        write_explanation(result, folder)
    return result


def _without_samples(explanation: Explanation) -> Explanation:
    attribution = explanation.attribution
    if attribution is None:
        return explanation
    return replace(explanation, attribution=replace(attribution, values=None))
