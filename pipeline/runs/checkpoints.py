"""Save and load trained heads and gates: LoRA adapters in peft's format, the rest as safetensors.

The folder of an expert's heads contains `base.safetensors` and, with LoRA, one subfolder per task
with the task's adapter and output layer. A hidden layer that all tasks share is stored only once,
in `base.safetensors`. The folder of a gate contains `base.safetensors` and one adapter for all
tasks.
"""

import json
from copy import deepcopy
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from enecg.gate import Gate
from enecg.heads import TaskHeads
from enecg.lora import HIDDEN_LAYERS, LoraLinear, with_lora
from enecg.single_expert_gate import SingleExpertGate
from pipeline.runs.run_documents import read_document

BASE = "base.safetensors"
ADAPTER = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"

_MAX_RANK = 4096
"""Maximum LoRA rank of a loaded adapter."""

_PEFT_PREFIX = "base_model.model."
"""Prefix of the names of all tensors in peft's format."""

_Module = TypeVar("_Module", bound=nn.Module)


def save_heads(heads: TaskHeads, folder: Path) -> None:
    """Save the heads of an expert.

    Args:
        heads: The heads.
        folder: New folder; must not exist.
    """
    folder.mkdir(parents=True)
    base = _base_tensors(heads)
    for task, ffn in heads.ffn.items():
        if _lora_layers(ffn):
            _save_adapter(ffn, folder / task)
            base = {name: base[name] for name in base if ".prediction." not in name}
        if heads.shared:
            base = {name.replace(f"ffn.{task}.hidden", "hidden"): base[name] for name in base}
    save_file(base, folder / BASE)


def load_heads(folder: Path, outputs: dict[str, int]) -> TaskHeads:
    """Load the heads of an expert.

    Args:
        folder: Folder written by `save_heads`.
        outputs: Number of outputs of each task.

    Returns:
        The heads, on the CPU and in evaluation mode.

    Raises:
        OSError: A file is missing.
        KeyError: A tensor, or a setting of an adapter, is missing; or a tensor is unexpected.
        RuntimeError: A tensor has the wrong shape.
        ValueError: The configuration of an adapter is invalid; also TypeError.
        UnsafeFile: The configuration of an adapter is not a regular file or is too large.
        SafetensorError: A safetensors file is corrupt.
    """
    base = _load_base(folder)
    first = next(iter(outputs))
    shared = "hidden.weight" in base
    for part in ("weight", "bias") if shared else ():
        layer = base.pop(f"hidden.{part}")
        base |= {f"ffn.{task}.hidden.{part}": layer for task in outputs}
    bias = base.get(f"ffn.{first}.hidden.bias")
    # The constructor draws random initial weights, which are overwritten; restore the generator.
    with torch.random.fork_rng():
        heads = TaskHeads(
            len(base["standardise.mean"]),
            outputs,
            hidden=0 if bias is None else len(bias),
            dropout=0.0,
            depth=0 if bias is None else 1,
            shared=shared,
            linear=f"ffn.{first}.linear.weight" in base,
            bins=len(base["encode.edges"]) - 1 if "encode.edges" in base else 0,
            landmarks=len(base["kernel.landmarks"]) if "kernel.landmarks" in base else 0,
        )
        adapted = any((folder / task / ADAPTER).is_file() for task in outputs)
        missing, unexpected = heads.load_state_dict(base, strict=False)
        # Adapters contain their output layers, which are loaded below.
        missing = [name for name in missing if not (adapted and ".prediction." in name)]
        if missing or unexpected:
            names = ", ".join([*missing, *unexpected])
            raise KeyError(f"{folder / BASE}: missing or unexpected tensors: {names}")
        for task in outputs if adapted else ():
            # The update of a task is merged into its own copy of a shared hidden layer.
            ffn = deepcopy(heads.ffn[task]) if shared else heads.ffn[task]
            heads.ffn[task] = _load_adapter(ffn, folder / task)
    return heads.eval()


def load_hidden_layer(folder: Path) -> nn.Linear:
    """Load the frozen hidden layer that all tasks share.

    Args:
        folder: Folder written by `save_heads`.

    Returns:
        The layer, on the CPU.

    Raises:
        OSError: `base.safetensors` is missing.
        KeyError: The tasks have no shared hidden layer.
        RuntimeError: Weight and bias of the layer have different sizes.
        SafetensorError: `base.safetensors` is corrupt.
    """
    base = _load_base(folder)
    weight = base["hidden.weight"]
    with torch.random.fork_rng():
        layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.load_state_dict({"weight": weight, "bias": base["hidden.bias"]})
    return layer.requires_grad_(False)


def save_gate(gate: nn.Module, folder: Path) -> None:
    """Save a gate; `SingleExpertGate` has no parameters and is not saved.

    Args:
        gate: The gate.
        folder: New folder; must not exist.
    """
    if isinstance(gate, SingleExpertGate):
        return
    folder.mkdir(parents=True)
    if _lora_layers(gate):
        _save_adapter(gate, folder)
    save_file(_base_tensors(gate), folder / BASE)


def load_gate(folder: Path, tasks: list[str], experts: int, top_k: int) -> Gate:
    """Load a gate.

    Args:
        folder: Folder written by `save_gate`.
        tasks: Names of the tasks.
        experts: Number of experts.
        top_k: Number of experts to select; 0 selects all.

    Returns:
        The gate, on the CPU and in evaluation mode.

    Raises:
        OSError: A file is missing.
        KeyError: A tensor from which the sizes are inferred is missing, the adapter lacks a tensor
            or a setting, or it has an unexpected tensor.
        RuntimeError: Another tensor is missing, or a tensor is unexpected or has the wrong shape.
        ValueError: The configuration of the adapter is invalid; also TypeError.
        UnsafeFile: The configuration of the adapter is not a regular file or is too large.
        SafetensorError: A safetensors file is corrupt.
    """
    base = _load_base(folder)
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
            spectrum="window" in base,
        )
        gate.load_state_dict(base)
        gate = _load_adapter(gate, folder)
    return gate.eval()


def _lora_layers(module: nn.Module) -> dict[str, LoraLinear]:
    """Return the layers with a LoRA update, by name."""
    return {name: layer for name, layer in module.named_modules() if isinstance(layer, LoraLinear)}


def _base_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a module without its LoRA updates, named as without LoRA."""
    tensors = module.state_dict()
    for name in _lora_layers(module):
        for part in ("weight", "bias"):
            tensors[f"{name}.{part}"] = tensors.pop(f"{name}.base.{part}")
        del tensors[f"{name}.lora_a"], tensors[f"{name}.lora_b"]
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def _load_base(folder: Path) -> dict[str, Tensor]:
    path = folder / BASE
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing")
    return load_file(path)


def _save_adapter(module: nn.Module, folder: Path) -> None:
    """Save the LoRA updates and output layers of a module in peft's format, without importing peft.

    The import would take longer than the training of a few hundred records.
    """
    layers = _lora_layers(module)
    tensors = {
        name: tensor for name, tensor in module.state_dict().items() if "prediction." in name
    }
    for name, layer in layers.items():
        tensors[f"{name}.lora_A.weight"] = layer.lora_a.detach()
        tensors[f"{name}.lora_B.weight"] = layer.lora_b.detach()
    layer = next(iter(layers.values()))
    config = {
        "peft_type": "LORA",
        "peft_version": version("peft"),
        "inference_mode": True,
        "r": len(layer.lora_a),
        "lora_alpha": layer.alpha,
        "target_modules": HIDDEN_LAYERS,
        "modules_to_save": ["prediction"],
    }
    folder.mkdir(exist_ok=True)
    (folder / ADAPTER).write_text(json.dumps(config, indent=2), encoding="utf-8")
    named = {_PEFT_PREFIX + name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(named, folder / ADAPTER_WEIGHTS)


def _load_adapter(module: _Module, folder: Path) -> _Module:
    """Load an adapter with peft and merge it into the module."""
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    weights = folder / ADAPTER_WEIGHTS
    if not weights.is_file():
        raise FileNotFoundError(f"{weights} is missing")
    config = read_document(folder / ADAPTER)
    rank, alpha = int(config["r"]), float(config["lora_alpha"])
    # Create the configuration from these two numbers alone, because the file is not trusted: it
    # could contain a slow regular expression, or settings that select other code of peft.
    if config["target_modules"] != HIDDEN_LAYERS or not 1 <= rank <= _MAX_RANK:
        raise ValueError(f"{folder / ADAPTER} is not a LoRA configuration of EnECG")
    adapted = with_lora(module, rank=rank, alpha=alpha, dropout=0.0)
    tensors = load_file(weights)
    # Compare the names here, because peft does not report missing tensors.
    differ = {*get_peft_model_state_dict(adapted)} ^ {*tensors}
    if differ:
        raise KeyError(f"{weights}: missing or unexpected tensor: {min(differ)}")
    set_peft_model_state_dict(adapted, tensors)
    merged: _Module = adapted.merge_and_unload()
    return merged
