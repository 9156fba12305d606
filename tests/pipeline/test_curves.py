"""ROC and precision-recall curves, and AUROC by class, against scikit-learn."""

from dataclasses import replace

import numpy as np
from made_runs import predict
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from pipeline.evaluation.class_scores import measure_classes
from pipeline.evaluation.curves import GRID, precision_recall_curve
from pipeline.evaluation.curves import roc_curve as mean_roc_curve
from pipeline.evaluation.predictions import ENSEMBLE
from pipeline.evaluation.scores import compute_score


def test_roc_curve_of_one_repeat_is_that_of_scikit_learn():
    predictions = predict("sex", ENSEMBLE, 0, records=500)
    assert predictions.probability is not None
    curve = mean_roc_curve([predictions])
    assert curve is not None
    x, y, _ = roc_curve(predictions.truth, predictions.probability[:, 1])
    highest = np.array([y[x == value].max() for value in x])
    np.testing.assert_allclose(curve.y, np.interp(GRID, x, highest), atol=0.02)
    area = roc_auc_score(predictions.truth, predictions.probability[:, 1])
    assert abs(np.trapezoid(curve.y, curve.x) - area) < 0.01


def test_area_under_the_precision_recall_curve_is_the_average_precision():
    predictions = predict("sex", ENSEMBLE, 0, records=500)
    assert predictions.probability is not None
    curve = precision_recall_curve([predictions])
    assert curve is not None
    expected = average_precision_score(predictions.truth, predictions.probability[:, 1])
    assert abs(curve.y[1:].mean() - expected) < 0.01
    assert curve.y[-1] <= curve.y[50]


def test_interval_contains_the_curve_and_is_wider_for_fewer_patients():
    widths = []
    for records in (60, 600):
        repeats = [predict("sex", ENSEMBLE, repeat, records=records) for repeat in (0, 1)]
        curve = mean_roc_curve(repeats)
        assert curve is not None
        inside = (curve.low <= curve.y + 1e-9) & (curve.y <= curve.high + 1e-9)
        assert inside.mean() > 0.95
        widths.append((curve.high - curve.low).mean())
    assert widths[0] > 2 * widths[1]


def test_curve_is_the_mean_over_repeats_with_both_classes():
    first, second = (predict("sex", ENSEMBLE, repeat) for repeat in (0, 1))
    first_curve = mean_roc_curve([first], interval=False)
    second_curve = mean_roc_curve([second], interval=False)
    both = mean_roc_curve([first, second], interval=False)
    assert first_curve is not None
    assert second_curve is not None
    assert both is not None
    np.testing.assert_allclose(both.y, (first_curve.y + second_curve.y) / 2)
    single = replace(second, truth=np.zeros(len(second.truth)))
    with_single = mean_roc_curve([first, single], interval=False)
    assert with_single is not None
    np.testing.assert_allclose(with_single.y, first_curve.y)
    assert mean_roc_curve([single]) is None
    assert precision_recall_curve([single]) is None


def test_auroc_of_a_class_is_one_versus_rest():
    predictions = predict("arrhythmia", ENSEMBLE, 0)
    assert predictions.probability is not None
    names = ["a", "b", "c", "d"]
    scores = measure_classes([predictions], [names])
    for number, name in enumerate(names):
        expected = roc_auc_score(predictions.truth == number, predictions.probability[:, number])
        assert scores[name].mean == np.float64(expected)
        assert scores[name].low <= expected <= scores[name].high
    macro = next(
        measure
        for measure in compute_score([predictions]).others
        if measure.metric == "macro AUROC"
    )
    np.testing.assert_allclose(np.mean([score.mean for score in scores.values()]), macro.mean)


def test_class_without_a_test_record_has_no_auroc():
    predictions = predict("arrhythmia", ENSEMBLE, 0)
    without = replace(predictions, truth=np.where(predictions.truth == 3, 0.0, predictions.truth))
    assert list(measure_classes([without], [["a", "b", "c", "d"]])) == ["a", "b", "c"]
