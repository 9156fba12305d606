import pytest
import torch
from torch import nn

from enecg.gate import Gate, expert_weights, mix
from enecg.heads import TaskHeads
from enecg.stacked import StackConfig, StackedFFN

OUTPUTS = {"rr_interval": 1, "sex": 2, "arrhythmia": 5}


def stirred(config: StackConfig, seeds: list[int]) -> StackedFFN:
    """A stack whose trained parameters are no longer as they were drawn."""
    stack = StackedFFN(config, len(OUTPUTS), seeds)
    torch.manual_seed(7)
    for one in stack.parameters():
        if one.requires_grad:
            nn.init.normal_(one, std=0.2)
    return stack.eval()


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("lora", [True, False])
@pytest.mark.parametrize("shared", [True, False])
def test_the_modules_that_are_saved_answer_as_the_stack_does(depth: int, lora: bool, shared: bool):
    config = StackConfig(20, 8, 5, depth=depth, lora=lora and depth > 0, shared=shared)
    stack = stirred(config, [0, 1])
    features = torch.randn(2, 11, 20)
    answers = stack(features)
    for group in range(2):
        heads = TaskHeads(
            20, OUTPUTS, hidden=8, dropout=0.1, depth=depth, shared=shared and depth > 0
        )
        if config.lora:
            heads.adapt(rank=8, alpha=16.0, dropout=0.1)
        stack.copy_to(group, list(heads.ffn.values()))
        said = heads.eval()(features[group])
        for place, (task, size) in enumerate(OUTPUTS.items()):
            expected = answers[group, place, :, :size]
            torch.testing.assert_close(said[task], expected, rtol=1e-4, atol=1e-5)


def test_what_is_computed_once_changes_no_answer():
    stack = stirred(StackConfig(20, 8, 5), [0, 0, 3])
    features = torch.randn(3, 11, 20)
    first = torch.stack([stack.first_layer(group, features[group]) for group in range(3)])
    torch.testing.assert_close(stack(features, first), stack(features))


def test_groups_of_one_seed_are_drawn_alike_and_of_another_otherwise():
    stack = StackedFFN(StackConfig(20, 8, 5), 3, [4, 4, 5])
    for name, one in stack.named_parameters():
        assert torch.equal(one[0], one[1]), name
        assert not one.any() or not torch.equal(one[0], one[2]), name


def test_no_group_and_no_task_learns_from_another():
    stack = stirred(StackConfig(20, 8, 5), [0, 1])
    stack(torch.randn(2, 11, 20))[1, 2].sum().backward()
    for one in stack.parameters():
        if one.requires_grad:
            assert one.grad is not None
            touched = one.grad.flatten(2).abs().sum(-1) > 0
            assert touched.tolist() == [[False] * 3, [False, False, True]]


def test_only_lora_and_the_last_layer_learn_where_the_rest_is_frozen():
    learning = {
        name.split(".")[0]
        for name, one in StackedFFN(StackConfig(20, 8, 5), 3, [0]).named_parameters()
        if one.requires_grad
    }
    assert learning == {"lora_a", "lora_b", "prediction", "prediction_bias"}


def test_a_gate_listens_to_the_experts_of_most_weight_alone():
    weights = expert_weights(torch.tensor([[2.0, 1.0, 3.0, 0.0]]), top_k=2)
    assert (weights > 0).tolist() == [[True, False, True, False]]
    torch.testing.assert_close(weights.sum(-1), torch.ones(1))
    torch.testing.assert_close(expert_weights(torch.randn(5, 3)).sum(-1), torch.ones(5))


def test_weights_of_every_class_mix_to_probabilities():
    gate = Gate(6, {"arrhythmia": 4}, 3, hidden=8, dropout=0.0, depth=2)
    nn.init.normal_(gate.ffn["arrhythmia"].prediction.weight)
    weights = gate.eval()(torch.randn(9, 6))["arrhythmia"]
    assert weights.shape == (9, 4, 3)
    torch.testing.assert_close(weights.sum(-1), torch.ones(9, 4))
    mixed = mix(weights, torch.rand(3, 9, 4).softmax(-1))
    torch.testing.assert_close(mixed.sum(-1), torch.ones(9))
