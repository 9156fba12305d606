"""Damaged checkpoints, as they result from interrupted downloads or other models."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from enecg import experts
from enecg.errors import UserError


class CustomObject:
    """An object that can only be unpickled by importing its class."""


def _remove_key(tensors: dict[str, torch.Tensor], key: str, path: Path) -> str:
    torch.save({name: tensor for name, tensor in tensors.items() if name != key}, path)
    return rf"1 missing keys \({key}\)"


def _add_key(tensors: dict[str, torch.Tensor], key: str, path: Path) -> str:
    torch.save({**tensors, "some.other.weight": torch.zeros(1)}, path)
    return r"1 unexpected keys \(some\.other\.weight\)"


def _change_shape(tensors: dict[str, torch.Tensor], key: str, path: Path) -> str:
    torch.save({**tensors, key: torch.zeros(*tensors[key].shape, 1)}, path)
    return rf"1 shape mismatches \({key} \("


def _add_object(tensors: dict[str, torch.Tensor], key: str, path: Path) -> str:
    torch.save({**tensors, "trained_by": CustomObject()}, path)
    return "may execute code when loaded"


def _truncate(tensors: dict[str, torch.Tensor], key: str, path: Path) -> str:
    torch.save(tensors, path)
    path.write_bytes(path.read_bytes()[:-1000])
    return "is not a valid torch checkpoint"


KINDS: dict[str, Callable[[dict[str, torch.Tensor], str, Path], str]] = {
    "key missing": _remove_key,
    "key added": _add_key,
    "wrong shape": _change_shape,
    "pickled object": _add_object,
    "truncated": _truncate,
}
"""Functions that write a damaged checkpoint and return a pattern that matches the error message."""


def assert_rejected(
    expert: str, kind: str, tensors: dict[str, torch.Tensor], key: str, folder: Path
) -> None:
    """Assert that a checkpoint loads, and that its damaged copy raises a one-line `UserError`."""
    path = folder / "checkpoint.pth"
    torch.save(tensors, path)
    experts.load_expert(expert, str(path))
    expected = KINDS[kind](tensors, key, path)
    with pytest.raises(UserError, match=expected) as caught:
        experts.load_expert(expert, str(path))
    message = str(caught.value)
    assert message.startswith(str(path))
    assert message.endswith(".")
    assert "\n" not in message


def assert_index_rejected(
    expert: str,
    model: type[nn.Module],
    tensors: dict[str, torch.Tensor],
    key: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Assert that a key with a large layer index is rejected before a model is allocated.

    Args:
        expert: Name of the expert.
        model: Class of its model.
        tensors: A checkpoint with two layers.
        key: Key of a layer with a large index.
        folder: Folder for the checkpoint.
        monkeypatch: Replaces `model` in its module.
    """
    built = []

    def build(**sizes: int) -> nn.Module:
        built.append((torch.get_default_device().type, sizes["layers"]))
        return model(**sizes)

    monkeypatch.setattr(f"{model.__module__}.{model.__name__}", build)
    path = folder / "checkpoint.pth"
    torch.save({**tensors, key: torch.zeros(1)}, path)
    with pytest.raises(UserError, match=rf"unexpected keys \({key}\)"):
        experts.load_expert(expert, str(path))
    assert built == [("meta", 3)]
