import numpy as np
import pytest
import sklearn.metrics

from enecg import metrics


def rounded_probabilities(rng: np.random.Generator, records: int, classes: int) -> np.ndarray:
    """Return class probabilities rounded to two decimals, so that many are equal."""
    return np.round(rng.dirichlet(np.ones(classes), records), 2)


def test_calibration_error_is_zero_if_frequencies_equal_probabilities():
    predicted = np.repeat([0.25, 0.75], 400)
    truth = np.concatenate([np.arange(400) < 100, np.arange(400) < 300]).astype(float)
    probability = np.stack([1 - predicted, predicted], 1)
    assert metrics.calibration_error(truth, probability) == pytest.approx(0)
    low, high = metrics.reliability_bins(truth, probability)
    assert (low.low, low.high, low.n, low.probability, low.share) == (0.2, 0.3, 400, 0.25, 0.25)
    assert (high.n, high.share) == (400, 0.75)
    assert metrics.calibration_error(np.ones(800), probability) == pytest.approx(0.5)


def test_multiclass_calibration_uses_the_probability_of_the_predicted_class():
    probability = np.array([[0.6, 0.3, 0.1], [0.2, 0.1, 0.7], [0.5, 0.25, 0.25]])
    confidence, outcome = metrics.calibration_pairs(np.array([0.0, 0.0, 2.0]), probability)
    np.testing.assert_allclose(confidence, [0.6, 0.7, 0.5])
    np.testing.assert_array_equal(outcome, [1, 0, 0])


def test_probability_one_belongs_to_the_last_bin():
    indices = metrics.bin_indices(np.array([0.0, 0.1, 0.95, 1.0]))
    np.testing.assert_array_equal(indices, [0, 1, 9, 9])


def test_undefined_metrics_are_nan_without_a_warning():
    one_class = np.zeros(20)
    probability = rounded_probabilities(np.random.default_rng(0), 20, 2)
    assert np.isnan(metrics.auroc(one_class, probability))
    assert np.isnan(metrics.auprc(one_class, probability))
    assert np.isnan(metrics.macro_auroc(one_class, probability))
    assert np.isnan(metrics.r2(np.full(20, 7.0), np.arange(20.0)))


def test_classes_without_a_test_record_are_excluded_from_the_mean():
    truth = np.array([0.0, 0.0, 1.0, 1.0])
    assert metrics.balanced_accuracy(truth, np.array([0.0, 0.0, 1.0, 4.0])) == pytest.approx(0.75)
    f1 = metrics.macro_f1_of_present(truth, np.array([0.0, 0.0, 1.0, 4.0]))
    assert f1 == pytest.approx((1 + 2 / 3) / 2)
    probability = np.zeros((4, 5))
    probability[:2, 0] = probability[2:, 1] = 1
    assert metrics.macro_auroc(truth, probability) == pytest.approx(1)


@pytest.mark.parametrize("classes", [2, 7])
def test_metrics_of_classes_equal_those_of_scikit_learn(classes: int):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        truth, predicted = rng.integers(0, classes, (2, int(rng.integers(1, 40)))).astype(float)
        present = np.unique(truth)
        average = {"average": "macro", "zero_division": 0}
        expected = {
            metrics.accuracy: sklearn.metrics.accuracy_score(truth, predicted),
            metrics.macro_f1: sklearn.metrics.f1_score(truth, predicted, labels=[0, 1], **average),
            metrics.macro_f1_of_present: sklearn.metrics.f1_score(
                truth, predicted, labels=present, **average
            ),
            metrics.balanced_accuracy: sklearn.metrics.recall_score(
                truth, predicted, labels=present, **average
            ),
        }
        for metric, value in expected.items():
            assert metric(truth, predicted) == pytest.approx(value, rel=1e-12), metric.__name__


def test_errors_of_regressions_equal_those_of_scikit_learn():
    truth, predicted = 1e6 + np.random.default_rng(0).normal(size=(2, 200))
    error = sklearn.metrics.mean_absolute_error(truth, predicted)
    assert metrics.mean_absolute_error(truth, predicted) == pytest.approx(error, rel=1e-12)
    error = sklearn.metrics.root_mean_squared_error(truth, predicted)
    assert metrics.root_mean_squared_error(truth, predicted) == pytest.approx(error, rel=1e-12)


def test_r2_and_rmse_of_simple_predictions_are_exact():
    truth = np.arange(10.0)
    assert metrics.r2(truth, np.full(10, 4.5)) == pytest.approx(0)
    assert metrics.r2(truth, truth) == 1
    assert metrics.root_mean_squared_error(truth, truth + 3) == pytest.approx(3)
