"""Compare heads on pretrained weights with heads on random weights of the same experts.

    python -m benchmarks pretraining mimic-iv-ecg:data/demo --store stores-data/lab \
        --weights timesnet@pretraining/timesnet/timesnet.safetensors

The store must contain embeddings with these weights and with `random:0`. Heads on both are trained
on the same patients. The benchmark fails if a test patient was in the pretraining data. It prints a
Markdown table of the main metric of each task: means over repeats, and paired differences with 95 %
intervals from a bootstrap by patient.
"""

import argparse
from dataclasses import replace

from pipeline.evaluation.differences import compute_differences
from pipeline.evaluation.predictions import ENSEMBLE
from pipeline.evaluation.scores import compute_scores
from pipeline.training.features import read_features
from pipeline.training.inputs import prepare_inputs
from pipeline.training.pretraining_patients import ListPaths, check_cohorts, find_pretrained
from pipeline.training.repeat import run_repeats
from pipeline.training.settings import TrainSettings
from pipeline.training.splits import make_splits
from pipeline.training.store_selection import Cache
from pipeline.training.torch_state import single_thread

RANDOM = "random:0"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset")
    parser.add_argument("--store", required=True)
    parser.add_argument(
        "--weights", nargs="+", required=True, help="pretrained weights as EXPERT@FILE"
    )
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    experts = tuple(text.partition("@")[0] for text in arguments.weights)
    settings = TrainSettings(
        tasks=("all",), experts=experts, weights=tuple(arguments.weights), repeats=arguments.repeats
    )
    inputs = prepare_inputs(arguments.dataset, arguments.store, settings)
    untrained = prepare_inputs(
        arguments.dataset, arguments.store, replace(settings, weights=(RANDOM,))
    )
    assert (inputs.record_id == untrained.record_id).all()
    splits = make_splits(settings, inputs)
    stores = inputs.cache.experts
    pretrained = find_pretrained(
        [store.provenance for store in stores.values()],
        inputs.dataset.namespace,
        ListPaths(settings.weights),
    )
    assert len(pretrained) == len(experts), "a store has no pretraining metadata"
    cohorts, _ = check_cohorts(
        splits.cohorts, pretrained, inputs.labels["patient_id"], exclude=False
    )
    random = {f"{name} {RANDOM}": store for name, store in untrained.cache.experts.items()}
    cache = Cache({**stores, **random}, inputs.cache.leads)
    features = read_features(cache, inputs.record_id, "cpu")
    with single_thread():
        repeats = run_repeats(
            cohorts, replace(inputs, cache=cache), features, settings.fit, lambda *_: None
        )
    predictions = [prediction for repeat in repeats for prediction in repeat.predictions]
    print("| task, metric | expert | random:0 | pretrained | pretrained minus random:0 |")
    print("|---|---|---|---|---|")
    for expert in experts:
        methods = {expert: ENSEMBLE, f"{expert} {RANDOM}": RANDOM}
        both = [
            replace(prediction, method=methods[prediction.method])
            for prediction in predictions
            if prediction.method in methods
        ]
        scores = {(score.task, score.method): score for score in compute_scores(both)}
        choices = {RANDOM: {task.name: [RANDOM] * len(repeats) for task in inputs.tasks}}
        for gain in compute_differences(both, choices):
            pretrained_score, random_score = scores[gain.task, ENSEMBLE], scores[gain.task, RANDOM]
            if gain.metric != pretrained_score.metric:
                continue
            print(
                f"| {gain.task}, {gain.metric} | {expert} | {random_score.mean:.3g} "
                f"| {pretrained_score.mean:.3g} "
                f"| {gain.mean:+.3g} [{gain.low:+.3g}, {gain.high:+.3g}] |"
            )


if __name__ == "__main__":
    main()
