import torch
from torch import nn

from enecg.heads import FFN, TaskHeads
from enecg.lora import LoraLinear, with_lora


def test_lora_freezes_hidden_layers_and_trains_updates_and_output_layers():
    heads = TaskHeads(20, {"age": 1, "arrhythmia": 15}, hidden=16, dropout=0.0)
    model = with_lora(heads, rank=4, alpha=8, dropout=0.0)
    initial = heads.ffn["age"].hidden.base_layer.weight.clone()  # type: ignore[union-attr, operator]
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    kinds = (".lora_A.", ".lora_B.", ".prediction.modules_to_save.")
    assert all(any(kind in name for kind in kinds) for name in trainable)
    before = {name: parameter.detach().clone() for name, parameter in trainable.items()}
    optimizer = torch.optim.SGD(trainable.values(), lr=0.1)
    embedding = torch.randn(8, 20)
    for _ in range(2):  # B is initialized to 0, so A has no gradient in the first step
        sum(output.square().mean() for output in model(embedding).values()).backward()
        optimizer.step()
    changed = {name for name, parameter in trainable.items() if not parameter.equal(before[name])}
    assert changed == trainable.keys()
    for kind in kinds:
        assert any(kind in name for name in changed)
    assert torch.equal(heads.ffn["age"].hidden.base_layer.weight, initial)  # type: ignore[union-attr]


def test_adapted_weights_equal_those_merged_by_peft():
    ffn = FFN(20, 16, 3, dropout=0.0)
    model = with_lora(ffn, rank=4, alpha=6.0, dropout=0.0)
    layer = ffn.hidden
    nn.init.normal_(layer.lora_B["default"].weight)  # type: ignore[index, union-attr]
    base = nn.Linear(20, 16)
    base.load_state_dict(layer.base_layer.state_dict())  # type: ignore[union-attr]
    a, b = (
        factor["default"].weight.detach()  # type: ignore[index]
        for factor in (layer.lora_A, layer.lora_B)
    )
    adapted = LoraLinear(base, a, b, 6.0)
    features = torch.randn(5, 20)
    torch.testing.assert_close(adapted(features), layer(features))
    merged = model.merge_and_unload()
    assert torch.equal(adapted.weight, merged.hidden.weight)
