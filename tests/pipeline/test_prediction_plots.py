"""Numbers shown by plots of predictions, gate weights and calibration."""

from dataclasses import dataclass

import numpy as np

from enecg.metrics import Bin
from enecg.tasks import OTHER_CLASS, TASKS
from pipeline.evaluation.predictions import ENSEMBLE, TaskPredictions
from pipeline.labels.targets import Targets
from pipeline.report.gate_plot import THIRDS, group_gate_weights
from pipeline.report.prediction_plots import plot_confusions, sum_confusions, truncated_names
from pipeline.report.reliability_plot import connected_bins
from pipeline.training.cohorts import Cohort


@dataclass
class Repeat:
    """The fields of a repeat that the plots read."""

    cohort: Cohort
    targets: dict[str, Targets]
    gate_weights: dict[str, np.ndarray]
    predictions: tuple[TaskPredictions, ...]


def make_repeat(
    task: str, truth: list[float], predicted: list[float], weights: np.ndarray, classes=()
) -> Repeat:
    """Test records 10, 11, ...; the last one has no label."""
    test = np.arange(10, 11 + len(truth))
    targets = Targets(TASKS[task], classes=classes)
    predictions = TaskPredictions(
        TASKS[task], ENSEMBLE, 0, test[:-1], test[:-1], np.array(truth), np.array(predicted)
    )
    empty = np.array([], int)
    cohort = Cohort(0, empty, empty, test)
    return Repeat(cohort, {task: targets}, {task: weights}, (predictions,))


def test_confusions_are_summed_by_class_name():
    weights = np.ones((4, 1, 1))
    first = make_repeat("arrhythmia", [0.0, 1, 2], [0.0, 0, 2], weights, ("AF", "VT", OTHER_CLASS))
    second = make_repeat(
        "arrhythmia", [0.0, 1, 2], [1.0, 1, 2], weights, ("VT", "SVT", OTHER_CLASS)
    )
    names, counts = sum_confusions([first, second], "arrhythmia")  # type: ignore[list-item]
    assert names == ["AF", "VT", "SVT", OTHER_CLASS]
    np.testing.assert_array_equal(counts, [[1, 0, 0, 0], [1, 0, 1, 0], [0, 0, 1, 0], [0, 0, 0, 2]])


def test_truncated_class_names_are_listed():
    fits = "Sinus bradycardia with 1st degree A-V block"
    long = "Atrial fibrillation with rapid ventricular response and premature complexes"
    repeat = make_repeat("arrhythmia", [0.0], [0.0], np.ones((2, 1, 1)), (fits, long, OTHER_CLASS))
    assert truncated_names([repeat]) == [long]  # type: ignore[list-item]
    (axes,) = plot_confusions([repeat]).axes  # type: ignore[list-item, union-attr]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels[0] == "Sinus bradycardia with 1st\ndegree A-V block  1"
    assert labels[1].endswith("…  2")


def test_lines_connect_adjacent_bins_with_enough_records():
    records = [9, 9, 4, 7, 8]
    bins = [
        Bin(place / 10, (place + 1) / 10, n, place / 10 + 0.05, 0.5)
        for place, n in zip((0, 1, 2, 3, 5), records, strict=True)
    ]
    assert connected_bins(bins) == [slice(0, 2), slice(3, 4), slice(4, 5)]
    assert connected_bins(bins[2:3]) == []


def test_gate_weights_of_a_class_are_averaged_over_its_records():
    weights = np.array([[[1.0, 0.0]], [[0.0, 1.0]], [[0.5, 0.5]], [[0.9, 0.1]]])
    repeat = make_repeat("sex", [0.0, 1, 1], [0.0, 1, 1], weights, ("female", "male"))
    every, female, male = group_gate_weights([repeat], "sex")  # type: ignore[list-item]
    assert (every[1], female[:2], male[:2]) == (3, ("female", 1), ("male", 2))
    np.testing.assert_allclose(every[2], [0.5, 0.5])
    np.testing.assert_allclose(female[2], [1, 0])
    np.testing.assert_allclose(male[2], [0.25, 0.75])


def test_gate_weights_of_a_regression_are_averaged_over_thirds_and_outputs():
    low, high = [[1.0, 0.0], [0.8, 0.2]], [[0.0, 1.0], [0.2, 0.8]]
    weights = np.array([high, low, low, high, high, low, low])
    repeat = make_repeat("age", [80.0, 20, 21, 50, 90, 51], [0.0] * 6, weights)
    groups = group_gate_weights([repeat], "age")  # type: ignore[list-item]
    assert [name for name, _, _ in groups] == ["", *THIRDS]
    assert [n for _, n, _ in groups] == [6, 2, 2, 2]
    np.testing.assert_allclose(groups[1][2], [0.9, 0.1])
    np.testing.assert_allclose(groups[3][2], [0.1, 0.9])
