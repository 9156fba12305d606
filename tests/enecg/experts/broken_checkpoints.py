"""Damaged checkpoints, as they result from interrupted downloads or other models."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

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
