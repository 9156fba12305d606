import numpy as np
import pytest

from enecg import metrics


def probabilities(rng: np.random.Generator, records: int, classes: int) -> np.ndarray:
    """Rounded, so that many records are told the same."""
    return np.round(rng.dirichlet(np.ones(classes), records), 2)


def test_calibration_is_right_where_what_is_told_comes_true_as_often():
    told = np.repeat([0.25, 0.75], 400)
    came = np.concatenate([np.arange(400) < 100, np.arange(400) < 300]).astype(float)
    probability = np.stack([1 - told, told], 1)
    assert metrics.calibration_error(came, probability) == pytest.approx(0)
    low, high = metrics.reliability_bins(came, probability)
    assert (low.low, low.high, low.n, low.probability, low.share) == (0.2, 0.3, 400, 0.25, 0.25)
    assert (high.n, high.share) == (400, 0.75)
    assert metrics.calibration_error(np.ones(800), probability) == pytest.approx(0.5)


def test_of_many_classes_the_one_held_most_probable_is_believed_or_not():
    probability = np.array([[0.6, 0.3, 0.1], [0.2, 0.1, 0.7], [0.5, 0.25, 0.25]])
    told, came_true = metrics.calibration_pairs(np.array([0.0, 0.0, 2.0]), probability)
    np.testing.assert_allclose(told, [0.6, 0.7, 0.5])
    np.testing.assert_array_equal(came_true, [1, 0, 0])


def test_certainty_falls_into_the_last_bin():
    np.testing.assert_array_equal(
        metrics.bin_indices(np.array([0.0, 0.1, 0.95, 1.0])), [0, 1, 9, 9]
    )


def test_what_is_not_defined_is_nan_and_nothing_is_warned_of():
    one_class = np.zeros(20)
    probability = probabilities(np.random.default_rng(0), 20, 2)
    assert np.isnan(metrics.auroc(one_class, probability))
    assert np.isnan(metrics.auprc(one_class, probability))
    assert np.isnan(metrics.macro_auroc(one_class, probability))
    assert np.isnan(metrics.r2(np.full(20, 7.0), np.arange(20.0)))


def test_classes_without_a_test_record_are_left_out_of_the_mean():
    truth = np.array([0.0, 0.0, 1.0, 1.0])
    assert metrics.balanced_accuracy(truth, np.array([0.0, 0.0, 1.0, 4.0])) == pytest.approx(0.75)
    f1 = metrics.macro_f1_of_present(truth, np.array([0.0, 0.0, 1.0, 4.0]))
    assert f1 == pytest.approx((1 + 2 / 3) / 2)
    probability = np.zeros((4, 5))
    probability[:2, 0] = probability[2:, 1] = 1
    assert metrics.macro_auroc(truth, probability) == pytest.approx(1)


def test_the_mean_as_a_prediction_explains_nothing():
    truth = np.arange(10.0)
    assert metrics.r2(truth, np.full(10, 4.5)) == pytest.approx(0)
    assert metrics.r2(truth, truth) == 1
    assert metrics.root_mean_squared_error(truth, truth + 3) == pytest.approx(3)
