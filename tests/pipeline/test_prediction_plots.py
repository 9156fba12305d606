"""What the page's plots of answers count, on answers that are known."""

from dataclasses import dataclass

import numpy as np

from enecg.metrics import Bin
from enecg.tasks import OTHER_CLASS, TASKS
from pipeline.evaluation.predictions import ENSEMBLE, TaskPredictions
from pipeline.labels.targets import Targets
from pipeline.report.prediction_plots import (
    THIRDS,
    confusions,
    cut_names,
    gate_groups,
    sum_confusions,
)
from pipeline.report.reliability_plot import joined
from pipeline.training.cohorts import Cohort


@dataclass
class Repeat:
    """As much of a repeat as the plots count."""

    cohort: Cohort
    targets: dict[str, Targets]
    gate_weights: dict[str, np.ndarray]
    predictions: tuple[TaskPredictions, ...]


def repeat(
    task: str, truth: list[float], said: list[float], weights: np.ndarray, classes=()
) -> Repeat:
    """Test records 10, 11, ... of which the last has no known truth."""
    test = np.arange(10, 11 + len(truth))
    targets = Targets(TASKS[task], classes=classes)
    told = TaskPredictions(
        TASKS[task], ENSEMBLE, 0, test[:-1], test[:-1], np.array(truth), np.array(said)
    )
    none = np.array([], int)
    return Repeat(Cohort(0, none, none, test), {task: targets}, {task: weights}, (told,))


def test_confusions_are_summed_by_the_names_of_the_classes_not_by_their_numbers():
    weights = np.ones((4, 1, 1))
    first = repeat("arrhythmia", [0.0, 1, 2], [0.0, 0, 2], weights, ("AF", "VT", OTHER_CLASS))
    second = repeat("arrhythmia", [0.0, 1, 2], [1.0, 1, 2], weights, ("VT", "SVT", OTHER_CLASS))
    names, counts = sum_confusions([first, second], "arrhythmia")  # type: ignore[list-item]
    assert names == ["AF", "VT", "SVT", OTHER_CLASS]
    np.testing.assert_array_equal(counts, [[1, 0, 0, 0], [1, 0, 1, 0], [0, 0, 1, 0], [0, 0, 0, 2]])


def test_names_that_no_figure_shows_whole_are_told_in_full():
    fits = "Sinus bradycardia with 1st degree A-V block"
    long = "Atrial fibrillation with rapid ventricular response and premature complexes"
    one = repeat("arrhythmia", [0.0], [0.0], np.ones((2, 1, 1)), (fits, long, OTHER_CLASS))
    assert cut_names([one]) == [long]  # type: ignore[list-item]
    (axes,) = confusions([one]).axes  # type: ignore[list-item, union-attr]
    told = [label.get_text() for label in axes.get_yticklabels()]
    assert told[0] == "Sinus bradycardia with 1st\ndegree A-V block  1"
    assert told[1].endswith("…  2")


def test_bins_are_joined_to_neighbours_where_both_have_records_enough():
    records = [9, 9, 4, 7, 8]
    bins = [
        Bin(place / 10, (place + 1) / 10, n, place / 10 + 0.05, 0.5)
        for place, n in zip((0, 1, 2, 3, 5), records, strict=True)
    ]
    assert joined(bins) == [slice(0, 2), slice(3, 4), slice(4, 5)]
    assert joined(bins[2:3]) == []


def test_gate_weights_of_a_class_are_those_of_its_own_records():
    weights = np.array([[[1.0, 0.0]], [[0.0, 1.0]], [[0.5, 0.5]], [[0.9, 0.1]]])
    one = repeat("sex", [0.0, 1, 1], [0.0, 1, 1], weights, ("female", "male"))
    every, female, male = gate_groups([one], "sex")  # type: ignore[list-item]
    assert (every[1], female[:2], male[:2]) == (3, ("female", 1), ("male", 2))
    np.testing.assert_allclose(every[2], [0.5, 0.5])
    np.testing.assert_allclose(female[2], [1, 0])
    np.testing.assert_allclose(male[2], [0.25, 0.75])


def test_gate_weights_of_values_are_told_by_thirds_and_of_outputs_by_their_mean():
    low, high = [[1.0, 0.0], [0.8, 0.2]], [[0.0, 1.0], [0.2, 0.8]]
    weights = np.array([high, low, low, high, high, low, low])
    one = repeat("age", [80.0, 20, 21, 50, 90, 51], [0.0] * 6, weights)
    told = gate_groups([one], "age")  # type: ignore[list-item]
    assert [name for name, _, _ in told] == ["", *THIRDS]
    assert [n for _, n, _ in told] == [6, 2, 2, 2]
    np.testing.assert_allclose(told[1][2], [0.9, 0.1])
    np.testing.assert_allclose(told[3][2], [0.1, 0.9])
