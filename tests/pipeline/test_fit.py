"""Training of heads and gates on synthetic embeddings with known labels."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import RidgeCV
from sklearn.metrics import roc_auc_score
from torch.nn.functional import binary_cross_entropy

from enecg.ensembles.base import task_loss
from enecg.gate import mix
from enecg.stacked import StackConfig, StackedFFN
from enecg.tasks import TASKS
from pipeline.labels.targets import Targets
from pipeline.runs.checkpoints import load_heads, save_heads
from pipeline.training.correction import fit_factors
from pipeline.training.fit_gates import fit_gates
from pipeline.training.fit_heads import fit_heads
from pipeline.training.fitted_models import FittedHeads
from pipeline.training.gate_prior import fit_prior
from pipeline.training.head_outputs import predict_heads
from pipeline.training.labeled_repeat import LabeledRepeat
from pipeline.training.linear_path import fit_linear_paths
from pipeline.training.settings import Adaptation, FitSettings
from pipeline.training.stack import count_steps
from pipeline.training.stack_data import StackedData

QUICK = FitSettings(epochs=6, hidden=16, dropout=0.0, learning_rate=5e-3, gate_input="samples")
RECORDS, FEATURES = 400, 24

TARGETS = {
    "age": Targets(TASKS["age"]),
    "sex": Targets(TASKS["sex"], classes=("female", "male")),
    "arrhythmia": Targets(TASKS["arrhythmia"], classes=("a", "b", "c", "Others")),
}


def make_embedding(seed: int = 0) -> torch.Tensor:
    return torch.randn(RECORDS, FEATURES, generator=torch.Generator().manual_seed(seed))


def make_repeat(embedding: torch.Tensor, seed: int = 0, *, shuffled: bool = False) -> LabeledRepeat:
    """Label the records by their features, or by those of other records if `shuffled`."""
    rows = torch.from_numpy(np.random.default_rng(seed).permutation(RECORDS))
    features = embedding[rows]
    encoded = {
        "age": features[:, 0],
        "sex": (features[:, 1] > 0).float(),
        "arrhythmia": features[:, 2:6].argmax(1).float(),
    }
    if shuffled:
        order = torch.from_numpy(np.random.default_rng(9).permutation(RECORDS))
        encoded = {task: labels[order] for task, labels in encoded.items()}
    train, validation, test = torch.arange(RECORDS).split([240, 80, 80])
    return LabeledRepeat(
        TARGETS,
        rows,
        encoded,
        train,
        validation,
        test,
        (train[:120], train[120:]),
        torch.arange(RECORDS),
        seed,
    )


def compute_accuracy(fit: FittedHeads, repeat: LabeledRepeat) -> float:
    predicted = fit.outputs["arrhythmia"][repeat.test].argmax(1)
    return float((predicted == repeat.encoded["arrhythmia"][repeat.test]).float().mean())


def truncate(repeat: LabeledRepeat, records: int) -> LabeledRepeat:
    """Keep only the first training records."""
    kept = torch.cat([repeat.train[:records], repeat.validation, repeat.test])
    sizes = [records, len(repeat.validation), len(repeat.test)]
    train, validation, test = torch.arange(len(kept)).split(sizes)
    return replace(
        repeat,
        rows=repeat.rows[kept],
        encoded={task: labels[kept] for task, labels in repeat.encoded.items()},
        train=train,
        validation=validation,
        test=test,
        folds=(train[: records // 2], train[records // 2 :]),
        patients=repeat.patients[kept],
    )


def change_labels(repeat: LabeledRepeat, rows: torch.Tensor) -> LabeledRepeat:
    """Return the repeat with the labels of `rows` in reverse order."""
    encoded = {task: labels.clone() for task, labels in repeat.encoded.items()}
    for task, labels in encoded.items():
        labels[rows] = repeat.encoded[task][rows.flip(0)]
    return replace(repeat, encoded=encoded)


def add_useless_expert(fit: FittedHeads) -> dict[str, torch.Tensor]:
    """Stack the predictions of an expert and the same predictions in reverse record order."""
    return {task: torch.stack([good, good.flip(0)]) for task, good in fit.outputs.items()}


@pytest.mark.parametrize("adaptation", ["lora", "shared-lora", "linear-lora"])
def test_repeats_trained_in_one_pass_equal_repeats_trained_separately(adaptation: Adaptation):
    embedding = make_embedding()
    sizes = {0: 240, 1: 100, 2: 170}
    repeats = [truncate(make_repeat(embedding, seed), size) for seed, size in sizes.items()]
    settings = replace(QUICK, adaptation=adaptation, dropout=0.2, epochs=25, patience=2)
    stacked = fit_heads(embedding, repeats, settings)
    gates = fit_gates(embedding, repeats, [add_useless_expert(fit) for fit in stacked], settings)
    epochs = set()
    for fit, gate, repeat in zip(stacked, gates, repeats, strict=True):
        (separate,) = fit_heads(embedding, [repeat], settings)
        (separate_gate,) = fit_gates(embedding, [repeat], [add_useless_expert(fit)], settings)
        for task in TARGETS:
            for actual, expected in (
                (fit.outputs[task], separate.outputs[task]),
                (gate.module(embedding)[task], separate_gate.module(embedding)[task]),
            ):
                torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-4)
            epochs.add(int(np.isfinite(fit.validation_loss[task]).sum()))
    assert len(epochs) > 1, "all FFNs stopped at the same epoch, so the test is not meaningful"


@pytest.mark.parametrize("adaptation", ["linear-lora", "shared-lora"])
def test_stopped_heads_are_not_computed_and_the_others_do_not_change(
    adaptation: Adaptation, monkeypatch: pytest.MonkeyPatch
):
    embedding = make_embedding()
    repeats = [make_repeat(embedding, seed, shuffled=seed > 0) for seed in (0, 1)]
    settings = replace(QUICK, adaptation=adaptation, dropout=0.2, epochs=25, patience=2)
    computed: list[int] = []
    forward = StackedFFN.forward

    def count(stack: StackedFFN, *inputs: torch.Tensor | None) -> torch.Tensor:
        computed.append(stack.prediction_weight[..., 0, 0].numel())
        return forward(stack, *inputs)

    monkeypatch.setattr(StackedFFN, "forward", count)
    fits = fit_heads(embedding, repeats, settings)
    assert min(computed) < max(computed) / 2
    computed.clear()
    monkeypatch.setattr("pipeline.training.stack._Training.drop_stopped", lambda self, active: self)
    complete = fit_heads(embedding, repeats, settings)
    assert min(computed) == max(computed)
    for fit, expected in zip(fits, complete, strict=True):
        for task in TARGETS:
            torch.testing.assert_close(fit.outputs[task], expected.outputs[task])
            np.testing.assert_allclose(
                fit.validation_loss[task], expected.validation_loss[task], rtol=1e-5
            )


@pytest.mark.parametrize("adaptation", ["linear-lora", "lora", "linear"])
def test_outputs_of_heads_do_not_depend_on_whether_they_are_combined(adaptation: Adaptation):
    embedding = make_embedding()
    repeats = [make_repeat(embedding, seed) for seed in (0, 1)]
    settings = replace(QUICK, adaptation=adaptation, dropout=0.2)
    alone = fit_heads(embedding, repeats, settings, combined=False)
    combined = fit_heads(embedding, repeats, settings)
    for fit, other, repeat in zip(alone, combined, repeats, strict=True):
        for task in TARGETS:
            rest = torch.cat([repeat.validation, repeat.test])
            found, expected = fit.outputs[task], other.outputs[task]
            torch.testing.assert_close(found[rest], expected[rest], rtol=1e-4, atol=1e-5)
            if adaptation == "lora":  # no heads on folds, so training records have no predictions
                assert found[repeat.train].isnan().all()
            else:
                torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model", ["heads", "gate"])
def test_early_stopping_ignores_test_labels(model: str):
    embedding = make_embedding()
    repeat = make_repeat(embedding)
    repeats = (repeat, change_labels(repeat, repeat.test))
    settings = replace(QUICK, epochs=30, patience=3, adaptation="full", dropout=0.1)
    fits = [fit_heads(embedding, [repeat], settings)[0] for repeat in repeats]
    if model == "gate":
        stacked = add_useless_expert(fits[0])
        fits = [  # type: ignore[assignment]
            fit_gates(embedding, [repeat], [stacked], settings)[0] for repeat in repeats
        ]
    for name, tensor in fits[0].module.state_dict().items():
        assert torch.equal(tensor, fits[1].module.state_dict()[name]), name


def test_training_stops_after_patience_epochs_without_improvement():
    embedding = make_embedding()
    settings = replace(QUICK, epochs=60, patience=3, adaptation="full", learning_rate=2e-2)
    (fit,) = fit_heads(embedding, [make_repeat(embedding)], settings)
    for losses in fit.validation_loss.values():
        finite = np.array(losses)[np.isfinite(losses)]
        assert len(finite) - 1 < 60
        assert len(finite) - 1 - int(finite.argmin()) == 3


def test_dropout_is_active_in_training_mode_only():
    stack = StackedFFN.initialize(StackConfig(20, 400, 5, dropout=0.5), 2, [0])
    features = torch.randn(1, 30, 20)
    first, second = stack.train()(features), stack(features)
    assert not torch.allclose(first, second)
    assert torch.equal(stack.eval()(features), stack(features))


def test_shared_layer_is_trained_and_shared_by_all_tasks():
    embedding = make_embedding()
    settings = replace(QUICK, adaptation="shared-lora")
    (fit,) = fit_heads(embedding, [repeat := make_repeat(embedding)], settings)
    initial = StackedFFN.initialize(
        StackConfig(FEATURES, 16, 4, shared=True), len(TARGETS), [repeat.seed]
    )
    hidden = fit.module.ffn["age"].hidden.base  # type: ignore[union-attr]
    assert hidden is fit.module.ffn["sex"].hidden.base  # type: ignore[union-attr]
    assert not torch.allclose(hidden.weight, initial.weight[0][0, 0], atol=1e-3)


@pytest.mark.parametrize("weights", ["task", "output"])
def test_load_balancing_loss_equalizes_the_expert_weights(weights: str):
    embedding = make_embedding()
    repeat = make_repeat(embedding)
    (fit,) = fit_heads(embedding, [repeat], QUICK)
    settings = replace(QUICK, gate_weights=weights, learning_rate=2e-2, epochs=20)  # type: ignore[arg-type]
    imbalance = {}
    for balance in (0.0, 1.0):
        balanced = replace(settings, balance=balance)
        (gate,) = fit_gates(embedding, [repeat], [add_useless_expert(fit)], balanced)
        with torch.no_grad():
            imbalance[balance] = {
                task: float(weight.mean((0, 1)).max() - 0.5)
                for task, weight in gate.module(embedding).items()
            }
    for task in TARGETS:
        assert imbalance[1.0][task] < 0.5 * imbalance[0.0][task], task


@pytest.mark.parametrize("top_k", [1, 2])
def test_top_k_gate_selects_k_experts_and_prefers_the_best(top_k: int):
    embedding = make_embedding()
    repeat = make_repeat(embedding)
    (fit,) = fit_heads(embedding, [repeat], QUICK)
    # The good expert is last, and an untrained gate does not select it.
    stacked = {
        task: torch.stack([best.flip(0), best.roll(7, 0), best])
        for task, best in fit.outputs.items()
    }
    settings = replace(QUICK, top_k=top_k, learning_rate=2e-2, epochs=40, patience=40)
    (gate,) = fit_gates(embedding, [repeat], [stacked], settings)
    with torch.no_grad():
        weights = gate.module(embedding[repeat.rows])
    for task, weight in weights.items():
        assert ((weight > 0).sum(-1) == top_k).all()
        torch.testing.assert_close(weight.sum(-1), torch.ones(weight.shape[:2]))
        # A random gate selects the good expert for `top_k` thirds of the records.
        assert float((weight[..., 2] > 0).float().mean()) > (0.75 if top_k == 1 else 0.9), task


@pytest.mark.parametrize("adaptation", ["lora", "full", "linear", "shared-lora"])
def test_every_adaptation_learns_true_labels_but_not_shuffled_labels(
    adaptation: Adaptation,
):
    embedding = make_embedding()
    settings = replace(QUICK, adaptation=adaptation, epochs=40)
    (fit,) = fit_heads(embedding, [repeat := make_repeat(embedding)], settings)
    assert compute_accuracy(fit, repeat) > 0.6
    # If test labels leaked into training, the accuracy would be above chance.
    (fit,) = fit_heads(embedding, [repeat := make_repeat(embedding, shuffled=True)], settings)
    assert compute_accuracy(fit, repeat) < 0.45
    truth = repeat.encoded["age"][repeat.test]
    assert (fit.outputs["age"][repeat.test, 0] - truth).abs().mean() > 0.9 * truth.abs().mean()


def test_out_of_fold_predictions_do_not_depend_on_labels_of_their_fold():
    embedding = make_embedding()
    repeat = make_repeat(embedding)
    fold = repeat.folds[0]
    settings = replace(QUICK, adaptation="lora")
    (fit,) = fit_heads(embedding, [repeat], settings)
    (changed,) = fit_heads(embedding, [change_labels(repeat, fold)], settings)
    assert not torch.allclose(fit.outputs["sex"], changed.outputs["sex"])
    torch.testing.assert_close(fit.outputs["sex"][fold], changed.outputs["sex"][fold])


def mean_losses(output: dict[str, torch.Tensor], repeat: LabeledRepeat, part: str) -> float:
    """Return the loss relative to that of the constant predictor, averaged over tasks."""
    rows = getattr(repeat, part)
    ratios = []
    for task, targets in TARGETS.items():
        kind, truth = targets.task.kind, repeat.encoded[task]
        constant = torch.zeros(len(truth), 1)
        if kind != "regression":
            shares = truth[repeat.train].long().bincount(minlength=targets.outputs)
            constant = (shares / shares.sum()).expand(len(truth), -1)
        loss, expected = (
            task_loss(kind, predicted[rows], truth[rows]) for predicted in (output[task], constant)
        )
        ratios.append(float(loss / expected))
    return float(np.mean(ratios))


def test_heads_on_useless_features_predict_like_the_constant_and_leak_no_label():
    embedding = torch.randn(RECORDS, 600, generator=torch.Generator().manual_seed(3))
    losses = []
    for seed in range(4):
        repeat = make_repeat(make_embedding(), seed, shuffled=True)
        (fit,) = fit_heads(embedding, [repeat], replace(QUICK, epochs=20))
        losses.append([mean_losses(fit.outputs, repeat, part) for part in ("test", "train")])
    tested, out_of_fold = np.mean(losses, axis=0)
    assert 0.98 < tested < 1.02
    # If labels leaked, training records would be predicted better than by the constant.
    assert 0.99 < out_of_fold < 1.02


def test_correction_is_scaled_by_the_evidence_of_validation_and_training_patients():
    repeat = make_repeat(embedding := make_embedding())
    data = StackedData.from_repeats(embedding, [repeat])
    # Losses per epoch: no gain for age, a small gain and an early stop for sex, and a large gain
    # for arrhythmia.
    useless, noise, useful = [1.0, 1.1, 1.2], [0.69, 0.685, np.nan], [1.0, 0.8, 0.6]
    history = np.array([useless, noise, useful]).T[:, None]
    known = torch.full((1, 3), float(len(repeat.train)))

    def factors(best: float) -> list[float]:
        """Return the factors if `best` has the smallest loss on training records."""
        return fit_factors(
            history, data, lambda _, rows, factor: ((1 + (factor - best) ** 2) * known, known)
        )[0].tolist()

    validation = (0.0, 1 / (1 + np.exp(-80 * 0.005)), 1.0)
    for best in (0.0, 0.5, 1.0):
        expected = [(value + best) / 2 for value in validation]
        assert factors(best) == pytest.approx(expected, abs=0.03), best


def test_correction_learned_from_noise_is_small():
    embedding = torch.randn(RECORDS, 600, generator=torch.Generator().manual_seed(3))
    repeat = make_repeat(make_embedding(), shuffled=True)
    (fit,) = fit_heads(embedding, [repeat], replace(QUICK, epochs=20))
    with torch.no_grad():
        corrected = fit.module(embedding[repeat.rows[repeat.test]])["age"]
        ridge = fit.ridge(embedding[repeat.rows[repeat.test]])["age"]
    assert (corrected - ridge).std() < 0.3


def test_training_is_reproducible_and_preserves_the_random_state():
    embedding = make_embedding()
    settings = replace(QUICK, dropout=0.3)
    state = torch.random.get_rng_state()
    first, second = (fit_heads(embedding, [make_repeat(embedding)], settings)[0] for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), state)
    for task in TARGETS:
        assert torch.equal(first.outputs[task], second.outputs[task])


def test_heads_have_the_parameters_of_the_best_epoch():
    embedding = make_embedding()
    repeat = make_repeat(embedding)
    settings = replace(QUICK, adaptation="full", hidden=64, epochs=60, patience=60)
    (fit,) = fit_heads(embedding, [repeat], settings)
    losses = fit.validation_loss["arrhythmia"]
    log_probability = fit.outputs["arrhythmia"][repeat.validation].log()
    truth = repeat.encoded["arrhythmia"][repeat.validation].long()
    loss = torch.nn.functional.nll_loss(log_probability, truth)
    assert float(loss) == pytest.approx(min(losses), rel=1e-3)
    assert losses[-1] > 1.02 * min(losses)


def test_missing_labels_of_one_task_do_not_affect_other_tasks():
    embedding = make_embedding()
    repeat = make_repeat(embedding)
    age = repeat.encoded["age"].clone()
    age[::2] = float("nan")
    partial = replace(repeat, encoded=repeat.encoded | {"age": age})
    (fit,) = fit_heads(embedding, [partial], QUICK)
    assert torch.isfinite(fit.outputs["age"]).all()
    (full,) = fit_heads(embedding, [repeat], QUICK)
    assert not torch.allclose(full.outputs["age"], fit.outputs["age"])
    torch.testing.assert_close(full.outputs["sex"], fit.outputs["sex"])


@pytest.mark.parametrize(
    "overrides", [{}, {"gate_depth": 2}, {"gate_weights": "output"}, {"top_k": 1}, {"balance": 0.1}]
)
def test_gate_learns_which_expert_is_right_for_each_record(overrides: dict[str, object]):
    torch.manual_seed(0)
    leads = torch.randn(RECORDS, 10)
    repeat = make_repeat(make_embedding())
    # The sign of the first column of `leads` determines which of the two experts is right.
    first_is_right = (leads[repeat.rows][:, 0] > 0).unsqueeze(1)
    predictions = {}
    for task, targets in TARGETS.items():
        truth = repeat.encoded[task]
        if targets.task.kind == "regression":
            good, bad = truth.unsqueeze(1), torch.randn(RECORDS, 1)
        else:
            # The wrong expert is more confident, so the mean of both is always wrong.
            right, size = truth.long(), targets.outputs
            good = torch.nn.functional.one_hot(right, size) * 0.9 + 0.1 / size
            bad = torch.nn.functional.one_hot((right + 1) % size, size) * 0.95 + 0.05 / size
        predictions[task] = torch.stack(
            [torch.where(first_is_right, good, bad), torch.where(first_is_right, bad, good)]
        )
    settings = replace(QUICK, epochs=60, learning_rate=1e-2, **overrides)  # type: ignore[arg-type]
    (gate,) = fit_gates(leads, [repeat], [predictions], settings)
    with torch.no_grad():
        weights = gate.module(leads[repeat.rows])
    for task, weight in weights.items():
        torch.testing.assert_close(weight.sum(-1), torch.ones(weight.shape[:2]))
        mixed = mix(weight, predictions[task])[repeat.test]
        mean = predictions[task].mean(0)[repeat.test]
        truth = repeat.encoded[task][repeat.test]
        if task == "age":
            assert (mixed[:, 0] - truth).abs().mean() < 0.8 * (mean[:, 0] - truth).abs().mean()
        else:
            assert (mixed.argmax(1) == truth).float().mean() >= 0.85


def test_untrained_outputs_do_not_depend_on_training():
    embedding = make_embedding()
    repeat = make_repeat(embedding)
    (short,) = fit_heads(embedding, [repeat], replace(QUICK, epochs=1))
    (long,) = fit_heads(embedding, [repeat], QUICK)
    assert torch.equal(short.untrained["sex"], long.untrained["sex"])
    assert not torch.allclose(short.untrained["sex"], short.outputs["sex"])


def test_parameter_counts_match_the_adaptation():
    embedding = make_embedding()
    for adaptation, trained in {
        "lora": 8 * (FEATURES + 16) * 3 + 17 * 7,
        "full": (FEATURES + 1) * 16 * 3 + 17 * 7,
        "linear": (FEATURES + 1) * 7,
    }.items():
        settings = replace(QUICK, epochs=1, adaptation=adaptation)  # type: ignore[arg-type]
        (fit,) = fit_heads(embedding, [make_repeat(embedding)], settings)
        assert fit.trainable == trained, adaptation
        frozen = (FEATURES + 1) * 16 * 3 if adaptation == "lora" else 0
        assert fit.total == trained + frozen


def test_module_reproduces_its_outputs_with_any_batch_size(monkeypatch: pytest.MonkeyPatch):
    embedding = make_embedding()
    (fit,) = fit_heads(embedding, [repeat := make_repeat(embedding)], QUICK)
    tested, outputs = repeat.rows[repeat.test], fit.outputs["age"][repeat.test]
    unbatched = predict_heads(fit.module, embedding[tested], TARGETS)
    assert torch.equal(unbatched["age"], outputs)
    monkeypatch.setattr("pipeline.training.stack_data.PREDICTION_BATCH_SIZE", 64)
    batched = predict_heads(fit.module, embedding[tested], TARGETS)
    torch.testing.assert_close(batched["age"], outputs)


def test_only_test_records_are_predicted_with_the_refitted_linear_path():
    embedding = make_embedding()
    (fit,) = fit_heads(embedding, [repeat := make_repeat(embedding)], QUICK)
    refitted = predict_heads(fit.module, embedding[repeat.rows], TARGETS)
    for rows, equal in ((repeat.test, True), (repeat.validation, False), (repeat.train, False)):
        # Compare arrhythmia, because refitting hardly changes the path of a linear label.
        found, expected = fit.outputs["arrhythmia"][rows], refitted["arrhythmia"][rows]
        assert torch.allclose(found, expected, atol=1e-4) == equal


@pytest.mark.parametrize("missing", [False, True])
def test_head_is_as_good_as_ridge_with_few_patients_and_many_features(missing: bool):
    generator = torch.Generator().manual_seed(0)
    embedding = torch.randn(RECORDS, 600, generator=generator)
    signal = embedding @ torch.randn(600, generator=generator) / 600**0.5
    labels = signal + 0.3 * torch.randn(RECORDS, generator=generator)
    repeat = make_repeat(embedding)
    encoded = {"age": labels[repeat.rows], "sex": (labels[repeat.rows] > 0).float()}
    encoded["arrhythmia"] = repeat.encoded["arrhythmia"]
    if missing:
        for task, values in encoded.items():
            encoded[task] = values.clone()
        encoded["sex"][::3] = float("nan")
    repeat = replace(repeat, encoded=encoded)
    (fit,) = fit_heads(embedding, [repeat], replace(QUICK, epochs=30))
    fitted = torch.cat([repeat.train, repeat.validation])
    features = embedding[repeat.rows].numpy()
    ridge = RidgeCV(np.logspace(-2, 6, 20)).fit(features[fitted], encoded["age"][fitted])
    truth = encoded["age"][repeat.test].numpy()
    expected = np.abs(ridge.predict(features[repeat.test]) - truth).mean()
    found = np.abs(fit.outputs["age"][repeat.test, 0].numpy() - truth).mean()
    assert found < 1.05 * expected < 0.8 * np.abs(truth).mean()


def make_additive_repeat(embedding: torch.Tensor) -> LabeledRepeat:
    """Label the records by a sum of nonlinear functions of two features."""
    repeat = make_repeat(embedding)
    features = embedding[repeat.rows]
    age = (features[:, 0].abs() + (features[:, 1] > 0.5).float()).clone()
    return replace(
        repeat,
        encoded={
            "age": (age - age.mean()) / age.std(),
            "sex": (features[:, 2].abs() > 0.7).float(),
            "arrhythmia": repeat.encoded["arrhythmia"],
        },
    )


def test_linear_path_fits_nonlinear_functions_of_single_features():
    embedding = make_embedding()
    repeat = make_additive_repeat(embedding)
    (fit,) = fit_heads(embedding, [repeat], replace(QUICK, epochs=1))
    age, sex = (repeat.encoded[task][repeat.test] for task in ("age", "sex"))
    assert (fit.outputs["age"][repeat.test, 0] - age).abs().mean() < 0.4 * age.abs().mean()
    assert roc_auc_score(sex, fit.outputs["sex"][repeat.test, 1]) > 0.9
    # The baseline is a linear regression, which cannot fit these functions.
    assert (fit.ridge_outputs["age"][repeat.test, 0] - age).abs().mean() > 0.6 * age.abs().mean()
    assert roc_auc_score(sex, fit.ridge_outputs["sex"][repeat.test, 1]) < 0.7


def make_interaction_repeat(embedding: torch.Tensor) -> LabeledRepeat:
    """Label the records by whether two features both exceed a threshold."""
    repeat = make_repeat(embedding)
    positive = embedding[repeat.rows][:, :2] > 0.3
    return replace(repeat, encoded=repeat.encoded | {"sex": positive.all(1).float()})


def test_linear_path_fits_interactions_of_features_among_many(monkeypatch: pytest.MonkeyPatch):
    embedding = torch.randn(RECORDS, 60, generator=torch.Generator().manual_seed(5))
    repeat = make_interaction_repeat(embedding)
    sex = repeat.encoded["sex"][repeat.test]
    losses = []
    for limit in (RECORDS, RECORDS - 1):
        monkeypatch.setattr("enecg.laplace_kernel.MAX_RECORDS", limit)
        (fit,) = fit_heads(embedding, [repeat], replace(QUICK, epochs=1))
        assert (fit.module.kernel is None) == (limit < RECORDS)
        probability = fit.outputs["sex"][repeat.test, 1]
        losses.append(float(binary_cross_entropy(probability, sex)))
    with_kernel, without = losses
    assert with_kernel < 0.85 * without


def test_features_are_not_encoded_beyond_the_limit_of_multiplications(
    monkeypatch: pytest.MonkeyPatch,
):
    embedding = make_embedding()
    repeat = make_additive_repeat(embedding)
    monkeypatch.setattr("enecg.quantile_bins.MAX_MULTIPLICATIONS", 1e6)
    (fit,) = fit_heads(embedding, [repeat], replace(QUICK, epochs=1))
    age = repeat.encoded["age"][repeat.test]
    assert fit.module.encode is None
    assert (fit.outputs["age"][repeat.test, 0] - age).abs().mean() > 0.6 * age.abs().mean()


@pytest.mark.parametrize("max_bytes", [1, 100_000])
def test_encoded_paths_do_not_depend_on_the_memory_limit(max_bytes: int):
    embedding = make_embedding()
    repeats = [make_additive_repeat(embedding)]
    in_memory, mapped = (
        fit_linear_paths(StackedData.from_repeats(embedding, repeats, size), nonlinear=True)[1]
        for size in (1 << 29, max_bytes)
    )
    assert in_memory.train.encoders is not None
    torch.testing.assert_close(mapped.refit.weight, in_memory.refit.weight)
    torch.testing.assert_close(mapped.left_out, in_memory.left_out)


@pytest.mark.parametrize("encoded", [True, False])
def test_loaded_heads_equal_saved_heads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoded: bool
):
    """Runs of earlier versions have heads without an encoding and without kernels."""
    if not encoded:
        monkeypatch.setattr("enecg.quantile_bins.MAX_MULTIPLICATIONS", 0)
    embedding = make_embedding()
    (fit,) = fit_heads(embedding, [make_repeat(embedding)], replace(QUICK, epochs=1))
    save_heads(fit.module, tmp_path / "heads")
    assert (fit.module.encode is not None) == (fit.module.kernel is not None) == encoded
    outputs = {task: target.outputs for task, target in TARGETS.items()}
    loaded = load_heads(tmp_path / "heads", outputs)
    for task, expected in predict_heads(fit.module, embedding, TARGETS).items():
        assert torch.equal(predict_heads(loaded, embedding, TARGETS)[task], expected)


def test_kernels_do_not_depend_on_the_number_of_tasks_in_memory(monkeypatch: pytest.MonkeyPatch):
    embedding = make_embedding()
    data = StackedData.from_repeats(embedding, [make_repeat(embedding)])
    _, expected = fit_linear_paths(data, nonlinear=True)
    for module in ("kernel_path", "linear_path"):
        monkeypatch.setattr(f"pipeline.training.{module}.TASKS_IN_MEMORY", 2)
    _, found = fit_linear_paths(data, nonlinear=True)
    torch.testing.assert_close(found.left_out, expected.left_out)
    torch.testing.assert_close(found.refit_left_out, expected.refit_left_out)


def test_encoded_path_of_a_task_does_not_depend_on_other_trials_and_tasks():
    embedding = make_embedding()
    repeat = make_additive_repeat(embedding)
    sex = repeat.encoded["sex"].clone()
    sex[::3] = float("nan")
    repeat = replace(repeat, encoded=repeat.encoded | {"sex": sex})
    # Trials of a sweep share the tensor of rows.
    _, paths = fit_linear_paths(StackedData.from_repeats(embedding, [repeat] * 2), nonlinear=True)
    assert torch.equal(paths.refit.weight[0], paths.refit.weight[1])
    alone = replace(repeat, targets={"sex": TARGETS["sex"]}, encoded={"sex": sex})
    _, expected = fit_linear_paths(StackedData.from_repeats(embedding, [alone]), nonlinear=True)
    torch.testing.assert_close(paths.train.weight[0, 1, :2], expected.train.weight[0, 0])


def test_prior_of_a_regression_minimizes_the_absolute_error():
    embedding = make_embedding()
    repeat = make_repeat(embedding)
    truth = repeat.encoded["age"]
    # The first expert has few large errors, the second many small ones.
    outlying = truth + 4.0 * (torch.arange(RECORDS) % 20 == 0)
    biased = truth + 0.4 * (-1.0) ** torch.arange(RECORDS)
    repeat = replace(repeat, targets={"age": TARGETS["age"]}, encoded={"age": truth})
    predictions = {"age": torch.stack([outlying, biased]).unsqueeze(-1)}
    weights = fit_prior(repeat, predictions).softmax(-1)[0]
    assert weights[0] > 0.9
    assert (outlying - truth).square().mean() > 4 * (biased - truth).square().mean()


def test_correction_learns_the_product_of_two_features():
    embedding = make_embedding()
    repeat = make_repeat(embedding)
    product = (embedding[repeat.rows, 0] * embedding[repeat.rows, 1]).clone()
    repeat = replace(repeat, encoded=repeat.encoded | {"age": product})
    settings = replace(QUICK, epochs=200, patience=30, hidden=64, learning_rate=1e-2)
    (fit,) = fit_heads(embedding, [repeat], settings)
    truth = product[repeat.test]
    error = (fit.outputs["age"][repeat.test, 0] - truth).abs().mean()
    assert error < 0.7 * truth.abs().mean()


def test_gate_starts_at_its_prior_and_is_not_worse():
    embedding = make_embedding()
    repeat = make_repeat(embedding)
    (fit,) = fit_heads(embedding, [repeat], replace(QUICK, epochs=30))
    stacked = add_useless_expert(fit)
    (gate,) = fit_gates(make_embedding(1), [repeat], [stacked], QUICK)
    prior = fit_prior(repeat, stacked).softmax(-1)
    with torch.no_grad():
        weights = gate.module(make_embedding(1)[repeat.rows])
    for task, losses in gate.validation_loss.items():
        best = np.nanmin(losses)
        mixed = mix(prior[list(TARGETS).index(task)].expand(RECORDS, 1, -1), stacked[task])
        rows = repeat.validation
        expected = task_loss(TARGETS[task].task.kind, mixed[rows], repeat.encoded[task][rows])
        assert losses[0] == pytest.approx(float(expected), rel=1e-3)
        assert best <= losses[0]
        torch.testing.assert_close(weights[task].sum(-1), torch.ones(RECORDS, 1))
        learned = task_loss(
            TARGETS[task].task.kind,
            mix(weights[task], stacked[task])[rows],
            repeat.encoded[task][rows],
        )
        assert learned <= expected + 1e-6
        # The weight of the useless expert.
        assert weights[task][repeat.test].mean(0).min() < 0.05


def test_gate_improves_on_its_prior_if_experts_are_right_for_different_records():
    embedding = make_embedding()
    repeat = make_repeat(embedding)
    leads = make_embedding(1)
    truth = repeat.encoded["age"]
    first = leads[repeat.rows, 0] > 0
    predictions = {task: torch.zeros(2, RECORDS, 1) for task in TARGETS}
    predictions["age"] = torch.stack(
        [torch.where(first, truth, -truth), torch.where(first, -truth, truth)]
    ).unsqueeze(-1)
    (fit,) = fit_heads(embedding, [repeat], replace(QUICK, epochs=1))
    stacked = {
        task: predictions[task] if task == "age" else fit.outputs[task].expand(2, -1, -1)
        for task in TARGETS
    }
    settings = replace(QUICK, epochs=100, patience=20, learning_rate=1e-2)
    (gate,) = fit_gates(leads, [repeat], [stacked], settings)
    losses = gate.validation_loss["age"]
    assert np.nanmin(losses) < 0.5 * losses[0]


def test_head_learns_a_rare_class():
    embedding = make_embedding()
    repeat = make_repeat(embedding)
    rare = (embedding[repeat.rows, 1] > 1.9).float()
    assert 0.01 < float(rare.mean()) < 0.06
    repeat = replace(repeat, encoded=repeat.encoded | {"sex": rare})
    (fit,) = fit_heads(embedding, [repeat], replace(QUICK, epochs=60))
    score = fit.outputs["sex"][repeat.test, 1]
    assert roc_auc_score(rare[repeat.test], score) > 0.95


def test_gate_improves_on_its_prior_for_a_class_of_three_percent():
    generator = torch.Generator().manual_seed(0)
    records = 2000
    leads = torch.randn(records, 6, generator=generator)
    truth = (torch.rand(records, generator=generator) < 0.03).float()
    # Each expert has information on half of the records, and predicts the share for the rest.
    informed = torch.where(truth > 0, 0.6, 0.015)
    first = leads[:, 0] > 0
    probability = torch.stack(
        [torch.where(first, informed, 0.03), torch.where(first, 0.03, informed)]
    )
    predictions = {"sex": torch.stack([1 - probability, probability], dim=-1)}
    train, validation, test = torch.arange(records).split([1400, 400, 200])
    repeat = LabeledRepeat(
        {"sex": TARGETS["sex"]},
        torch.arange(records),
        {"sex": truth},
        train,
        validation,
        test,
        (train[:700], train[700:]),
        torch.arange(records),
        0,
    )
    settings = replace(QUICK, epochs=60, patience=20, learning_rate=1e-2)
    (gate,) = fit_gates(leads, [repeat], [predictions], settings)
    losses = gate.validation_loss["sex"]
    assert np.nanargmin(losses) > 0
    assert np.nanmin(losses) < 0.9 * losses[0]


def test_linear_path_of_useless_features_predicts_the_best_constant_of_skewed_labels():
    embedding = torch.randn(RECORDS, 600, generator=torch.Generator().manual_seed(3))
    repeat = make_repeat(embedding)
    labels = torch.empty(RECORDS).exponential_(generator=torch.Generator().manual_seed(1)) ** 2
    labels = (labels - labels.mean()) / labels.std()
    repeat = replace(repeat, encoded=repeat.encoded | {"age": labels})
    (fit,) = fit_heads(embedding, [repeat], replace(QUICK, epochs=1))
    found = (fit.outputs["age"][repeat.test, 0] - labels[repeat.test]).abs().mean()
    mean, median = (
        (constant - labels[repeat.test]).abs().mean()
        for constant in (labels[repeat.train].mean(), labels[repeat.train].median())
    )
    assert median < 0.9 * mean
    assert found < 0.5 * (median + mean)
    # Leave-one-out means would have a correlation of -1 with the labels.
    left_out = fit.outputs["age"][repeat.train, 0]
    assert torch.corrcoef(torch.stack([left_out, labels[repeat.train]]))[0, 1].abs() < 0.3


def test_validation_predictions_have_the_errors_of_new_records():
    """The saved heads are fitted on validation records too, so their errors there are too small."""
    generator = torch.Generator().manual_seed(5)
    embedding = torch.randn(RECORDS, 200, generator=generator)
    repeat = make_repeat(embedding)
    features = embedding[repeat.rows]
    labels = features[:, :40].sum(1) / 40**0.5 + torch.randn(RECORDS, generator=generator) / 2
    repeat = replace(repeat, encoded=repeat.encoded | {"age": labels})
    (fit,) = fit_heads(embedding, [repeat], replace(QUICK, epochs=1))

    def error(rows: torch.Tensor, predicted: torch.Tensor) -> float:
        return float((predicted[:, 0] - labels[rows]).abs().mean())

    new = error(repeat.test, fit.outputs["age"][repeat.test])
    own = predict_heads(fit.module, features[repeat.validation], repeat.targets)["age"]
    assert error(repeat.validation, own) < 0.8 * new
    assert error(repeat.validation, fit.validation["age"]) == pytest.approx(new, rel=0.25)


@pytest.mark.parametrize(("records", "steps"), [(1, 1), (640, 10), (7000, 25), (64_000, 100)])
def test_passes_over_many_records_are_divided_into_epochs(records: int, steps: int):
    assert count_steps(records, 64) == steps
