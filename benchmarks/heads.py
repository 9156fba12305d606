"""Scores and CPU time of heads and gate, compared with scikit-learn on the same embeddings.

    python benchmarks/heads.py ludb:LUDB --store stores-data/lab [--repeats 5] [--task NAME:KIND]

All experts with the weights random:0 in the store are used, and all methods use the same random
cohorts. scikit-learn's ridge regression (penalty selected by cross-validation) and logistic
regression (C = 0.01) are fitted on standardized embeddings of training and validation patients. The
benchmark prints a Markdown table of means over the repeats: MAE in the task's unit for regression
(lower is better), AUROC for binary tasks and accuracy for multiclass tasks (higher is better). The
column titles contain the CPU time.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from enecg.errors import UserError
from enecg.tasks import ALL, Task
from pipeline.evaluation.predictions import CONSTANT, ENSEMBLE
from pipeline.evaluation.scores import Score, compute_scores
from pipeline.labels.targets import fit_targets
from pipeline.training.cohorts import Cohort, draw_cohort
from pipeline.training.features import Features, read_features
from pipeline.training.inputs import Inputs, prepare_inputs
from pipeline.training.labeled_repeat import check_labels
from pipeline.training.repeat import run_repeats
from pipeline.training.settings import Adaptation, FitSettings, TrainSettings
from pipeline.training.torch_state import single_thread
from stores.record_ids import as_ids

ADAPTATIONS: tuple[Adaptation, ...] = ("linear-lora", "lora")
PENALTIES = np.logspace(-1, 6, 15)
"""Values of `alpha` for ridge regression."""
INVERSE_PENALTY = 0.01
"""Value of `C` for logistic regression."""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("dataset")
    arguments.add_argument("--store", required=True)
    arguments.add_argument("--repeats", type=int, default=5)
    arguments.add_argument("--task", action="append", default=[], help="NAME:KIND of own tasks")
    given = arguments.parse_args()
    settings = TrainSettings(
        tasks=(ALL,), own_tasks=tuple(given.task), weights=("random:0",), repeats=given.repeats
    )
    inputs = prepare_inputs(given.dataset, given.store, settings)
    patients = as_ids(inputs.labels["patient_id"])
    cohorts = [
        draw_cohort(inputs.record_id, patients, patients=len(patients), seed=seed, ecgs="all")
        for seed in range(given.repeats)
    ]
    inputs = replace(
        inputs, tasks=tuple(task for task in inputs.tasks if fits(task, cohorts, inputs))
    )
    features = read_features(inputs.cache, inputs.record_id, "cpu")
    columns: dict[str, dict[tuple[str, str], float]] = {}
    for adaptation in ADAPTATIONS:
        began = time.process_time()
        with single_thread():
            repeats = run_repeats(
                cohorts, inputs, features, FitSettings(adaptation=adaptation), lambda *_: None
            )
        seconds = time.process_time() - began
        scores = compute_scores([one for repeat in repeats for one in repeat.predictions])
        kinds = {task.name: task.kind for task in inputs.tasks}
        columns[f"{adaptation} ({seconds:.1f} s)"] = {
            (score.task, score.method): value_of(score, kinds[score.task]) for score in scores
        }
    began = time.process_time()
    probes = dict(probe(inputs, features, cohorts))
    columns[f"scikit-learn ({time.process_time() - began:.1f} s)"] = probes
    print(f"| task | method | {' | '.join(columns)} |\n|---|---|{'--:|' * len(columns)}")
    for task in inputs.tasks:
        for method in (CONSTANT, *features.experts, "mean", "greedy", "stacking", ENSEMBLE):
            values = [column.get((task.name, method)) for column in columns.values()]
            cells = " | ".join("" if value is None else f"{value:.3f}" for value in values)
            print(f"| {task.name} | {method} | {cells} |")


def fits(task: Task, cohorts: list[Cohort], inputs: Inputs) -> bool:
    """Return whether every part of every cohort has labels for a task."""
    try:
        for cohort in cohorts:
            check_labels(cohort, replace(inputs, tasks=(task,)))
    except UserError:
        return False
    return True


def value_of(score: Score, kind: str) -> float:
    """Return the AUROC of a binary task, otherwise the task's primary metric."""
    others = [one for one in score.others if one.metric == "AUROC"]
    return others[0].mean if kind == "binary" and others else score.mean


def probe(
    inputs: Inputs, features: Features, cohorts: list[Cohort]
) -> Iterator[tuple[tuple[str, str], float]]:
    """Yield the score of scikit-learn's model for each task and expert."""
    for task in inputs.tasks:
        for expert, embedding in features.experts.items():
            values = []
            for cohort in cohorts:
                labels = inputs.labels[task.column]
                fitted = np.concatenate([cohort.train, cohort.validation])
                targets = fit_targets(task, labels.loc[cohort.train])
                y, truth = (targets.encode(labels.loc[ids]) for ids in (fitted, cohort.test))
                x, tested = (
                    embedding[features.find_rows(ids)].float().numpy()
                    for ids in (fitted, cohort.test)
                )
                known, kept = ~np.isnan(y), ~np.isnan(truth)
                last = (
                    RidgeCV(PENALTIES)
                    if task.kind == "regression"
                    else LogisticRegression(C=INVERSE_PENALTY, max_iter=500)
                )
                model = make_pipeline(StandardScaler(), last).fit(x[known], y[known])
                tested, truth = tested[kept], truth[kept]
                if task.kind == "regression":
                    error = np.abs(model.predict(tested) - truth).mean()
                    values.append(error * targets.scale)
                elif task.kind == "binary":
                    both = len(np.unique(truth)) > 1
                    score = model.predict_proba(tested)[:, 1]
                    values.append(roc_auc_score(truth, score) if both else np.nan)
                else:
                    values.append((model.predict(tested) == truth).mean())
            yield (task.name, expert), float(np.nanmean(values))


if __name__ == "__main__":
    main()
