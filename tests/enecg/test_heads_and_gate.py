import pytest
import torch

from enecg.gate import Gate, mix
from enecg.heads import LINEAR_DEVIATIONS, Standardize, TaskHeads, compress_outliers

OUTPUTS = {"age": 1, "arrhythmia": 15}


def test_tasks_have_separate_outputs_and_parameters():
    heads = TaskHeads(20, OUTPUTS, hidden=16, dropout=0.0)
    outputs = heads(torch.randn(3, 20))
    assert {task: output.shape for task, output in outputs.items()} == {
        "age": (3, 1),
        "arrhythmia": (3, 15),
    }
    outputs["age"].sum().backward()
    gradients = {n: p.grad for n, p in heads.named_parameters() if "arrhythmia" in n}
    assert gradients
    assert all(gradient is None for gradient in gradients.values())


def test_constant_feature_is_standardized_to_zero():
    standardize = Standardize(2)
    embedding = torch.tensor([[1.0, 5.0], [3.0, 5.0]], dtype=torch.float16)
    standardize.fit(embedding)
    torch.testing.assert_close(standardize(embedding), torch.tensor([[-1.0, 0.0], [1.0, 0.0]]))


def test_keys_of_saved_runs_are_stable():
    heads = TaskHeads(20, {"age": 1}, hidden=16, dropout=0.0)
    gate = Gate(20, {"age": 1}, 3, hidden=16, dropout=0.0, depth=2)
    common = {"standardise.mean", "standardise.scale", "ffn.age.hidden.weight"}
    common |= {"ffn.age.hidden.bias", "ffn.age.prediction.weight", "ffn.age.prediction.bias"}
    assert heads.state_dict().keys() == common
    assert gate.state_dict().keys() == common | {"ffn.age.more.0.weight", "ffn.age.more.0.bias"}


def test_gate_weights_sum_to_one_for_every_record_and_task():
    gate = Gate(30, {"age": 1, "sex": 1}, 5, hidden=16, dropout=0.0)
    for ffn in gate.ffn.values():
        torch.nn.init.normal_(ffn.prediction.weight)  # type: ignore[union-attr, arg-type]
    weights = gate(torch.randn(7, 30))
    assert set(weights) == {"age", "sex"}
    for weight in weights.values():
        assert weight.shape == (7, 1, 5)
        torch.testing.assert_close(weight.sum(-1), torch.ones(7, 1))
        assert weight.std() > 0


def test_untrained_gate_averages_the_experts():
    gate = Gate(30, {"age": 1}, 4, hidden=16, dropout=0.0)
    predictions = torch.randn(4, 7, 1)
    mixed = mix(gate(torch.randn(7, 30))["age"], predictions)
    torch.testing.assert_close(mixed, predictions.mean(0))


@pytest.mark.parametrize("expert", [0, 2])
def test_mixing_with_weight_one_for_an_expert_returns_its_prediction(expert: int):
    weights = torch.zeros(7, 1, 3)
    weights[..., expert] = 1
    predictions = torch.randn(3, 7, 15)
    torch.testing.assert_close(mix(weights, predictions), predictions[expert])


def test_mixing_logits_gives_weighted_geometric_means_of_odds_and_arithmetic_means_of_values():
    predictions = torch.tensor([[[16 / 17, 1 / 17]], [[0.5, 0.5]]])  # odds 16 and 1
    weights = torch.tensor([[[0.25, 0.75]]])  # odds 16 ** 0.25 = 2
    mixed = mix(weights, predictions, kind="binary", mixture="logits")
    torch.testing.assert_close(mixed, torch.tensor([[2 / 3, 1 / 3]]))
    labels = mix(weights, predictions, kind="multilabel", mixture="logits")
    torch.testing.assert_close(labels, torch.tensor([[2 / 3, 1 / 3]]))
    values = mix(weights, torch.tensor([[[4.0]], [[8.0]]]), kind="regression", mixture="logits")
    torch.testing.assert_close(values, torch.tensor([[7.0]]))


def test_outliers_are_compressed_in_order_and_other_features_are_unchanged():
    features = torch.linspace(-40, 40, 8001, dtype=torch.float64)
    compressed = compress_outliers(features.clone())
    inside = features.abs() <= LINEAR_DEVIATIONS
    assert torch.equal(compressed[inside], features[inside])
    assert (compressed.diff() > 0).all()
    assert compressed.abs().max() < 8
    # The slope is never larger than that of the linear part.
    assert compressed.diff().max() <= features.diff().max() + 1e-12


def test_gradients_pass_through_compressed_outliers():
    embedding = torch.tensor([[0.0, 9.0, -100.0]], requires_grad=True)
    standardize = Standardize(3, compress=True)
    standardize(embedding).sum().backward()
    torch.testing.assert_close(embedding.grad, torch.tensor([[1.0, 1 / 7, 1 / 98]]))
