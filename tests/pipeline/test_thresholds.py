import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from enecg.tasks import TASKS
from pipeline.evaluation.thresholds import choose_threshold, decide
from pipeline.labels.targets import Targets, fit_targets


@pytest.fixture(scope="module")
def sex() -> Targets:
    return fit_targets(TASKS["sex"], pd.Series([0.0, 1.0]))


def macro_f1(truth: np.ndarray, predicted: np.ndarray) -> float:
    return float(f1_score(truth, predicted, average="macro", labels=[0, 1], zero_division=0))


def make_outputs(probability: np.ndarray) -> np.ndarray:
    return np.stack([1 - probability, probability], 1)


def test_class_1_is_predicted_at_and_above_the_threshold(sex: Targets):
    predicted = decide(sex, make_outputs(np.array([0.4, 0.5, 0.6])), 0.5)
    assert predicted.tolist() == [0, 1, 1]


@pytest.mark.parametrize("seed", range(5))
def test_threshold_maximizes_macro_f1(sex: Targets, seed: int):
    rng = np.random.default_rng(seed)
    truth = (rng.random(80) < 0.1).astype(int)
    # Rounding to two decimals gives many records equal probabilities.
    probability = np.round(np.clip(0.1 + 0.2 * truth + 0.2 * rng.normal(size=80), 0, 1), 2)

    def score(threshold: float) -> float:
        return macro_f1(truth, decide(sex, make_outputs(probability), threshold))

    best = max(map(score, np.append(np.linspace(0, 1.005, 202), np.inf)))
    assert score(choose_threshold(probability, truth)) == pytest.approx(best)


def test_all_records_at_the_chosen_threshold_are_predicted_as_class_1(sex: Targets):
    truth = np.array([1, 1, 1, 1, 0, 1, 0, 0, 0])
    probability = np.array([0.9, 0.9, 0.5, 0.5, 0.5, 0.5, 0.1, 0.1, 0.1])
    threshold = choose_threshold(probability, truth)
    predicted = decide(sex, make_outputs(probability), threshold)
    assert threshold == 0.5
    assert predicted.tolist() == [1, 1, 1, 1, 1, 1, 0, 0, 0]


def test_records_with_equal_probability_are_not_separated(sex: Targets):
    # Of the records at 0.5, only the first has class 1, and no threshold separates it from the
    # others. Predicting class 1 for all records at 0.5 is worse than for none of them.
    truth = np.array([1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0])
    probability = np.array([0.9] * 4 + [0.5] * 9)
    threshold = choose_threshold(probability, truth)
    predicted = decide(sex, make_outputs(probability), threshold)
    assert threshold == 0.9
    assert predicted.tolist() == [1.0] * 4 + [0.0] * 9
    assert macro_f1(truth, predicted) > macro_f1(truth, decide(sex, make_outputs(probability), 0.5))


def test_threshold_is_infinite_if_predicting_class_0_for_all_records_is_best(sex: Targets):
    truth = np.array([0, 0, 0, 0, 0, 1])
    probability = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.1])
    assert choose_threshold(probability, truth) == np.inf
    assert decide(sex, make_outputs(probability), np.inf).tolist() == [0] * 6
