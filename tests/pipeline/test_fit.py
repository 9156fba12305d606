from dataclasses import replace

import numpy as np
import pytest
import torch

from enecg.gate import mix
from enecg.stacked import StackConfig, StackedFFN
from enecg.tasks import TASKS
from pipeline.labels.targets import Targets
from pipeline.training.fit_gates import fit_gates
from pipeline.training.fit_heads import FittedHeads, fit_heads, predict_heads
from pipeline.training.labeled_repeat import LabeledRepeat
from pipeline.training.settings import Adaptation, FitSettings

QUICK = FitSettings(epochs=6, hidden=16, dropout=0.0, learning_rate=5e-3)
RECORDS, FEATURES = 400, 24

TARGETS = {
    "age": Targets(TASKS["age"]),
    "sex": Targets(TASKS["sex"], classes=("female", "male")),
    "arrhythmia": Targets(TASKS["arrhythmia"], classes=("a", "b", "c", "Others")),
}


def embeddings(seed: int = 0) -> torch.Tensor:
    return torch.randn(RECORDS, FEATURES, generator=torch.Generator().manual_seed(seed))


def labelled(embedding: torch.Tensor, seed: int = 0, *, shuffled: bool = False) -> LabeledRepeat:
    """Labels that lie in the embedding plainly; or the same ones of other records."""
    rows = torch.from_numpy(np.random.default_rng(seed).permutation(RECORDS))
    mine = embedding[rows]
    encoded = {
        "age": mine[:, 0],
        "sex": (mine[:, 1] > 0).float(),
        "arrhythmia": mine[:, 2:6].argmax(1).float(),
    }
    if shuffled:
        order = torch.from_numpy(np.random.default_rng(9).permutation(RECORDS))
        encoded = {task: one[order] for task, one in encoded.items()}
    train, validation, test = torch.arange(RECORDS).split([240, 80, 80])
    return LabeledRepeat(
        TARGETS, rows, encoded, train, validation, test, (train[:120], train[120:]), seed
    )


def right(fit: FittedHeads, one: LabeledRepeat, part: torch.Tensor) -> float:
    """The share of records whose class is right."""
    said = fit.outputs["arrhythmia"][part].argmax(1)
    return float((said == one.encoded["arrhythmia"][part]).float().mean())


def fewer(one: LabeledRepeat, training: int) -> LabeledRepeat:
    """The same repeat with the first of its training records only."""
    train = one.train[:training]
    return replace(one, train=train, folds=(train[: training // 2], train[training // 2 :]))


@pytest.mark.parametrize("adaptation", ["lora", "shared-lora"])
def test_repeats_trained_together_answer_as_each_alone(adaptation: Adaptation):
    """Whatever the sizes of the others, and however long they go on."""
    embedding = embeddings()
    sizes = {0: 240, 1: 100, 2: 170}
    repeats = [fewer(labelled(embedding, seed), size) for seed, size in sizes.items()]
    settings = replace(QUICK, adaptation=adaptation, dropout=0.2, epochs=25, patience=2)
    together = fit_heads(embedding, repeats, settings)
    gates = fit_gates(embedding, repeats, [stacked(one) for one in together], settings)
    lengths = set()
    for fit, gate, one in zip(together, gates, repeats, strict=True):
        (alone,) = fit_heads(embedding, [one], settings)
        (lone,) = fit_gates(embedding, [one], [stacked(fit)], settings)
        for task in TARGETS:
            torch.testing.assert_close(fit.outputs[task], alone.outputs[task], rtol=1e-3, atol=1e-4)
            torch.testing.assert_close(
                fit.out_of_fold[task], alone.out_of_fold[task], rtol=1e-3, atol=1e-4
            )
            mine, theirs = (each.module(embedding)[task] for each in (gate, lone))
            torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)
            lengths.add(int(np.isfinite(fit.validation_loss[task]).sum()))
    assert len(lengths) > 1, "all went on for the same number of epochs: nothing was tried"


def stacked(fit: FittedHeads) -> dict[str, torch.Tensor]:
    """An expert and a worse one."""
    return {task: torch.stack([one, one.flip(0)]) for task, one in fit.out_of_fold.items()}


@pytest.mark.parametrize("what", ["heads", "gate"])
def test_test_records_have_no_say_in_when_to_stop(what: str):
    embedding = embeddings()
    one = labelled(embedding)
    other = replace(one, encoded={t: _other(e, one.test) for t, e in one.encoded.items()})
    settings = replace(QUICK, epochs=30, patience=3, adaptation="full", dropout=0.1)
    fits = [fit_heads(embedding, [repeat], settings)[0] for repeat in (one, other)]
    if what == "gate":
        unseen = stacked(fits[0])
        fits = [  # type: ignore[assignment]
            fit_gates(embedding, [repeat], [unseen], settings)[0] for repeat in (one, other)
        ]
    for name, tensor in fits[0].module.state_dict().items():
        assert torch.equal(tensor, fits[1].module.state_dict()[name]), name


def test_training_stops_when_nothing_has_improved_for_so_many_epochs():
    embedding = embeddings()
    settings = replace(QUICK, epochs=60, patience=3, adaptation="full", learning_rate=2e-2)
    (fit,) = fit_heads(embedding, [labelled(embedding)], settings)
    for losses in fit.validation_loss.values():
        told = np.array(losses)[np.isfinite(losses)]
        assert len(told) - 1 < 60
        assert len(told) - 1 - int(told.argmin()) == 3


def test_units_are_left_out_in_training_and_in_training_only():
    stack = StackedFFN(StackConfig(20, 400, 5, dropout=0.5), 2, [0])
    features = torch.randn(1, 30, 20)
    one, other = stack.train()(features), stack(features)
    assert not torch.allclose(one, other)
    assert torch.equal(stack.eval()(features), stack(features))


def test_the_shared_layer_is_the_one_that_was_trained():
    embedding = embeddings()
    settings = replace(QUICK, adaptation="shared-lora")
    (fit,) = fit_heads(embedding, [one := labelled(embedding)], settings)
    drawn = StackedFFN(StackConfig(FEATURES, 16, 4, shared=True), len(TARGETS), [one.seed])
    hidden = fit.module.ffn["age"].get_base_model().hidden.base_layer  # type: ignore[union-attr, operator]
    assert hidden is fit.module.ffn["sex"].get_base_model().hidden.base_layer  # type: ignore[union-attr, operator]
    assert not torch.allclose(hidden.weight, drawn.weight[0][0, 0], atol=1e-3)


@pytest.mark.parametrize("weights", ["task", "output"])
def test_balance_makes_the_gate_hear_all_experts(weights: str):
    embedding = embeddings()
    one = labelled(embedding)
    (fit,) = fit_heads(embedding, [one], QUICK)
    settings = replace(QUICK, gate_weights=weights, learning_rate=2e-2, epochs=20)  # type: ignore[arg-type]
    uneven = {}
    for balance in (0.0, 1.0):
        changed = replace(settings, balance=balance)
        (gate,) = fit_gates(embedding, [one], [stacked(fit)], changed)
        with torch.no_grad():
            uneven[balance] = {
                task: float(weight.mean((0, 1)).max() - 0.5)
                for task, weight in gate.module(embedding).items()
            }
    for task in TARGETS:
        assert uneven[1.0][task] < 0.5 * uneven[0.0][task], task


@pytest.mark.parametrize("top_k", [1, 2])
def test_so_many_experts_are_heard_and_the_best_ones_are_found(top_k: int):
    embedding = embeddings()
    one = labelled(embedding)
    (fit,) = fit_heads(embedding, [one], QUICK)
    # The good expert is the last, whom an untrained gate does not hear.
    unseen = {
        task: torch.stack([best.flip(0), best.roll(7, 0), best])
        for task, best in fit.out_of_fold.items()
    }
    settings = replace(QUICK, top_k=top_k, learning_rate=2e-2, epochs=40, patience=40)
    (gate,) = fit_gates(embedding, [one], [unseen], settings)
    with torch.no_grad():
        weights = gate.module(embedding[one.rows])
    for task, weight in weights.items():
        assert ((weight > 0).sum(-1) == top_k).all()
        torch.testing.assert_close(weight.sum(-1), torch.ones(weight.shape[:2]))
        # By chance it would be heard for a third or two thirds of the records.
        assert float((weight[..., 2] > 0).float().mean()) > (0.75 if top_k == 1 else 0.9), task


@pytest.mark.parametrize("adaptation", ["lora", "full", "linear", "shared-lora"])
def test_every_adaptation_learns_what_is_there_and_nothing_that_is_not(adaptation: Adaptation):
    embedding = embeddings()
    settings = replace(QUICK, adaptation=adaptation, epochs=40)
    (fit,) = fit_heads(embedding, [one := labelled(embedding)], settings)
    assert right(fit, one, one.test) > 0.6
    # The same labels, of other records: a leak would show as more than chance.
    (fit,) = fit_heads(embedding, [one := labelled(embedding, shuffled=True)], settings)
    assert right(fit, one, one.test) < 0.45
    error = (fit.outputs["age"][one.test, 0] - one.encoded["age"][one.test]).abs().mean()
    assert error > 0.9 * one.encoded["age"][one.test].abs().mean()


def test_what_a_head_says_unseen_it_was_not_told():
    embedding = embeddings()
    one = labelled(embedding)
    (fit,) = fit_heads(embedding, [one], QUICK)
    (untold,) = fit_heads(
        embedding,
        # Other labels for the first half change nothing that is said of it.
        [replace(one, encoded={t: _other(e, one.folds[0]) for t, e in one.encoded.items()})],
        QUICK,
    )
    assert not torch.allclose(fit.outputs["sex"], untold.outputs["sex"])
    torch.testing.assert_close(
        fit.out_of_fold["sex"][one.folds[0]], untold.out_of_fold["sex"][one.folds[0]]
    )


def _other(encoded: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    changed = encoded.clone()
    changed[rows] = encoded[rows.flip(0)]
    return changed


def test_a_run_is_the_same_again_and_leaves_the_random_state_alone():
    embedding = embeddings()
    settings = replace(QUICK, dropout=0.3)
    before = torch.random.get_rng_state()
    first, again = (fit_heads(embedding, [labelled(embedding)], settings)[0] for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    for task in TARGETS:
        assert torch.equal(first.outputs[task], again.outputs[task])


def test_the_best_epoch_is_kept_and_not_the_last():
    embedding = embeddings()
    one = labelled(embedding)
    settings = replace(QUICK, adaptation="full", hidden=64, epochs=60, patience=60)
    (fit,) = fit_heads(embedding, [one], settings)
    losses = fit.validation_loss["arrhythmia"]
    log_share = fit.outputs["arrhythmia"][one.validation].log()
    truth = one.encoded["arrhythmia"][one.validation].long()
    loss = torch.nn.functional.nll_loss(log_share, truth)
    assert float(loss) == pytest.approx(min(losses), rel=1e-3)
    assert losses[-1] > 1.02 * min(losses)


def test_records_without_a_label_teach_nothing_and_break_nothing():
    embedding = embeddings()
    one = labelled(embedding)
    unknown = one.encoded["age"].clone()
    unknown[::2] = float("nan")
    (fit,) = fit_heads(embedding, [replace(one, encoded=one.encoded | {"age": unknown})], QUICK)
    assert torch.isfinite(fit.outputs["age"]).all()
    changed = embedding.clone()
    (same,) = fit_heads(changed, [one], QUICK)
    assert not torch.allclose(same.outputs["age"], fit.outputs["age"])
    torch.testing.assert_close(same.outputs["sex"], fit.outputs["sex"])


@pytest.mark.parametrize(
    "change", [{}, {"gate_depth": 2}, {"gate_weights": "output"}, {"top_k": 1}, {"balance": 0.1}]
)
def test_the_gate_finds_which_expert_is_right_for_which_record(change: dict[str, object]):
    torch.manual_seed(0)
    leads = torch.randn(RECORDS, 10)
    one = labelled(embeddings())
    knows = leads[one.rows][:, 0] > 0
    unseen = {}
    for task, targets in TARGETS.items():
        truth = one.encoded[task]
        if targets.task.kind == "regression":
            good, bad = truth.unsqueeze(1), torch.randn(RECORDS, 1)
        else:
            good = torch.nn.functional.one_hot(truth.long(), targets.outputs) * 0.9 + 0.02
            bad = torch.rand(RECORDS, targets.outputs)
            good, bad = good / good.sum(1, keepdim=True), bad / bad.sum(1, keepdim=True)
        which = knows.unsqueeze(1)
        unseen[task] = torch.stack([torch.where(which, good, bad), torch.where(which, bad, good)])
    settings = replace(QUICK, epochs=60, learning_rate=1e-2, **change)  # type: ignore[arg-type]
    (gate,) = fit_gates(leads, [one], [unseen], settings)
    with torch.no_grad():
        weights = gate.module(leads[one.rows])
    for task, weight in weights.items():
        torch.testing.assert_close(weight.sum(-1), torch.ones(weight.shape[:2]))
        mixed = mix(weight, unseen[task])[one.test]
        mean = unseen[task].mean(0)[one.test]
        truth = one.encoded[task][one.test]
        if task == "age":
            assert (mixed[:, 0] - truth).abs().mean() < 0.8 * (mean[:, 0] - truth).abs().mean()
        elif task == "sex":
            assert (mixed.argmax(1) == truth).float().mean() >= 0.85


def test_heads_as_they_were_drawn_are_told_apart_from_trained_ones():
    embedding = embeddings()
    one = labelled(embedding)
    (fit,) = fit_heads(embedding, [one], replace(QUICK, epochs=1))
    (more,) = fit_heads(embedding, [one], QUICK)
    assert torch.equal(fit.untrained["sex"], more.untrained["sex"])
    assert not torch.allclose(fit.untrained["sex"], fit.outputs["sex"])


def test_parameters_are_counted_as_they_are_trained():
    embedding = embeddings()
    for adaptation, trained in {
        "lora": 8 * (FEATURES + 16) * 3 + 17 * 7,
        "full": (FEATURES + 1) * 16 * 3 + 17 * 7,
        "linear": (FEATURES + 1) * 7,
    }.items():
        settings = replace(QUICK, epochs=1, adaptation=adaptation)  # type: ignore[arg-type]
        (fit,) = fit_heads(embedding, [labelled(embedding)], settings)
        assert fit.trainable == trained, adaptation
        frozen = (FEATURES + 1) * 16 * 3 if adaptation == "lora" else 0
        assert fit.total == trained + frozen


def test_predictions_of_parts_are_those_of_the_whole():
    embedding = embeddings()
    (fit,) = fit_heads(embedding, [one := labelled(embedding)], QUICK)
    again = predict_heads(fit.module, embedding[one.rows], TARGETS)
    assert torch.equal(again["age"], fit.outputs["age"])
