"""Records on which heads, gate, ensembles and thresholds of a repeat are fitted."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import Ridge

from enecg.ensembles import ENSEMBLES
from enecg.ensembles.base import EnsembleOutput, HeadOutputs
from enecg.gate import Mixture, mix
from enecg.single_expert_gate import SingleExpertGate
from enecg.tasks import TASKS
from pipeline.evaluation.predictions import CONSTANT, ENSEMBLE, RIDGE, WITHOUT, ZERO_SHOT
from pipeline.evaluation.thresholds import choose_threshold
from pipeline.training import mixtures
from pipeline.training import repeat as module
from pipeline.training.cohorts import draw_cohort
from pipeline.training.features import Features
from pipeline.training.fit_heads import fit_heads, predict_heads
from pipeline.training.inputs import Inputs
from pipeline.training.labeled_repeat import label_repeat
from pipeline.training.leave_one_out import add_leave_one_out
from pipeline.training.predictions import PredictionBuilder
from pipeline.training.repeat import choose_references, run_repeats
from pipeline.training.settings import Adaptation, FitSettings

RECORDS = 240
IDS = np.arange(1000, 1000 + RECORDS)
PATIENTS = np.repeat(np.arange(RECORDS // 2), 2)
FEATURES = Features(
    IDS,
    {name: torch.randn(RECORDS, 12, generator=torch.Generator().manual_seed(seed))
     for seed, name in enumerate(("first", "second"))},
    torch.randn(RECORDS, 6, generator=torch.Generator().manual_seed(9)),
)  # fmt: skip
QUICK = FitSettings(epochs=3, hidden=8, gate_input="samples")


@pytest.fixture
def inputs() -> Inputs:
    rng = np.random.default_rng(0)
    labels = pd.DataFrame(
        {
            "patient_id": PATIENTS,
            "age": rng.normal(60, 10, RECORDS),
            "potassium": (rng.random(RECORDS) < 0.3).astype(float),
        },
        index=IDS,
    )
    tasks = (TASKS["age"], TASKS["potassium"])
    return Inputs(None, None, IDS, 0, labels, tasks)  # type: ignore[arg-type]


def test_folds_share_no_patient(inputs: Inputs):
    repeat = label_repeat(draw_cohort(IDS, PATIENTS, patients=120, seed=0), inputs, FEATURES)
    first, second = (set(PATIENTS[repeat.rows[fold].numpy()].tolist()) for fold in repeat.folds)
    assert first
    assert second
    assert not first & second
    assert sorted(torch.cat(repeat.folds).tolist()) == repeat.train.tolist()


def test_gate_and_ensembles_are_trained_on_out_of_fold_predictions(
    inputs: Inputs, monkeypatch: pytest.MonkeyPatch
):
    ensemble_inputs: list[HeadOutputs] = []
    gate_inputs: list[dict[str, torch.Tensor]] = []

    def record_ensemble(outputs: HeadOutputs, seed: int) -> EnsembleOutput | None:
        ensemble_inputs.append(outputs)
        return None

    def record_gates(
        leads: Any, repeats: Any, outputs: Sequence[dict[str, Any]], settings: Any
    ) -> Any:
        gate_inputs.extend(outputs)
        return fit_gates(leads, repeats, outputs, settings)

    fit_gates = mixtures.fit_gates
    monkeypatch.setattr(module, "ENSEMBLES", dict.fromkeys(ENSEMBLES, record_ensemble))
    monkeypatch.setattr(mixtures, "fit_gates", record_gates)
    cohort = draw_cohort(IDS, PATIENTS, patients=120, seed=0)
    (repeat,) = run_repeats([cohort], inputs, FEATURES, QUICK, lambda name, fits: None)
    assert len(ensemble_inputs) == len(ENSEMBLES) * 2
    trained = [
        predict_heads(fit.module, FEATURES.experts[name][labeled.rows], repeat.targets)
        for labeled in [label_repeat(cohort, inputs, FEATURES)]
        for name, fit in repeat.heads.items()
    ]
    for task, outputs in gate_inputs[0].items():
        assert any(torch.equal(outputs, given.outputs) for given in ensemble_inputs), task
        train = ensemble_inputs[0].train
        in_sample = torch.stack([by_task[task] for by_task in trained])
        equal = torch.isclose(outputs[:, train], in_sample[:, train])
        # A few predictions of two models are equal by chance.
        assert equal.float().mean() < 0.05


def test_models_and_predictions_do_not_depend_on_the_number_of_threads(inputs: Inputs):
    cohorts = [draw_cohort(IDS, PATIENTS, patients=120, seed=seed) for seed in (0, 1)]
    settings = replace(QUICK, dropout=0.3)
    state = torch.random.get_rng_state()
    alone, together = (
        run_repeats(cohorts, inputs, FEATURES, settings, lambda *_: None, threads=threads)
        for threads in (1, 2)
    )
    assert torch.equal(torch.random.get_rng_state(), state)
    for first, second in zip(alone, together, strict=True):
        for one, two in zip(first.predictions, second.predictions, strict=True):
            assert np.array_equal(one.predicted, two.predicted)
        for name, fit in first.heads.items():
            tensors = second.heads[name].module.state_dict()
            for key, tensor in fit.module.state_dict().items():
                assert torch.equal(tensor, tensors[key]), key


def test_heads_of_repeats_are_the_same_in_one_pass_and_in_several(
    inputs: Inputs, monkeypatch: pytest.MonkeyPatch
):
    cohorts = [draw_cohort(IDS, PATIENTS, patients=120, seed=seed) for seed in (0, 1)]
    one_pass = run_repeats(cohorts, inputs, FEATURES, QUICK, lambda *_: None)
    passes: list[int] = []

    def count_passes(embedding: Any, repeats: Any, *arguments: Any, **options: Any) -> Any:
        passes.append(len(repeats))
        return fit_heads(embedding, repeats, *arguments, **options)

    monkeypatch.setattr("pipeline.training.repeat.MAX_STACKED_RECORDS", 0)
    monkeypatch.setattr("pipeline.training.repeat.fit_heads", count_passes)
    fits: list[int] = []
    several = run_repeats(
        cohorts, inputs, FEATURES, QUICK, lambda _, models: fits.append(len(models)), threads=2
    )
    assert passes == [1] * 2 * len(FEATURES.experts)
    assert fits == [2] * len(FEATURES.experts) + [2, 0]
    for first, second in zip(one_pass, several, strict=True):
        for name, fit in first.heads.items():
            tensors = second.heads[name].module.state_dict()
            for key, tensor in fit.module.state_dict().items():
                assert torch.equal(tensor, tensors[key]), key


@pytest.mark.parametrize("mixture", ["probabilities", "logits"])
def test_validation_predictions_are_mixed_like_new_predictions(mixture: Mixture, inputs: Inputs):
    cohort = draw_cohort(IDS, PATIENTS, patients=120, seed=0)
    settings = replace(QUICK, adaptation="lora", mixture=mixture)
    (repeat,) = run_repeats([cohort], inputs, FEATURES, settings, lambda *_: None)
    labeled = label_repeat(cohort, inputs, FEATURES)
    rows = labeled.rows[labeled.validation]
    weights = repeat.gate.module.eval()(FEATURES.leads[rows])["potassium"]
    outputs = [
        fit.module.eval()(FEATURES.experts[name][rows]) for name, fit in repeat.heads.items()
    ]
    probability = torch.stack([output["potassium"].softmax(-1) for output in outputs])
    expected = mix(weights, probability, kind="binary", mixture=mixture).detach()
    found = next(each for each in repeat.validation if each.task.name == "potassium")
    assert found.probability is not None
    torch.testing.assert_close(torch.from_numpy(found.probability).float(), expected)


def test_one_expert_is_not_combined(inputs: Inputs):
    cohort = draw_cohort(IDS, PATIENTS, patients=120, seed=0)
    features = replace(FEATURES, experts={"first": FEATURES.experts["first"]})
    logged: list[str] = []
    (repeat,) = run_repeats([cohort], inputs, features, QUICK, lambda name, _: logged.append(name))
    assert logged == ["first"]
    assert isinstance(repeat.gate.module, SingleExpertGate)
    by_method = {
        (prediction.method, prediction.task.name): prediction for prediction in repeat.predictions
    }
    assert {method for method, _ in by_method} == {
        CONSTANT,
        f"{ZERO_SHOT}first",
        RIDGE,
        "first",
        ENSEMBLE,
    }
    for task in ("age", "potassium"):
        expert, mixture = by_method["first", task], by_method[ENSEMBLE, task]
        assert np.array_equal(expert.predicted, mixture.predicted)


@pytest.mark.parametrize("adaptation", ["linear-lora", "lora"])
def test_ridge_regression_is_that_of_the_best_expert_on_validation_records(
    adaptation: Adaptation, inputs: Inputs
):
    age = torch.tensor(inputs.labels["age"].to_numpy(copy=True)).float()
    informative = FEATURES.experts["second"].clone()
    informative[:, 0] = age + 0.1 * torch.randn(RECORDS, generator=torch.Generator().manual_seed(1))
    # Clamp outliers, which the heads would compress and scikit-learn would not.
    deviation = informative.std(0)
    informative = informative.clamp(
        informative.mean(0) - 2 * deviation, informative.mean(0) + 2 * deviation
    )
    features = replace(FEATURES, experts={**FEATURES.experts, "second": informative})
    cohort = draw_cohort(IDS, PATIENTS, patients=120, seed=0)
    settings = replace(QUICK, adaptation=adaptation)
    (repeat,) = run_repeats([cohort], inputs, features, settings, lambda name, _: None)
    assert repeat.ridge.chosen["age"] == "second"
    ours = next(
        prediction
        for prediction in repeat.predictions
        if (prediction.method, prediction.task.name) == (RIDGE, "age")
    )
    # The penalty hardly matters for this feature, so any small penalty is equivalent.
    fitted = np.isin(IDS, np.concatenate([cohort.train, cohort.validation]))
    expected = Ridge(1e-3).fit(informative[fitted].numpy(), age[fitted].numpy())
    tested = informative[torch.from_numpy(ours.record_id - IDS[0])].numpy()
    # Fits with several penalties are averaged, which shrinks the coefficients slightly.
    np.testing.assert_allclose(ours.predicted, expected.predict(tested), atol=0.6)
    losses = {name: loss["age"] for name, loss in repeat.validation_loss.items() if "age" in loss}
    assert losses[RIDGE] < losses["first"]
    best = min(("first", "second"), key=losses.__getitem__)
    assert choose_references([repeat])["best expert"]["age"] == [best]
    outputs = repeat.ridge.heads["second"](informative)["age"][:, 0]
    decoded = repeat.targets["age"].decode(outputs.detach().numpy())
    np.testing.assert_allclose(decoded[ours.record_id - IDS[0]], ours.predicted, rtol=1e-5)


def test_threshold_is_chosen_on_training_and_validation_records(inputs: Inputs):
    cohort = draw_cohort(IDS, PATIENTS, patients=120, seed=0)
    repeat = label_repeat(cohort, inputs, FEATURES)
    builder = PredictionBuilder(0, cohort.record_id, inputs.labels, repeat)
    probability = torch.rand(RECORDS, generator=torch.Generator().manual_seed(5))
    output = torch.stack([1 - probability, probability], 1)
    truth = repeat.encoded["potassium"].numpy().astype(int)
    fitted = torch.cat([repeat.train, repeat.validation])
    thresholds = {
        part: choose_threshold(probability.numpy()[rows], truth[rows])
        for part, rows in {
            "fitted": fitted.numpy(),
            "validation": repeat.validation.numpy(),
            "all": np.arange(len(truth)),
        }.items()
    }
    assert len(set(thresholds.values())) == 3
    assert builder.choose_threshold("potassium", output) == thresholds["fitted"]
    output[repeat.train] = float("nan")
    assert builder.choose_threshold("potassium", output) == thresholds["validation"]


def test_enecg_without_an_expert_equals_enecg_of_a_run_with_the_others(inputs: Inputs):
    third = torch.randn(RECORDS, 12, generator=torch.Generator().manual_seed(3))
    features = replace(FEATURES, experts={**FEATURES.experts, "third": third})
    # With two experts, `top_k` is limited to 2.
    settings = replace(QUICK, top_k=3)
    cohorts = [draw_cohort(IDS, PATIENTS, patients=120, seed=seed) for seed in (0, 1)]
    others = run_repeats(cohorts, inputs, FEATURES, replace(QUICK, top_k=2), lambda *_: None)
    logged: list[str] = []
    extended = add_leave_one_out(
        run_repeats(cohorts, inputs, features, settings, lambda *_: None),
        inputs,
        features,
        settings,
        lambda name, _: logged.append(name),
    )
    assert logged == [f"gate without {name}" for name in ("first", "second", "third")]
    for repeat, other in zip(extended, others, strict=True):
        expected = {one.task.name: one for one in other.predictions if one.method == ENSEMBLE}
        found = {
            one.task.name: one for one in repeat.predictions if one.method == f"{WITHOUT}third"
        }
        assert found.keys() == expected.keys()
        for task, one in found.items():
            assert np.array_equal(one.predicted, expected[task].predicted), task
        assert repeat.parameters[f"{WITHOUT}third"] == other.parameters[ENSEMBLE]
        assert repeat.thresholds[f"{WITHOUT}third"] == other.thresholds[ENSEMBLE]
