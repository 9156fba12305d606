"""EnECG without each expert: the gate is trained again on the heads of the other experts."""

from collections.abc import Sequence
from dataclasses import replace

from pipeline.evaluation.predictions import WITHOUT
from pipeline.training.features import Features
from pipeline.training.inputs import Inputs
from pipeline.training.labeled_repeat import label_repeat
from pipeline.training.mixtures import (
    compute_gate_weights,
    fit_mixtures,
    mix_outputs,
    stack_outputs,
)
from pipeline.training.predictions import PredictionBuilder
from pipeline.training.repeat import LogFit, Repeat
from pipeline.training.settings import FitSettings


def add_leave_one_out(
    repeats: Sequence[Repeat],
    inputs: Inputs,
    features: Features,
    settings: FitSettings,
    log: LogFit,
) -> list[Repeat]:
    """Train the gate and its prior without each expert, and predict the test records.

    The heads are not trained again, because they do not depend on the other experts. With two
    experts, EnECG without one of them is the other expert.

    Args:
        repeats: The trained repeats, with at least two experts.
        inputs: Inputs with the tasks and labels.
        features: Embeddings and sampled leads of the records of all cohorts.
        settings: Hyperparameters. If `top_k` exceeds the number of remaining experts, all of them
            are used.
        log: Called after the gates without each expert are trained.

    Returns:
        The repeats with predictions, thresholds and parameter counts of EnECG without each expert.
    """
    labeled = [label_repeat(repeat.cohort, inputs, features) for repeat in repeats]
    experts = list(repeats[0].heads)
    settings = replace(settings, top_k=min(settings.top_k, len(experts) - 1))
    extended = list(repeats)
    for expert in experts:
        method = WITHOUT + expert
        heads = [
            {name: fit for name, fit in repeat.heads.items() if name != expert}
            for repeat in repeats
        ]
        gates = fit_mixtures(features.leads, labeled, heads, settings)
        log(f"gate without {expert}", gates)
        for index, (repeat, fits, gate) in enumerate(zip(extended, heads, gates, strict=True)):
            records = labeled[index]
            weights = compute_gate_weights(gate, features.leads, records.rows)
            outputs = {method: mix_outputs(records, stack_outputs(fits), weights, settings.mixture)}
            builder = PredictionBuilder(index, repeat.cohort.record_id, inputs.labels, records)
            thresholds = builder.choose_thresholds(outputs)
            extended[index] = replace(
                repeat,
                predictions=(*repeat.predictions, *builder.predict_methods(outputs, thresholds)),
                thresholds=repeat.thresholds | thresholds,
                parameters=repeat.parameters
                | {
                    method: (
                        gate.trainable + sum(fit.trainable for fit in fits.values()),
                        gate.total + sum(fit.total for fit in fits.values()),
                    )
                },
            )
    return extended
