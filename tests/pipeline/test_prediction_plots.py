"""Numbers shown by plots of predictions, gate weights and calibration."""

import numpy as np

from enecg.metrics import Bin
from enecg.tasks import OTHER_CLASS, TASKS
from pipeline.evaluation.predictions import ENSEMBLE, TaskPredictions
from pipeline.labels.targets import Targets
from pipeline.report.gate_plot import THIRDS, group_gate_weights
from pipeline.report.prediction_plots import plot_confusion, sum_confusions, truncated_names
from pipeline.report.regression_plots import agreement_limits, plot_bland_altman, plot_predicted
from pipeline.report.reliability_plot import connected_bins
from pipeline.runs.run_details import RunDetails

Repeat = tuple[list[float], list[float], tuple[str, ...]]
"""Truth, predictions and classes of a repeat."""


def make_details(task: str, *repeats: Repeat, weights: np.ndarray | None = None) -> RunDetails:
    """Return details of a run with one task."""
    records = [np.arange(10, 10 + len(truth)) for truth, _, _ in repeats]
    predictions = [
        TaskPredictions(
            TASKS[task], ENSEMBLE, 0, record, record, np.array(truth), np.array(predicted)
        )
        for record, (truth, predicted, _) in zip(records, repeats, strict=True)
    ]
    targets = [{task: Targets(TASKS[task], classes=classes)} for _, _, classes in repeats]
    gate_weights = {} if weights is None else {task: [weights]}
    return RunDetails(tuple(targets), {ENSEMBLE: {task: predictions}}, gate_weights, ())


def test_confusions_are_summed_by_class_name():
    details = make_details(
        "arrhythmia",
        ([0.0, 1, 2], [0.0, 0, 2], ("AF", "VT", OTHER_CLASS)),
        ([0.0, 1, 2], [1.0, 1, 2], ("VT", "SVT", OTHER_CLASS)),
    )
    names, counts = sum_confusions(details, "arrhythmia")
    assert names == ["AF", "VT", "SVT", OTHER_CLASS]
    np.testing.assert_array_equal(counts, [[1, 0, 0, 0], [1, 0, 1, 0], [0, 0, 1, 0], [0, 0, 0, 2]])


def test_truncated_class_names_are_listed():
    fits = "Sinus bradycardia with 1st degree A-V block"
    long = "Atrial fibrillation with rapid ventricular response and premature complexes"
    classes = (fits, long, "a", "b", OTHER_CLASS)
    details = make_details("arrhythmia", ([0.0], [0.0], classes))
    assert truncated_names(details, "arrhythmia") == [fits, long]
    (axes,) = plot_confusion(details, "arrhythmia").axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels[0] == "Sinus bradycardia with 1st\ndegree A-V block  1"
    assert labels[1].endswith("…  2")


def test_regression_plots_show_predictions_and_errors():
    truth, predicted = [20.0, 40.0, 60.0], [24.0, 38.0, 61.0]
    repeats = make_details("age", (truth, predicted, ())).ensemble("age")
    points = plot_predicted(repeats).axes[0].lines[-1]
    assert (points.get_xdata().tolist(), points.get_ydata().tolist()) == (truth, predicted)
    axes = plot_bland_altman(repeats).axes[0]
    assert axes.lines[0].get_xdata().tolist() == [22, 39, 60.5]
    assert axes.lines[0].get_ydata().tolist() == [4, -2, 1]
    low, mean, high = agreement_limits(np.array([4.0, -2, 1]))
    assert (low, mean, high) == (1 - 1.96 * 3, 1, 1 + 1.96 * 3)
    assert [line.get_ydata()[0] for line in axes.lines[1:]] == [low, mean, high]


def test_lines_connect_adjacent_bins_with_enough_records():
    records = [9, 9, 4, 7, 8]
    bins = [
        Bin(position / 10, (position + 1) / 10, n, position / 10 + 0.05, 0.5)
        for position, n in zip((0, 1, 2, 3, 5), records, strict=True)
    ]
    assert connected_bins(bins) == [slice(0, 2), slice(3, 4), slice(4, 5)]
    assert connected_bins(bins[2:3]) == []


def test_gate_weights_of_a_class_are_averaged_over_its_records():
    weights = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    details = make_details("sex", ([0.0, 1, 1], [0.0] * 3, ("female", "male")), weights=weights)
    every, female, male = group_gate_weights(details, "sex")
    assert (every[1], female[:2], male[:2]) == (3, ("female", 1), ("male", 2))
    np.testing.assert_allclose(every[2], [0.5, 0.5])
    np.testing.assert_allclose(female[2], [1, 0])
    np.testing.assert_allclose(male[2], [0.25, 0.75])


def test_gate_weights_of_a_regression_are_averaged_over_thirds():
    low, high = [0.9, 0.1], [0.1, 0.9]
    weights = np.array([high, low, low, high, high, low])
    truth = [80.0, 20, 21, 50, 90, 51]
    groups = group_gate_weights(make_details("age", (truth, truth, ()), weights=weights), "age")
    assert [name for name, _, _ in groups] == ["", *THIRDS]
    assert [n for _, n, _ in groups] == [6, 2, 2, 2]
    np.testing.assert_allclose(groups[1][2], [0.9, 0.1])
    np.testing.assert_allclose(groups[3][2], [0.1, 0.9])
