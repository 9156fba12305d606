"""Heads on embeddings of a run's experts with random weights, as baselines."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from pipeline.evaluation.predictions import RANDOM, TaskPredictions
from pipeline.training.features import Features
from pipeline.training.fit_heads import fit_heads
from pipeline.training.fitted_models import FittedHeads
from pipeline.training.inputs import Inputs
from pipeline.training.labeled_repeat import label_repeat
from pipeline.training.parallel import map_in_threads
from pipeline.training.predictions import PredictionBuilder
from pipeline.training.repeat import LogFit, Repeat
from pipeline.training.settings import FitSettings


def add_random_baselines(
    repeats: Sequence[Repeat],
    inputs: Inputs,
    features: Features,
    settings: FitSettings,
    log: LogFit,
    *,
    threads: int = 1,
) -> list[Repeat]:
    """Train heads on embeddings with random weights, and predict the test records of all repeats.

    The heads are trained like those of the experts, with the same settings, cohorts and seeds. They
    are not part of the gate or of ensembles.

    Args:
        repeats: The trained repeats.
        inputs: Inputs with the tasks and labels.
        features: Embeddings with random weights of the records of all cohorts, by expert.
        settings: Hyperparameters.
        log: Called after the heads of each expert.
        threads: Maximum number of experts that are trained at the same time. Default: 1.

    Returns:
        The repeats with predictions, thresholds and parameter counts of the baselines. The
        predictions of each follow those of its expert.
    """
    labeled = [label_repeat(repeat.cohort, inputs, features) for repeat in repeats]
    combined = len(repeats[0].heads) > 1

    def fit(name: str) -> list[FittedHeads]:
        return fit_heads(features.experts[name], labeled, settings, combined=combined)

    names = list(features.experts)
    heads: dict[str, list[FittedHeads]] = {}
    for name, fitted in zip(names, map_in_threads(fit, names, threads), strict=True):
        heads[RANDOM + name] = fitted
        log(f"{name} with random weights", fitted)
    extended = []
    for index, repeat in enumerate(repeats):
        builder = PredictionBuilder(index, repeat.cohort.record_id, inputs.labels, labeled[index])
        fits = {method: fitted[index] for method, fitted in heads.items()}
        outputs = {method: fit.outputs for method, fit in fits.items()}
        thresholds = builder.choose_thresholds(outputs)
        added = builder.predict_methods(outputs, thresholds)
        ordered: list[TaskPredictions] = []
        for method, predictions in groupby(repeat.predictions, lambda item: item.method):
            ordered += predictions
            ordered += [prediction for prediction in added if prediction.method == RANDOM + method]
        extended.append(
            replace(
                repeat,
                predictions=tuple(ordered),
                thresholds=repeat.thresholds | thresholds,
                parameters=repeat.parameters
                | {method: (fit.trainable, fit.total) for method, fit in fits.items()},
            )
        )
    return extended
