import pytest
import torch
from torch import nn

from enecg.gate import Gate, expert_weights, mix
from enecg.heads import TaskHeads, compress_outliers
from enecg.stacked import StackConfig, StackedFFN

OUTPUTS = {"rr_interval": 1, "sex": 2, "arrhythmia": 5}


def perturbed_stack(config: StackConfig, seeds: list[int]) -> StackedFFN:
    """Return a stack whose trainable parameters are random instead of their initial values."""
    stack = StackedFFN.initialize(config, len(OUTPUTS), seeds)
    torch.manual_seed(7)
    for parameter in stack.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.2)
    return stack.eval()


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("lora", [True, False])
@pytest.mark.parametrize("shared", [True, False])
def test_modules_filled_by_copy_to_compute_the_same_outputs(depth: int, lora: bool, shared: bool):
    config = StackConfig(20, 8, 5, depth=depth, lora=lora and depth > 0, shared=shared)
    stack = perturbed_stack(config, [0, 1])
    features = torch.randn(2, 11, 20)
    # The heads compress outliers of their inputs; the inputs of a stack are already compressed.
    stacked_outputs = stack(compress_outliers(features.clone()))
    for group in range(2):
        heads = TaskHeads(
            20, OUTPUTS, hidden=8, dropout=0.1, depth=depth, shared=shared and depth > 0
        )
        stack.copy_to(group, heads.ffn.values())
        head_outputs = heads.eval()(features[group])
        for index, (task, size) in enumerate(OUTPUTS.items()):
            actual = stacked_outputs[group, index, :, :size]
            torch.testing.assert_close(actual, head_outputs[task], rtol=1e-4, atol=1e-5)


def test_precomputed_first_layer_gives_the_same_outputs():
    stack = perturbed_stack(StackConfig(20, 8, 5), [0, 0, 3])
    features = torch.randn(3, 11, 20)
    first = torch.stack([stack.first_layer(group, features[group]) for group in range(3)])
    torch.testing.assert_close(stack(features, first), stack(features))


def test_groups_have_equal_parameters_only_if_their_seeds_are_equal():
    stack = StackedFFN.initialize(StackConfig(20, 8, 5), 3, [4, 4, 5])
    for name, parameter in stack.named_parameters():
        assert torch.equal(parameter[0], parameter[1]), name
        assert not parameter.any() or not torch.equal(parameter[0], parameter[2]), name


def test_gradients_of_other_groups_and_tasks_are_zero():
    stack = perturbed_stack(StackConfig(20, 8, 5), [0, 1])
    stack(torch.randn(2, 11, 20))[1, 2].sum().backward()
    for parameter in stack.parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None
            affected = parameter.grad.flatten(2).abs().sum(-1) > 0
            assert affected.tolist() == [[False] * 3, [False, False, True]]


def test_lora_trains_only_the_update_and_the_output_layer():
    trainable = {
        name.split(".")[0]
        for name, parameter in StackedFFN.initialize(
            StackConfig(20, 8, 5), 3, [0]
        ).named_parameters()
        if parameter.requires_grad
    }
    assert trainable == {"lora_a", "lora_b", "prediction_weight", "prediction_bias"}


def test_top_k_keeps_the_experts_with_the_largest_logits():
    weights = expert_weights(torch.tensor([[2.0, 1.0, 3.0, 0.0]]), top_k=2)
    assert (weights > 0).tolist() == [[True, False, True, False]]
    torch.testing.assert_close(weights.sum(-1), torch.ones(1))
    torch.testing.assert_close(expert_weights(torch.randn(5, 3)).sum(-1), torch.ones(5))


def test_mixing_with_weights_per_class_gives_probabilities():
    gate = Gate(6, {"arrhythmia": 4}, 3, hidden=8, dropout=0.0, depth=2)
    nn.init.normal_(gate.ffn["arrhythmia"].prediction.weight)
    weights = gate.eval()(torch.randn(9, 6))["arrhythmia"]
    assert weights.shape == (9, 4, 3)
    torch.testing.assert_close(weights.sum(-1), torch.ones(9, 4))
    mixed = mix(weights, torch.rand(3, 9, 4).softmax(-1))
    torch.testing.assert_close(mixed.sum(-1), torch.ones(9))
