"""Made-up experts whose errors are known, so that it is known which ensemble does well on them."""

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
    loss,
)
from enecg.errors import UserError
from enecg.tasks import Kind

RECORDS = 600
TRAIN = torch.arange(400)
VALIDATION = torch.arange(400, 500)
TEST = torch.arange(500, RECORDS)

KINDS: tuple[Kind, ...] = ("regression", "binary", "multiclass")
ALL = tuple(ENSEMBLES)
CHOOSING = ("greedy", "weight generator", "stacking")
FITTED = ("weight generator", "stacking")


def given_(kind: Kind, outputs: Tensor, encoded: Tensor) -> HeadOutputs:
    return HeadOutputs(kind, outputs, outputs.clone(), encoded, TRAIN, VALIDATION)


def noisy(kind: Kind, seed: int = 0, experts: int = 3) -> HeadOutputs:
    """Experts that know the label, each the worse by its own noise; a tenth of the labels unknown.

    On training records `outputs` are better than `out_of_fold`: heads that fit too well.
    """
    draw = torch.Generator().manual_seed(seed)
    spread = torch.linspace(0.5, 1.5, experts)[:, None, None]
    if kind == "regression":
        encoded = torch.randn(RECORDS, generator=draw)
        seen = encoded[None, :, None]
        out_of_fold = seen + spread * torch.randn(experts, RECORDS, 1, generator=draw)
        outputs = out_of_fold.clone()
        outputs[:, TRAIN] = seen[:, TRAIN]
    else:
        classes = 2 if kind == "binary" else 4
        encoded = torch.randint(classes, (RECORDS,), generator=draw).float()
        right = torch.nn.functional.one_hot(encoded.long(), classes)
        noise = spread * torch.randn(experts, RECORDS, classes, generator=draw)
        out_of_fold = (right + noise).softmax(-1)
        outputs = out_of_fold.clone()
        outputs[:, TRAIN] = (9.0 * right[TRAIN]).softmax(-1)
    encoded[::10] = float("nan")
    return HeadOutputs(kind, outputs, out_of_fold, encoded, TRAIN, VALIDATION)


def halves(kind: Kind, seed: int = 0) -> HeadOutputs:
    """Two experts, each right on its half of the records and of no opinion on the other."""
    draw = torch.Generator().manual_seed(seed)
    positive = torch.rand(RECORDS, generator=draw) < 0.5
    if kind == "regression":
        encoded = torch.where(positive, 1.0, -1.0) * (1 + torch.rand(RECORDS, generator=draw))
        a, b = (torch.where(mine, encoded, 0.0)[:, None] for mine in (positive, ~positive))
        return given_(kind, torch.stack([a, b]), encoded)
    # Classes 0 and 1 are told apart by the first expert, 2 and 3 by the second.
    encoded = torch.where(positive, 0.0, 2.0) + torch.randint(2, (RECORDS,), generator=draw)
    right = (6.0 * torch.nn.functional.one_hot(encoded.long(), 4)).softmax(-1)
    unsure = torch.full_like(right, 0.25)
    a, b = (torch.where(mine[:, None], right, unsure) for mine in (positive, ~positive))
    return given_(kind, torch.stack([a, b]), encoded)


QUICK: dict[str, Ensemble] = ENSEMBLES | {"weight generator": WeightGenerator(epochs=5)}
"""For claims that do not rest on how well anything was trained."""


def made(
    name: str, given: HeadOutputs, seed: int = 0, ensembles: dict[str, Ensemble] = ENSEMBLES
) -> EnsembleOutput:
    combined = ensembles[name](given, seed)
    assert combined is not None
    return combined


def quickly(name: str, given: HeadOutputs, seed: int = 0) -> EnsembleOutput:
    return made(name, given, seed, QUICK)


def loss_on(rows: Tensor, given: HeadOutputs, answer: Tensor) -> float:
    rows = rows[~given.encoded[rows].isnan()]
    return float(loss(given.kind, answer[rows], given.encoded[rows]))


def works(name: str, kind: Kind) -> bool:
    return not (name == "confidence" and kind == "regression")


EVERY = pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for name in ALL for kind in KINDS if works(name, kind)]
)


def test_they_come_in_the_order_of_the_table():
    assert ALL == ("mean", "confidence", "greedy", "weight generator", "stacking")
    assert all(ensemble.name == name for name, ensemble in ENSEMBLES.items())


def test_the_loss_is_smooth_l1_or_cross_entropy():
    of_regression = loss("regression", torch.tensor([[0.5], [3.0]]), torch.tensor([0.0, 0.0]))
    assert float(of_regression) == pytest.approx((0.5 * 0.5**2 + 2.5) / 2)
    of_classes = loss("binary", torch.tensor([[0.8, 0.2], [1.0, 0.0]]), torch.tensor([0.0, 1.0]))
    assert float(of_classes) == pytest.approx(-(np.log(0.8) + np.log(1e-7)) / 2, rel=1e-5)


@EVERY
def test_weights_sum_to_one_and_make_the_answer(name: str, kind: Kind):
    given = noisy(kind)
    combined = quickly(name, given)
    assert combined.prediction.shape == given.outputs.shape[1:]
    assert combined.prediction.dtype == torch.float32
    if kind != "regression":
        torch.testing.assert_close(combined.prediction.sum(-1), torch.ones(RECORDS))
    if name == "stacking":
        assert combined.weights is None
        return
    assert combined.weights is not None
    assert combined.weights.shape == (RECORDS, 3)
    assert (combined.weights >= 0).all()
    torch.testing.assert_close(combined.weights.sum(-1), torch.ones(RECORDS))
    mixed = (combined.weights.T[:, :, None] * given.outputs).sum(0)
    torch.testing.assert_close(combined.prediction, mixed)


def test_the_mean_is_the_mean():
    given = noisy("multiclass")
    torch.testing.assert_close(made("mean", given).prediction, given.outputs.mean(0))


def test_confidence_prefers_the_sharper_expert_of_each_record():
    sharp, vague = torch.tensor([0.05, 0.9, 0.05]), torch.tensor([0.4, 0.3, 0.3])
    outputs = torch.stack([torch.stack([sharp, vague]), torch.stack([vague, sharp])])
    rows = torch.zeros(0, dtype=torch.long)
    unlabelled = torch.full((2,), float("nan"))
    combined = ENSEMBLES["confidence"](
        HeadOutputs("multiclass", outputs, outputs, unlabelled, rows, rows), 0
    )
    assert combined is not None
    expected = torch.tensor([[0.9, 0.4], [0.4, 0.9]]) / 1.3
    torch.testing.assert_close(combined.weights, expected)


def test_confidence_cannot_do_a_regression():
    assert ENSEMBLES["confidence"](noisy("regression"), 0) is None


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", KINDS)
def test_greedy_is_never_worse_on_validation_than_the_best_expert(kind: Kind, seed: int):
    given = noisy(kind, seed, experts=4)
    alone = min(loss_on(VALIDATION, given, one) for one in given.outputs)
    assert loss_on(VALIDATION, given, made("greedy", given).prediction) <= alone + 1e-6


def test_greedy_takes_the_best_expert_alone_where_the_others_only_harm():
    encoded = torch.randn(RECORDS, generator=torch.Generator().manual_seed(0))
    outputs = torch.stack([encoded + 9, encoded + 0.1, encoded + 9])[:, :, None]
    weights = made("greedy", given_("regression", outputs, encoded)).weights
    torch.testing.assert_close(weights, torch.tensor([[0.0, 1.0, 0.0]]).expand(RECORDS, 3))


def test_greedy_finds_weights_that_are_not_equal():
    """Three quarters of one expert and a quarter of the other are exactly right."""
    encoded = torch.randn(RECORDS, generator=torch.Generator().manual_seed(0))
    outputs = torch.stack([encoded + 1, encoded - 3])[:, :, None]
    weights = made("greedy", given_("regression", outputs, encoded)).weights
    torch.testing.assert_close(weights, torch.tensor([[0.75, 0.25]]).expand(RECORDS, 2))


def test_greedy_keeps_the_best_bag_and_not_the_last():
    """Of these rounds only the fourth is exactly right."""
    encoded = torch.randn(RECORDS, generator=torch.Generator().manual_seed(0))
    outputs = torch.stack([encoded + 1, encoded - 3])[:, :, None]
    combined = Greedy(rounds=5)(given_("regression", outputs, encoded), 0)
    torch.testing.assert_close(combined.prediction[:, 0], encoded)


@pytest.mark.parametrize("kind", ["regression", "multiclass"])
def test_the_weight_generator_hears_the_expert_who_knows(kind: Kind):
    """Each expert knows half of the records, and only weights by record can tell which half."""
    given = halves(kind)
    combined = made("weight generator", given)
    of_mean = loss_on(TEST, given, made("mean", given).prediction)
    of_greedy = loss_on(TEST, given, made("greedy", given).prediction)
    assert loss_on(TEST, given, combined.prediction) < 0.5 * min(of_mean, of_greedy)
    assert combined.weights is not None
    first_knows = given.encoded > 0 if kind == "regression" else given.encoded < 2
    assert (combined.weights[TEST, 0] > 0.5).equal(first_knows[TEST])


def test_the_weight_generator_stays_the_mean_where_training_misleads():
    """Trained to hear the first expert, while on validation the second is right."""
    encoded = torch.randn(RECORDS, generator=torch.Generator().manual_seed(0))
    outputs = torch.stack([encoded, -encoded])[:, :, None]
    outputs[:, VALIDATION] = outputs[:, VALIDATION].flip(0)
    combined = made("weight generator", given_("regression", outputs, encoded))
    torch.testing.assert_close(combined.weights, torch.full((RECORDS, 2), 0.5))


def test_stacking_mends_an_expert_that_is_biased():
    draw = torch.Generator().manual_seed(0)
    encoded = torch.randn(RECORDS, generator=draw)
    noise = 0.3 * torch.randn(2, RECORDS, generator=draw)
    biased, vague = 0.5 * encoded + 2 + noise[0], encoded + 3 * noise[1]
    given = given_("regression", torch.stack([biased, vague])[:, :, None], encoded)
    of_mean = loss_on(TEST, given, made("mean", given).prediction)
    assert loss_on(TEST, given, made("stacking", given).prediction) < 0.3 * of_mean


def test_stacking_mends_an_expert_that_says_one_class_too_often():
    given = noisy("binary")
    tilted = given.out_of_fold[0] * torch.tensor([50.0, 1.0])
    outputs = torch.stack([tilted / tilted.sum(-1, keepdim=True), given.out_of_fold[1]])
    given = given_("binary", outputs, given.encoded)
    of_mean = loss_on(TEST, given, made("mean", given).prediction)
    assert loss_on(TEST, given, made("stacking", given).prediction) < 0.8 * of_mean


def test_stacking_is_linear_in_the_logarithms_of_probabilities():
    """So that it can add up what independent experts know, as their true log-odds add up."""
    draw = torch.Generator().manual_seed(0)
    encoded = torch.randint(2, (RECORDS,), generator=draw).float()
    odds = 2 * (2 * encoded - 1 + torch.randn(2, RECORDS, generator=draw))
    outputs = torch.stack([-odds, odds], dim=-1).div(2).softmax(-1)
    answered = made("stacking", given_("binary", outputs, encoded)).prediction[:, 1].logit()
    design = torch.cat([*outputs.log(), torch.ones(RECORDS, 1)], dim=-1)
    nearest = design @ torch.linalg.lstsq(design, answered[:, None]).solution
    torch.testing.assert_close(nearest[:, 0], answered, rtol=0, atol=0.01)


@pytest.mark.parametrize("reliable", [True, False])
def test_stacking_takes_its_penalty_from_validation(reliable: bool):
    """Where what holds on training records does not hold on validation, the strongest is best."""
    encoded = torch.randn(RECORDS, generator=torch.Generator().manual_seed(0))
    outputs = encoded.clone()[None, :, None]
    if not reliable:
        outputs[:, VALIDATION] *= -1
    answer = made("stacking", given_("regression", outputs, encoded)).prediction[TEST, 0]
    slope = float(answer.std() / encoded[TEST].std())
    assert slope > 0.99 if reliable else slope < 0.05


@EVERY
def test_no_label_outside_training_and_validation_is_read(name: str, kind: Kind):
    given = noisy(kind)
    encoded = given.encoded.clone()
    encoded[TEST[:50]] = float("nan")
    encoded[TEST[50:]] = 1.0
    assert same(quickly(name, given), quickly(name, replace(given, encoded=encoded)))


@pytest.mark.parametrize("name", CHOOSING)
def test_validation_labels_choose(name: str):
    """The label test above can fail: where labels are read, changing them changes the answer."""
    given = noisy("regression", experts=2)
    encoded = given.encoded.clone()
    encoded[VALIDATION] *= -1
    assert not same(made(name, given), made(name, replace(given, encoded=encoded)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CHOOSING)
def test_what_heads_say_of_records_they_know_teaches_nothing(name: str, kind: Kind):
    """Changing in-sample outputs changes only the predictions on training records."""
    given = noisy(kind)
    worse = given.outputs.clone()
    worse[:, TRAIN] = worse[:, TRAIN].flip(1)
    before, after = quickly(name, given), quickly(name, replace(given, outputs=worse))
    rest = torch.cat([VALIDATION, TEST])
    assert before.prediction[rest].equal(after.prediction[rest])
    assert not before.prediction[TRAIN].equal(after.prediction[TRAIN])
    if name == "weight generator":
        assert before.weights is not None
        assert after.weights is not None
        assert not before.weights[TRAIN].equal(after.weights[TRAIN])


@pytest.mark.parametrize("name", FITTED)
def test_what_heads_say_of_records_they_do_not_know_teaches(name: str):
    given = noisy("regression")
    shuffled = given.out_of_fold.clone()
    shuffled[:, TRAIN] = shuffled[:, TRAIN].flip(1)
    before, after = quickly(name, given), quickly(name, replace(given, out_of_fold=shuffled))
    assert not before.prediction[TEST].equal(after.prediction[TEST])


@EVERY
def test_no_scale_is_taken_from_test_records(name: str, kind: Kind):
    """What the experts say of one test record moves the answer on no other."""
    given = noisy(kind)
    outputs, out_of_fold = given.outputs.clone(), given.out_of_fold.clone()
    for one in (outputs, out_of_fold):
        one[:, TEST[1:]] = 9.0 if kind == "regression" else one[:, TEST[1:]].flip(-1)
    before, after = (
        quickly(name, given),
        quickly(name, replace(given, outputs=outputs, out_of_fold=out_of_fold)),
    )
    rest = torch.arange(RECORDS - len(TEST) + 1)
    torch.testing.assert_close(before.prediction[rest], after.prediction[rest])


@EVERY
def test_one_expert_alone_can_be_asked(name: str, kind: Kind):
    given = noisy(kind, experts=1)
    combined = quickly(name, given)
    assert combined.prediction.isfinite().all()
    if name != "stacking":
        torch.testing.assert_close(combined.prediction, given.outputs[0])


@EVERY
def test_two_identical_experts_answer_as_one(name: str, kind: Kind):
    one = noisy(kind, experts=1)
    two = replace(
        one, outputs=one.outputs.repeat(2, 1, 1), out_of_fold=one.out_of_fold.repeat(2, 1, 1)
    )
    combined = quickly(name, two)
    assert combined.prediction.isfinite().all()
    if name != "stacking":
        torch.testing.assert_close(combined.prediction, one.outputs[0])


@pytest.mark.parametrize("name", ALL)
def test_a_class_that_training_lacks_does_no_harm(name: str):
    given = noisy("multiclass")
    encoded = given.encoded.clone()
    encoded[TRAIN] = encoded[TRAIN].where(encoded[TRAIN] != 1, torch.tensor(3.0))
    answer = quickly(name, replace(given, encoded=encoded)).prediction
    assert answer.isfinite().all()
    torch.testing.assert_close(answer.sum(-1), torch.ones(RECORDS))
    if name == "stacking":
        assert (answer[:, 1] == 0).all()
        assert (answer[:, [0, 2, 3]] > 0).all()


def test_stacking_says_so_where_training_has_one_class():
    given = noisy("binary")
    encoded = given.encoded.clone()
    encoded[TRAIN] = 0.0
    with pytest.raises(UserError, match="one class"):
        ENSEMBLES["stacking"](replace(given, encoded=encoded), 0)


@pytest.mark.parametrize(
    ("name", "rows", "part"),
    [(name, VALIDATION, "validation") for name in CHOOSING]
    + [(name, TRAIN, "training") for name in FITTED],
)
def test_without_labels_to_fit_or_choose_by_there_is_an_error(name: str, rows: Tensor, part: str):
    given = noisy("binary")
    encoded = given.encoded.clone()
    encoded[rows] = float("nan")
    with pytest.raises(UserError, match=f"No {part} record has a label"):
        ENSEMBLES[name](replace(given, encoded=encoded), 0)


@EVERY
def test_the_same_seed_gives_the_same_and_the_callers_chance_is_left_alone(name: str, kind: Kind):
    given = noisy(kind)
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002 - it is the global state that may not change
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    first = quickly(name, given)
    assert torch.get_rng_state().equal(before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002
    torch.manual_seed(2)
    assert same(first, quickly(name, given))


def test_another_seed_is_another_weight_generator():
    given = noisy("regression")
    assert not same(quickly("weight generator", given, 0), quickly("weight generator", given, 1))


@EVERY
def test_outputs_made_in_inference_mode_will_do(name: str, kind: Kind):
    """As the heads' answers are."""
    given = noisy(kind)
    with torch.inference_mode():
        frozen = replace(
            given, outputs=given.outputs.clone(), out_of_fold=given.out_of_fold.clone()
        )
    assert same(quickly(name, given), quickly(name, frozen))


@EVERY
def test_nothing_given_is_changed(name: str, kind: Kind):
    given = noisy(kind)
    copies = [one.clone() for one in (given.outputs, given.out_of_fold, given.encoded)]
    quickly(name, given)
    for one, copy in zip((given.outputs, given.out_of_fold, given.encoded), copies, strict=True):
        torch.testing.assert_close(one, copy, rtol=0, atol=0, equal_nan=True)


def same(one: EnsembleOutput, other: EnsembleOutput) -> bool:
    if one.weights is None or other.weights is None:
        return one.weights is other.weights and one.prediction.equal(other.prediction)
    return one.prediction.equal(other.prediction) and one.weights.equal(other.weights)
