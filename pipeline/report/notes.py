"""Notes below the result tables of a run or an evaluation."""

import math
from collections.abc import Mapping, Sequence

from enecg.metrics import BINS
from enecg.pretraining import METADATA_KEY, Pretraining
from pipeline.datasets.base import same_patients
from pipeline.evaluation.bootstrap import RANK_DRAWS
from pipeline.evaluation.predictions import CHANCE, RIDGE
from pipeline.evaluation.resamples import DRAWS
from pipeline.runs.results import RunResults
from pipeline.runs.task_summary import TaskSummary

NOT_A_DEVICE = "EnECG is research software and not a medical device."
TEST_PATIENTS = (
    "Patients are split 70/20/10 into training, validation and test; all scores are for test "
    "patients."
)
TEST_FOLDS = "Patients are split by folds; all scores are for patients of the test folds."

RIDGE_NOTE = (
    "Ridge regression: linear regression with an L2 penalty, solved in closed form, on the "
    "standardized embedding of one expert. The expert is the one with the lowest validation loss, "
    "for each task and repeat. For classes and labels, the regression is fitted to indicators, and "
    "logits = log frequency (labels: log odds) + scale * score. Fits with several penalties and "
    "scales are averaged, weighted by the likelihood of left-out patients. Regressions are fitted "
    "on training patients; for predictions of test records, they are fitted again on training and "
    "validation patients."
)


def untrained_warning(experts: Sequence[str]) -> str:
    """Return a warning that experts have random weights."""
    return (
        f"Untrained experts: {', '.join(experts)}. Their weights are random, so these scores show "
        "that the pipeline runs, not how good the experts are."
    )


def pretraining_warnings(dataset: str, pretrained: Mapping[str, Sequence[str]]) -> list[str]:
    """Return warnings about experts that were pretrained on patients of the data set.

    Args:
        dataset: Namespace of the data set, such as ``ptb-xl/1.0.3``.
        pretrained: Names of pretraining data sets by expert; see `find_pretraining_data`.

    Returns:
        One warning per expert.
    """
    return [
        f"The weights of {expert} were pretrained on {' and '.join(names)}, which may contain the "
        f"test patients of {dataset}. Scores of {expert}, and of methods that use it, may be "
        "optimistic."
        for expert, names in pretrained.items()
    ]


def run_notes(run: RunResults) -> tuple[str, ...]:
    """Return the notes that apply to all tables of a run or an evaluation."""
    seeds = run.config["seeds"]
    interval = f"[95% interval, bootstrap by patient, {DRAWS:,} draws]"
    folds = run.config.get("folds")
    varied = "training" if folds else "the random split of patients and with training"
    if len(seeds) > 1:
        notes = [
            f"{len(seeds)} repeats (seeds {', '.join(map(str, seeds))}): mean ± SD over repeats "
            f"{interval}.",
            "Intervals show the uncertainty from the sample of test patients, with the trained "
            f"models fixed. The variation with {varied} is given by the SD over repeats.",
        ]
    else:
        notes = [
            f"1 repeat (seed {seeds[0]}): score {interval}.",
            "Intervals show the uncertainty from the sample of test patients, with the trained "
            f"model fixed. The variation with {varied} cannot be estimated from one repeat.",
        ]
    notes.append(run.config.get("judged_on", TEST_FOLDS if folds else TEST_PATIENTS))
    notes += _pretraining_notes(run)
    notes += _baseline_notes(run)
    if RIDGE in run.methods:
        notes.append(RIDGE_NOTE)
    binary = [task for task in run.tasks.values() if task.kind == "binary"]
    if binary:
        positive = ", ".join(f"{task.classes[1]} ({task.title})" for task in binary)
        notes.append(
            f"Positive class of binary tasks: {positive}. Intervals of AUROC are based on "
            f"{RANK_DRAWS} draws."
        )
    if any(task.kind == "multilabel" for task in run.tasks.values()):
        notes.append(
            "Multilabel tasks: macro-AUROC is the mean over the labels that some but not all test "
            "records have. Macro-F1 is the mean F1 of the positive class over the labels that some "
            "test records have. The threshold of each label has the highest F1 on training records "
            "(predicted out of fold) and validation records. Intervals are corrected for bootstrap "
            f"bias; those of macro-AUROC and macro-AUPRC are based on {RANK_DRAWS} draws."
        )
    if len(run.weights) == 1:
        notes.append(
            "One expert: no gate and no ensembles. Results of EnECG are those of the expert."
        )
    if run.parameters:
        notes.append("Parameters: heads and gate only, without the frozen experts.")
    if run.config["records_left_out"]:
        notes.append(f"Skipped {run.config['records_left_out']} unreadable ECGs.")
    notes += pretraining_warnings(run.config["dataset"], run.pretrained)
    notes += run.config["notes"]
    for task in run.tasks.values():
        notes += _explain_undefined(run, task)
    return tuple(notes)


def _pretraining_notes(run: RunResults) -> list[str]:
    """Describe the pretraining of experts from the provenance of their stores."""
    namespace = run.config["dataset"]
    notes = []
    for provenance in run.provenance.values():
        if METADATA_KEY not in provenance:
            continue
        expert = provenance["expert"]
        source = Pretraining.from_json(provenance[METADATA_KEY], f"The provenance of {expert}")
        unseen = ", none of whom is a test patient"
        notes.append(
            f"{expert}: pretrained on the ECGs of {source.patients:,} patients of {source.dataset}"
            f"{unseen if same_patients(source.dataset, namespace) else ''} (list of patients: "
            f"SHA-256 {source.patients_sha256[:12]})."
        )
    return notes


def _baseline_notes(run: RunResults) -> list[str]:
    """Explain the chance level or, if it is missing, why classifications have no bold cells."""
    if all(task.kind == "regression" for task in run.tasks.values()):
        return []
    if CHANCE not in run.methods:
        return [
            "These results were written by a version without the chance level, so classifications "
            "have no bold cells. Train again to add it."
        ]
    return [
        "Chance: expected score and interval of predictions that are drawn at random with the "
        "class or label frequencies of the training records. Regressions have no chance level; "
        "compare them with the constant predictor."
    ]


def other_metrics_notes(run: RunResults) -> tuple[str, ...]:
    """Return notes that explain the other metrics of the run's tasks."""
    kinds = {task.kind for task in run.tasks.values()}
    notes = []
    if kinds & {"binary", "multiclass"}:
        notes += [
            f"Intervals of AUROC and AUPRC are based on {RANK_DRAWS} draws. The AUPRC of a "
            "constant prediction is the share of the positive class. For AUROC and AUPRC, chance "
            "is a random order of the records.",
            f"ECE: expected calibration error over {BINS} equal-width bins of the predicted "
            "probability: of the positive class for binary tasks, of the most probable class for "
            "multiclass tasks.",
            "Intervals of ECE and, for multiclass tasks, of means over classes are corrected for "
            "bootstrap bias, because a bootstrap sample repeats records and can omit rare classes.",
        ]
    if "multiclass" in kinds:
        notes.append("Means over classes exclude classes without a test record.")
    return tuple(notes)


_UNDEFINED = {
    "regression": "all test records have the same value",
    "binary": "all test records have the same class",
    "multiclass": "all test records have the same class",
    "multilabel": "no label is present in some but not all test records",
}
"""Reason for undefined metrics, by kind of task."""


def _explain_undefined(run: RunResults, task: TaskSummary) -> list[str]:
    """Return a note for each metric that is undefined in at least one repeat."""
    notes, reason = [], _UNDEFINED[task.kind]
    for score in (score for score in run.scores if score.task == task.name):
        for measure in (score, *score.others):
            undefined = sum(map(math.isnan, measure.values))
            if undefined:
                repeats = len(measure.values)
                rest = "; the mean is over the other repeats" if undefined < repeats else ""
                notes.append(
                    f"{task.title}: {measure.metric} is undefined in {undefined} of {repeats} "
                    f"repeats, where {reason}{rest}."
                )
    return list(dict.fromkeys(notes))
