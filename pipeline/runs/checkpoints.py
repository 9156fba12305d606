"""Heads and gates on disk: what is frozen as safetensors, and adapters in peft's own format.

A folder of heads holds `base.safetensors` and, where LoRA adapts them, a folder a task with its
adapter and output layer. Where all tasks share a hidden layer, the base has it once, so that one
more task is one more adapter. A gate's folder holds one adapter for all tasks.
"""

from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from enecg.gate import Gate
from enecg.heads import TaskHeads

BASE = "base.safetensors"
ADAPTER = "adapter_config.json"

_TRAINED = ("lora_", ".modules_to_save.")
_PEFTS_OWN = ("base_model.model.", ".base_layer", ".original_module")
"""What peft puts into the names of the tensors that it wraps."""


def save_heads(heads: TaskHeads, folder: Path) -> None:
    """Save the heads of an expert."""
    folder.mkdir(parents=True)
    base = _frozen(heads)
    for task, ffn in heads.ffn.items():
        if isinstance(ffn, PeftModel):
            _save_adapter(ffn, folder / task)
            # The output layer as it was drawn: the adapter has the trained one.
            base = {name: one for name, one in base.items() if ".prediction." not in name}
        if heads.shared:
            base = {name.replace(f"ffn.{task}.hidden", "hidden"): one for name, one in base.items()}
    save_file(base, folder / BASE)


def load_heads(folder: Path, outputs: dict[str, int]) -> TaskHeads:
    """Heads as they were saved, ready to answer, on the CPU; `outputs` of each task.

    Raises OSError, KeyError, ValueError or SafetensorError where they are not whole.
    """
    base = _load(folder)
    first = next(iter(outputs))
    shared = "hidden.weight" in base
    for part in ("weight", "bias") if shared else ():
        layer = base.pop(f"hidden.{part}")
        base |= {f"ffn.{task}.hidden.{part}": layer for task in outputs}
    bias = base.get(f"ffn.{first}.hidden.bias")
    with torch.random.fork_rng():  # building draws weights, which are then written over
        heads = TaskHeads(
            len(base["standardise.mean"]),
            outputs,
            hidden=0 if bias is None else len(bias),
            dropout=0.0,
            depth=0 if bias is None else 1,
            shared=shared,
        )
        adapted = any((folder / task / ADAPTER).is_file() for task in outputs)
        missing, unexpected = heads.load_state_dict(base, strict=False)
        lacking = [name for name in missing if not (adapted and ".prediction." in name)]
        if lacking or unexpected:
            raise KeyError(f"{folder / BASE}: {', '.join([*lacking, *unexpected])}")
        for task in outputs if adapted else ():
            heads.ffn[task] = _load_adapter(heads.ffn[task], folder / task)
    return heads.eval()


def load_hidden_layer(folder: Path) -> nn.Linear:
    """The hidden layer that all tasks of saved heads share. Raises KeyError where none is."""
    base = _load(folder)
    weight = base["hidden.weight"]
    with torch.random.fork_rng():
        layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.load_state_dict({"weight": weight, "bias": base["hidden.bias"]})
    return layer.requires_grad_(False)


def save_gate(gate: nn.Module, folder: Path) -> None:
    """Save a gate."""
    folder.mkdir(parents=True)
    if isinstance(gate, PeftModel):
        _save_adapter(gate, folder)
    save_file(_frozen(gate), folder / BASE)


def load_gate(folder: Path, tasks: list[str], experts: int, top_k: int) -> PeftModel:
    """A gate as it was saved, ready to answer, on the CPU.

    Raises OSError, KeyError, ValueError or SafetensorError where it is not whole.
    """
    base = _load(folder)
    first = f"ffn.{tasks[0]}."
    layers = [name for name in base if name.startswith(first) and name.endswith(".bias")]
    with torch.random.fork_rng():
        gate = Gate(
            len(base["standardise.mean"]),
            {task: len(base[f"ffn.{task}.prediction.bias"]) // experts for task in tasks},
            experts,
            hidden=len(base[f"{first}hidden.bias"]),
            dropout=0.0,
            depth=len(layers) - 1,
            top_k=top_k,
        )
        gate.load_state_dict(base)
        adapted = _load_adapter(gate, folder)
    adapted.eval()
    return adapted


def _frozen(module: nn.Module) -> dict[str, Tensor]:
    """All that no adapter holds, by the names that it has without peft."""
    frozen = {}
    for name, tensor in module.state_dict().items():
        if not any(part in name for part in _TRAINED):
            for part in _PEFTS_OWN:
                name = name.replace(part, "")
            frozen[name] = tensor.contiguous()
    return frozen


def _load(folder: Path) -> dict[str, Tensor]:
    path = folder / BASE
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}")
    return load_file(path)


def _save_adapter(model: PeftModel, folder: Path) -> None:
    model.save_pretrained(str(folder))
    # An empty form that peft lays beside every adapter.
    (folder / "README.md").unlink(missing_ok=True)


def _load_adapter(module: nn.Module, folder: Path) -> PeftModel:
    # peft would ask the hub for what is not there.
    for name in (ADAPTER, "adapter_model.safetensors"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"there is no {folder / name}")
    adapted: PeftModel = PeftModel.from_pretrained(module, str(folder))
    return adapted
