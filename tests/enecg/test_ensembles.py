"""Ensembles of synthetic experts with known errors."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from enecg.ensembles import (
    ENSEMBLES,
    Ensemble,
    EnsembleOutput,
    Greedy,
    HeadOutputs,
    WeightGenerator,
    task_loss,
)
from enecg.errors import UserError
from enecg.tasks import Kind

RECORDS = 600
TRAIN = torch.arange(400)
VALIDATION = torch.arange(400, 500)
TEST = torch.arange(500, RECORDS)

KINDS: tuple[Kind, ...] = ("regression", "binary", "multiclass")
NAMES = tuple(ENSEMBLES)
USES_VALIDATION = ("greedy", "weight generator", "stacking")
USES_TRAINING = ("weight generator", "stacking")


def make_heads(kind: Kind, outputs: Tensor, encoded: Tensor) -> HeadOutputs:
    return HeadOutputs("sex", kind, outputs, encoded, TRAIN, VALIDATION)


def noisy_heads(kind: Kind, seed: int = 0, experts: int = 3) -> HeadOutputs:
    """Return predictions with noise of increasing SD per expert; 10 % of labels are missing."""
    generator = torch.Generator().manual_seed(seed)
    deviation = torch.linspace(0.5, 1.5, experts)[:, None, None]
    if kind == "regression":
        encoded = torch.randn(RECORDS, generator=generator)
        exact = encoded[None, :, None]
        outputs = exact + deviation * torch.randn(experts, RECORDS, 1, generator=generator)
    else:
        classes = 2 if kind == "binary" else 4
        encoded = torch.randint(classes, (RECORDS,), generator=generator).float()
        exact = torch.nn.functional.one_hot(encoded.long(), classes)
        noise = deviation * torch.randn(experts, RECORDS, classes, generator=generator)
        outputs = (exact + noise).softmax(-1)
    encoded[::10] = float("nan")
    return HeadOutputs("sex", kind, outputs, encoded, TRAIN, VALIDATION)


def complementary_heads(kind: Kind, seed: int = 0) -> HeadOutputs:
    """Return predictions of two experts, each of which is correct for one half of the records."""
    generator = torch.Generator().manual_seed(seed)
    positive = torch.rand(RECORDS, generator=generator) < 0.5
    if kind == "regression":
        sign = torch.where(positive, 1.0, -1.0)
        encoded = sign * (1 + torch.rand(RECORDS, generator=generator))
        a, b = (torch.where(half, encoded, 0.0)[:, None] for half in (positive, ~positive))
        return make_heads(kind, torch.stack([a, b]), encoded)
    # The first expert distinguishes classes 0 and 1, the second classes 2 and 3.
    encoded = torch.where(positive, 0.0, 2.0) + torch.randint(2, (RECORDS,), generator=generator)
    correct = (6.0 * torch.nn.functional.one_hot(encoded.long(), 4)).softmax(-1)
    uniform = torch.full_like(correct, 0.25)
    a, b = (torch.where(half[:, None], correct, uniform) for half in (positive, ~positive))
    return make_heads(kind, torch.stack([a, b]), encoded)


QUICK: dict[str, Ensemble] = ENSEMBLES | {"weight generator": WeightGenerator(epochs=5)}
"""Ensembles for tests that do not depend on how well an ensemble is fitted."""


def fit(
    name: str, heads: HeadOutputs, seed: int = 0, ensembles: dict[str, Ensemble] = ENSEMBLES
) -> EnsembleOutput:
    output = ensembles[name](heads, seed)
    assert output is not None
    return output


def fit_quickly(name: str, heads: HeadOutputs, seed: int = 0) -> EnsembleOutput:
    return fit(name, heads, seed, QUICK)


def loss_on(rows: Tensor, heads: HeadOutputs, prediction: Tensor) -> float:
    rows = rows[~heads.encoded[rows].isnan()]
    return float(task_loss(heads.kind, prediction[rows], heads.encoded[rows]))


def is_supported(name: str, kind: Kind) -> bool:
    return not (name == "confidence" and kind == "regression")


EVERY_ENSEMBLE_AND_KIND = pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for name in NAMES for kind in KINDS if is_supported(name, kind)]
)


def test_ensembles_are_in_table_order():
    assert NAMES == ("mean", "confidence", "greedy", "weight generator", "stacking")
    assert all(ensemble.name == name for name, ensemble in ENSEMBLES.items())


def test_loss_is_smooth_l1_or_cross_entropy():
    regression = task_loss("regression", torch.tensor([[0.5], [3.0]]), torch.tensor([0.0, 0.0]))
    assert float(regression) == pytest.approx((0.5 * 0.5**2 + 2.5) / 2)
    probability = torch.tensor([[0.8, 0.2], [1.0, 0.0]])
    binary = task_loss("binary", probability, torch.tensor([0.0, 1.0]))
    assert float(binary) == pytest.approx(-(np.log(0.8) + np.log(1e-7)) / 2, rel=1e-5)


@EVERY_ENSEMBLE_AND_KIND
def test_prediction_is_the_mean_weighted_by_weights_that_sum_to_one(name: str, kind: Kind):
    heads = noisy_heads(kind)
    output = fit_quickly(name, heads)
    assert output.prediction.shape == heads.outputs.shape[1:]
    assert output.prediction.dtype == torch.float32
    if kind != "regression":
        torch.testing.assert_close(output.prediction.sum(-1), torch.ones(RECORDS))
    if name == "stacking":  # a linear model on the outputs, without weights of the experts
        assert output.weights is None
        return
    assert output.weights is not None
    assert output.weights.shape == (RECORDS, 3)
    assert (output.weights >= 0).all()
    torch.testing.assert_close(output.weights.sum(-1), torch.ones(RECORDS))
    mixed = (output.weights.T[:, :, None] * heads.outputs).sum(0)
    torch.testing.assert_close(output.prediction, mixed)


def test_mean_is_the_unweighted_mean():
    heads = noisy_heads("multiclass")
    torch.testing.assert_close(fit("mean", heads).prediction, heads.outputs.mean(0))


def test_confidence_prefers_the_more_confident_expert_of_each_record():
    sharp, vague = torch.tensor([0.05, 0.9, 0.05]), torch.tensor([0.4, 0.3, 0.3])
    outputs = torch.stack([torch.stack([sharp, vague]), torch.stack([vague, sharp])])
    rows = torch.zeros(0, dtype=torch.long)
    unlabeled = torch.full((2,), float("nan"))
    output = ENSEMBLES["confidence"](
        HeadOutputs("rhythm", "multiclass", outputs, unlabeled, rows, rows), 0
    )
    assert output is not None
    expected = torch.tensor([[0.9, 0.4], [0.4, 0.9]]) / 1.3
    torch.testing.assert_close(output.weights, expected)


def test_confidence_does_not_support_regressions():
    assert ENSEMBLES["confidence"](noisy_heads("regression"), 0) is None


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", KINDS)
def test_greedy_is_not_worse_on_validation_than_the_best_expert(kind: Kind, seed: int):
    heads = noisy_heads(kind, seed, experts=4)
    best = min(loss_on(VALIDATION, heads, output) for output in heads.outputs)
    assert loss_on(VALIDATION, heads, fit("greedy", heads).prediction) <= best + 1e-6


def test_greedy_selects_only_the_best_expert_if_the_others_increase_the_loss():
    encoded = torch.randn(RECORDS, generator=torch.Generator().manual_seed(0))
    outputs = torch.stack([encoded + 9, encoded + 0.1, encoded + 9])[:, :, None]
    weights = fit("greedy", make_heads("regression", outputs, encoded)).weights
    torch.testing.assert_close(weights, torch.tensor([[0.0, 1.0, 0.0]]).expand(RECORDS, 3))


def test_greedy_finds_unequal_weights():
    """Weights of 3/4 and 1/4 predict the labels exactly."""
    encoded = torch.randn(RECORDS, generator=torch.Generator().manual_seed(0))
    outputs = torch.stack([encoded + 1, encoded - 3])[:, :, None]
    weights = fit("greedy", make_heads("regression", outputs, encoded)).weights
    torch.testing.assert_close(weights, torch.tensor([[0.75, 0.25]]).expand(RECORDS, 2))


def test_greedy_keeps_the_best_bag_instead_of_the_last():
    """Only the bag of the fourth round predicts the labels exactly."""
    encoded = torch.randn(RECORDS, generator=torch.Generator().manual_seed(0))
    outputs = torch.stack([encoded + 1, encoded - 3])[:, :, None]
    output = Greedy(rounds=5)(make_heads("regression", outputs, encoded), 0)
    torch.testing.assert_close(output.prediction[:, 0], encoded)


@pytest.mark.parametrize("kind", ["regression", "multiclass"])
def test_weight_generator_selects_the_correct_expert_per_record(kind: Kind):
    heads = complementary_heads(kind)
    output = fit("weight generator", heads)
    mean_loss = loss_on(TEST, heads, fit("mean", heads).prediction)
    greedy_loss = loss_on(TEST, heads, fit("greedy", heads).prediction)
    assert loss_on(TEST, heads, output.prediction) < 0.5 * min(mean_loss, greedy_loss)
    assert output.weights is not None
    first_is_correct = heads.encoded > 0 if kind == "regression" else heads.encoded < 2
    assert (output.weights[TEST, 0] > 0.5).equal(first_is_correct[TEST])


def test_weight_generator_remains_the_mean_if_training_does_not_generalize():
    """The first expert is correct on training records, the second on validation records."""
    encoded = torch.randn(RECORDS, generator=torch.Generator().manual_seed(0))
    outputs = torch.stack([encoded, -encoded])[:, :, None]
    outputs[:, VALIDATION] = outputs[:, VALIDATION].flip(0)
    output = fit("weight generator", make_heads("regression", outputs, encoded))
    torch.testing.assert_close(output.weights, torch.full((RECORDS, 2), 0.5))


def test_stacking_corrects_a_biased_expert():
    generator = torch.Generator().manual_seed(0)
    encoded = torch.randn(RECORDS, generator=generator)
    noise = 0.3 * torch.randn(2, RECORDS, generator=generator)
    biased, vague = 0.5 * encoded + 2 + noise[0], encoded + 3 * noise[1]
    heads = make_heads("regression", torch.stack([biased, vague])[:, :, None], encoded)
    mean_loss = loss_on(TEST, heads, fit("mean", heads).prediction)
    assert loss_on(TEST, heads, fit("stacking", heads).prediction) < 0.3 * mean_loss


def test_stacking_corrects_an_expert_that_prefers_one_class():
    heads = noisy_heads("binary")
    tilted = heads.outputs[0] * torch.tensor([50.0, 1.0])
    outputs = torch.stack([tilted / tilted.sum(-1, keepdim=True), heads.outputs[1]])
    heads = make_heads("binary", outputs, heads.encoded)
    mean_loss = loss_on(TEST, heads, fit("mean", heads).prediction)
    assert loss_on(TEST, heads, fit("stacking", heads).prediction) < 0.8 * mean_loss


def test_stacking_is_linear_in_log_probabilities():
    """The log-odds of independent experts add up."""
    generator = torch.Generator().manual_seed(0)
    encoded = torch.randint(2, (RECORDS,), generator=generator).float()
    log_odds = 2 * (2 * encoded - 1 + torch.randn(2, RECORDS, generator=generator))
    outputs = torch.stack([-log_odds, log_odds], dim=-1).div(2).softmax(-1)
    predicted = fit("stacking", make_heads("binary", outputs, encoded)).prediction[:, 1].logit()
    design = torch.cat([*outputs.log(), torch.ones(RECORDS, 1)], dim=-1)
    nearest = design @ torch.linalg.lstsq(design, predicted[:, None]).solution
    torch.testing.assert_close(nearest[:, 0], predicted, rtol=0, atol=0.01)


@pytest.mark.parametrize("reliable", [True, False])
def test_stacking_selects_the_penalty_on_validation_records(reliable: bool):
    """If training does not generalize to validation records, the strongest penalty is best."""
    encoded = torch.randn(RECORDS, generator=torch.Generator().manual_seed(0))
    outputs = encoded.clone()[None, :, None]
    if not reliable:
        outputs[:, VALIDATION] *= -1
    predicted = fit("stacking", make_heads("regression", outputs, encoded)).prediction[TEST, 0]
    slope = float(predicted.std() / encoded[TEST].std())
    assert slope > 0.99 if reliable else slope < 0.05


@EVERY_ENSEMBLE_AND_KIND
def test_labels_outside_training_and_validation_are_not_used(name: str, kind: Kind):
    heads = noisy_heads(kind)
    encoded = heads.encoded.clone()
    encoded[TEST[:50]] = float("nan")
    encoded[TEST[50:]] = 1.0
    changed = replace(heads, encoded=encoded)
    assert are_equal(fit_quickly(name, heads), fit_quickly(name, changed))


@pytest.mark.parametrize("name", USES_VALIDATION)
def test_validation_labels_are_used(name: str):
    """The comparison detects changed labels, so the test of unused labels can fail."""
    heads = noisy_heads("regression", experts=2)
    encoded = heads.encoded.clone()
    encoded[VALIDATION] *= -1
    assert not are_equal(fit(name, heads), fit(name, replace(heads, encoded=encoded)))


@pytest.mark.parametrize("name", USES_TRAINING)
def test_outputs_for_training_records_are_used_for_fitting(name: str):
    heads = noisy_heads("regression")
    shuffled = heads.outputs.clone()
    shuffled[:, TRAIN] = shuffled[:, TRAIN].flip(1)
    before = fit_quickly(name, heads)
    after = fit_quickly(name, replace(heads, outputs=shuffled))
    assert not before.prediction[TEST].equal(after.prediction[TEST])


@EVERY_ENSEMBLE_AND_KIND
def test_outputs_on_test_records_do_not_affect_other_records(name: str, kind: Kind):
    heads = noisy_heads(kind)
    values = heads.outputs.clone()
    values[:, TEST[1:]] = 9.0 if kind == "regression" else values[:, TEST[1:]].flip(-1)
    before = fit_quickly(name, heads)
    after = fit_quickly(name, replace(heads, outputs=values))
    rest = torch.arange(RECORDS - len(TEST) + 1)
    torch.testing.assert_close(before.prediction[rest], after.prediction[rest])


@EVERY_ENSEMBLE_AND_KIND
def test_ensemble_of_one_expert_returns_its_prediction_except_for_stacking(name: str, kind: Kind):
    heads = noisy_heads(kind, experts=1)
    output = fit_quickly(name, heads)
    assert output.prediction.isfinite().all()
    if name != "stacking":
        torch.testing.assert_close(output.prediction, heads.outputs[0])


@EVERY_ENSEMBLE_AND_KIND
def test_two_identical_experts_predict_like_one_except_for_stacking(name: str, kind: Kind):
    single = noisy_heads(kind, experts=1)
    doubled = replace(single, outputs=single.outputs.repeat(2, 1, 1))
    output = fit_quickly(name, doubled)
    assert output.prediction.isfinite().all()
    if name != "stacking":
        torch.testing.assert_close(output.prediction, single.outputs[0])


@pytest.mark.parametrize("name", NAMES)
def test_class_without_a_training_record_is_supported(name: str):
    heads = noisy_heads("multiclass")
    encoded = heads.encoded.clone()
    encoded[TRAIN] = encoded[TRAIN].where(encoded[TRAIN] != 1, torch.tensor(3.0))
    prediction = fit_quickly(name, replace(heads, encoded=encoded)).prediction
    assert prediction.isfinite().all()
    torch.testing.assert_close(prediction.sum(-1), torch.ones(RECORDS))
    if name == "stacking":
        assert (prediction[:, 1] == 0).all()
        assert (prediction[:, [0, 2, 3]] > 0).all()


def test_stacking_with_a_single_training_class_is_an_error():
    heads = noisy_heads("binary")
    encoded = heads.encoded.clone()
    encoded[TRAIN] = 0.0
    with pytest.raises(UserError, match="of the task sex have one class"):
        ENSEMBLES["stacking"](replace(heads, encoded=encoded), 0)


@pytest.mark.parametrize(
    ("name", "rows", "part"),
    [(name, VALIDATION, "validation") for name in USES_VALIDATION]
    + [(name, TRAIN, "training") for name in USES_TRAINING],
)
def test_training_or_validation_part_without_labels_is_an_error(name: str, rows: Tensor, part: str):
    heads = noisy_heads("binary")
    encoded = heads.encoded.clone()
    encoded[rows] = float("nan")
    with pytest.raises(UserError, match=f"No {part} record has a label for sex,"):
        ENSEMBLES[name](replace(heads, encoded=encoded), 0)


@EVERY_ENSEMBLE_AND_KIND
def test_global_random_state_is_neither_used_nor_changed(name: str, kind: Kind):
    heads = noisy_heads(kind)
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002 - the test checks the global state
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    first = fit_quickly(name, heads)
    assert torch.get_rng_state().equal(before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002
    torch.manual_seed(2)
    assert are_equal(first, fit_quickly(name, heads))


def test_weight_generator_depends_on_the_seed():
    heads = noisy_heads("regression")
    first, second = (fit_quickly("weight generator", heads, seed) for seed in (0, 1))
    assert not are_equal(first, second)


@EVERY_ENSEMBLE_AND_KIND
def test_outputs_computed_in_inference_mode_are_accepted(name: str, kind: Kind):
    heads = noisy_heads(kind)
    with torch.inference_mode():
        frozen = replace(heads, outputs=heads.outputs.clone())
    assert are_equal(fit_quickly(name, heads), fit_quickly(name, frozen))


@EVERY_ENSEMBLE_AND_KIND
def test_inputs_are_not_modified(name: str, kind: Kind):
    heads = noisy_heads(kind)
    inputs = (heads.outputs, heads.encoded)
    copies = [values.clone() for values in inputs]
    fit_quickly(name, heads)
    for values, copy in zip(inputs, copies, strict=True):
        torch.testing.assert_close(values, copy, rtol=0, atol=0, equal_nan=True)


def are_equal(first: EnsembleOutput, second: EnsembleOutput) -> bool:
    if first.weights is None or second.weights is None:
        return first.weights is second.weights and first.prediction.equal(second.prediction)
    return first.prediction.equal(second.prediction) and first.weights.equal(second.weights)
