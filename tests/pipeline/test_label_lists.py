"""Labels of multilabel tasks: parsing, encoding, thresholds, metrics and bootstrap."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from enecg import label_metrics, metrics
from enecg.ensembles import ENSEMBLES, HeadOutputs
from enecg.ensembles.base import task_loss
from enecg.errors import UserError
from enecg.gate import mix
from enecg.tasks import Task, parse_task
from pipeline.evaluation.bootstrap import compute_draws
from pipeline.evaluation.chance import sample_chance
from pipeline.evaluation.predictions import CONSTANT, TaskPredictions, predictions_table
from pipeline.evaluation.resamples import Resamples, draw_counts
from pipeline.evaluation.scores import compute_scores
from pipeline.evaluation.thresholds import DEFAULT_THRESHOLD, choose_label_thresholds
from pipeline.labels.label_lists import check_lists, encode_lists, read_lists
from pipeline.labels.targets import Targets, fit_targets, is_known

CODES = parse_task("codes:multilabel")
COLUMNS = parse_task("found:multilabel:mi+hyp+lvef low")


def read(task: Task, **columns: object) -> tuple[list[object], Counter[str]]:
    skipped: Counter[str] = Counter()
    table = pd.DataFrame(columns, index=pd.RangeIndex(10, 10 + len(next(iter(columns.values())))))  # type: ignore[arg-type]
    return read_lists(table, task, "labels.csv", skipped).tolist(), skipped


@pytest.mark.parametrize(
    "cells",
    [
        ["MI;HYP", " HYP ; MI;MI", "MI", "-", ""],
        ["MI|HYP", "HYP|MI", "MI", "-", None],
        ["MI,HYP", "HYP, MI", "MI", "-", "NA"],
        ["{'MI': 80.0, 'HYP': 0.0}", "['HYP', 'MI']", "{'MI': 1}", "{}", ""],
    ],
)
def test_codes_are_split_at_separators_or_read_from_python_literals(cells: list[str]):
    lists, skipped = read(CODES, codes=cells)
    assert lists == [("HYP", "MI"), ("HYP", "MI"), ("MI",), (), None]
    assert not skipped


def test_comma_is_part_of_codes_separated_by_semicolon():
    lists, _ = read(CODES, codes=["mild, early;late", "mild, early"])
    assert lists == [("late", "mild, early"), ("mild, early",)]


def test_malformed_lists_are_counted():
    lists, skipped = read(CODES, codes=["{'MI': ", "{'MI': 1}"])
    assert lists == [None, ("MI",)]
    assert skipped == {
        "labels.csv: values of codes that are not lists of codes, such as \"{'MI':\" of record 10, "
        "treated as missing": 1
    }


def test_columns_are_combined_and_partial_records_counted():
    lists, skipped = read(
        COLUMNS,
        mi=[1, 0, 1, None, 2],
        hyp=["yes", "No", "yes", None, "no"],
        **{"lvef low": [True, False, None, None, False]},
    )
    assert lists == [("hyp", "lvef low", "mi"), (), None, None, None]
    assert sum(skipped.values()) == 3
    assert any(
        "values of mi other than 0 and 1, such as '2' of record 14" in key for key in skipped
    )
    assert any("some columns of found only, such as record 12" in key for key in skipped)
    with pytest.raises(UserError, match="column mi of the multilabel task found has only"):
        read(COLUMNS, mi=["a", "b"], hyp=[0, 1], **{"lvef low": [0, 1]})


def test_too_many_or_no_labels_are_errors():
    with pytest.raises(UserError, match=r"201 different codes .* at most 200"):
        check_lists(pd.Series([(str(n),) for n in range(201)]), CODES, "labels.csv")
    with pytest.raises(UserError, match="no record has a label of the multilabel task codes"):
        check_lists(pd.Series([(), None], dtype=object), CODES, "labels.csv")


LISTS = pd.Series([("a", "b"), ("a",), (), None, ("c", "a", "all"), ("all",)], dtype=object)


def test_labels_are_those_of_training_records_in_order_of_frequency():
    training = pd.Series([("a", "all"), ("a", "b", "all"), ("b", "a", "all"), ("all",)])
    targets = fit_targets(CODES, training)
    # Every training record has "all", and none has "c".
    assert targets.classes == ("a", "b")
    assert targets.shares == (0.75, 0.5)
    encoded = targets.encode(LISTS)
    np.testing.assert_array_equal(
        encoded, [[1, 1], [1, 0], [0, 0], [np.nan, np.nan], [1, 0], [0, 0]]
    )
    np.testing.assert_array_equal(is_known(encoded), [True, True, True, False, True, True])
    np.testing.assert_array_equal(targets.known(LISTS), is_known(encoded))
    with pytest.raises(UserError, match=r"label of codes is in all or in none of the 2 .*\(of 3"):
        fit_targets(CODES, pd.Series([("a",), ("a",), None], dtype=object))


def test_targets_are_restored_with_their_columns():
    targets = fit_targets(COLUMNS, pd.Series([("mi",), (), ("hyp", "mi")]))
    restored = Targets.from_document("found", targets.to_document())
    assert restored == targets
    assert restored.task.columns == ("mi", "hyp", "lvef low")


def make_truth(records: int = 90, labels: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    truth = (rng.random((records, labels)) < [0.5, 0.2, 0.05, 0.0][:labels]).astype(float)
    probability = np.clip(0.3 * truth + 0.7 * rng.random(truth.shape), 0, 1).round(2)
    return truth, probability


def test_metrics_are_averages_over_the_labels_for_which_they_are_defined():
    truth, probability = make_truth()
    predicted = (probability > 0.4).astype(float)
    measured = [0, 1, 2]
    assert label_metrics.auroc_of_labels(truth, probability) == pytest.approx(
        roc_auc_score(truth[:, measured], probability[:, measured], average="macro")
    )
    assert label_metrics.auprc_of_labels(truth, probability) == pytest.approx(
        average_precision_score(truth[:, measured], probability[:, measured], average="macro")
    )
    assert label_metrics.f1_of_labels(truth, predicted) == pytest.approx(
        f1_score(truth[:, measured], predicted[:, measured], average="macro")
    )
    nothing = np.zeros((5, 2))
    assert np.isnan(label_metrics.auroc_of_labels(nothing, nothing))
    assert np.isnan(label_metrics.f1_of_labels(nothing, nothing))


def test_bootstrap_equals_the_metric_of_the_drawn_records():
    truth, probability = make_truth()
    predicted = (probability > 0.4).astype(float)
    patient = np.arange(90) // 2
    counts = draw_counts(45, 20, np.random.default_rng(0))
    resamples = Resamples(truth, predicted, probability, patient, counts)
    for metric, given in (
        (label_metrics.auroc_of_labels, probability),
        (label_metrics.auprc_of_labels, probability),
        (label_metrics.f1_of_labels, predicted),
    ):
        draws = compute_draws(metric, resamples)
        for draw, count in zip(draws, counts, strict=True):
            rows = np.repeat(np.arange(90), count[patient].astype(int))
            assert draw == pytest.approx(metric(truth[rows], given[rows]), rel=1e-6)


def test_thresholds_maximize_the_f1_of_each_label():
    truth, probability = make_truth()
    thresholds = choose_label_thresholds(probability, truth)
    assert thresholds[3] == DEFAULT_THRESHOLD
    for label in range(3):
        scores = {
            threshold: f1_score(truth[:, label], probability[:, label] >= threshold)
            for threshold in np.unique(probability[:, label])
        }
        assert scores[thresholds[label]] == max(scores.values())


def predictions(method: str = "EnECG") -> TaskPredictions:
    truth, probability = make_truth()
    if method == CONSTANT:
        probability = np.tile(truth.mean(0), (90, 1))
    ids = np.arange(90)
    return TaskPredictions(
        CODES,
        method,
        0,
        ids,
        ids // 2,
        truth,
        (probability > 0.5) * 1.0,
        probability,
        tuple("abcd"),
    )


def test_scores_of_multilabel_tasks_have_intervals_and_baselines():
    scores = {
        score.method: score for score in compute_scores([predictions(CONSTANT), predictions()])
    }
    assert scores[CONSTANT].mean == pytest.approx(0.5)
    assert scores["chance"].mean == pytest.approx(0.5, abs=0.02)
    model = scores["EnECG"]
    assert (model.metric, [measure.metric for measure in model.others]) == (
        "macro-AUROC",
        [metric.name for metric in metrics.SECONDARY_METRICS["multilabel"]],
    )
    assert all(measure.low < measure.mean < measure.high for measure in (model, *model.others))
    assert model.low > scores["chance"].mean
    assert model.reliability == ()


def test_chance_predicts_labels_by_their_shares():
    constant = predictions(CONSTANT)
    samples = list(sample_chance(constant, 400))
    shares = np.mean([sample.predicted.mean(0) for sample in samples], axis=0)
    assert constant.probability is not None
    np.testing.assert_allclose(shares, constant.probability[0], atol=0.01)


def test_predictions_table_has_a_row_per_record_and_label():
    table = predictions_table([predictions()]).to_pandas()
    assert len(table) == 360
    truth, probability = make_truth()
    second = table[table["label"] == "b"]
    np.testing.assert_array_equal(second["truth"], truth[:, 1])
    np.testing.assert_allclose(np.stack(list(second["probability"]))[:, 1], probability[:, 1], 1e-6)


def test_labels_are_mixed_without_normalization():
    outputs = torch.tensor([[[0.9, 0.8, 0.1]], [[0.5, 0.2, 0.3]]])
    weights = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]]])
    mixed = mix(weights, outputs, kind="multilabel")
    torch.testing.assert_close(mixed, torch.tensor([[0.9, 0.2, 0.2]]))


@pytest.mark.parametrize("name", ENSEMBLES)
def test_ensembles_prefer_the_better_expert_of_a_multilabel_task(name: str):
    rng = np.random.default_rng(0)
    truth = (rng.random((300, 3)) < 0.4).astype(float)
    good = np.clip(0.1 + 0.8 * truth + 0.1 * rng.normal(size=truth.shape), 0.02, 0.98)
    useless = np.clip(0.4 + 0.1 * rng.normal(size=truth.shape), 0.02, 0.98)
    outputs = torch.from_numpy(np.stack([good, useless])).float()
    encoded = torch.from_numpy(truth).float()
    encoded[:5] = torch.nan
    rows = torch.arange(300)
    heads = HeadOutputs("findings", "multilabel", outputs, encoded, rows[:150], rows[150:250])
    combined = ENSEMBLES[name](heads, 0)
    assert combined is not None
    assert combined.prediction.shape == (300, 3)
    test = slice(250, 300)
    loss = task_loss("multilabel", combined.prediction[test], encoded[test])
    assert loss < task_loss("multilabel", outputs[1, test], encoded[test])
    if name in ("greedy", "stacking"):
        assert loss < 1.1 * task_loss("multilabel", outputs[0, test], encoded[test])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("dx:multilabel:a", "does not name two or more different columns; use dx:multilabel:COL"),
        ("dx:multilabel:a+a", "does not name two or more different columns"),
        ("dx:multilabel:a+", "does not name two or more different columns"),
        ("dx:multilabel:a+b|c", "label column of .* separates table cells"),
    ],
)
def test_invalid_multilabel_spec_is_an_error(spec: str, message: str):
    with pytest.raises(UserError, match=message):
        parse_task(spec)


def test_codes_that_are_not_in_the_label_list_are_ignored():
    encoded = encode_lists(pd.Series([("x",), ("a", "x")]), ("a",))
    np.testing.assert_array_equal(encoded, [[0], [1]])
