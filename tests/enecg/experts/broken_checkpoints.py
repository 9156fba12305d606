"""A checkpoint spoiled in every way that a download or a wrong file can spoil it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from enecg import experts
from enecg.errors import UserError


class Anything:
    """An object that only its own code can read back."""


def _missing(tensors: dict[str, torch.Tensor], key: str, path: Path) -> str:
    torch.save({name: tensor for name, tensor in tensors.items() if name != key}, path)
    return rf"1 keys missing \({key}\)"


def _added(tensors: dict[str, torch.Tensor], key: str, path: Path) -> str:
    torch.save({**tensors, "some.other.weight": torch.zeros(1)}, path)
    return r"1 keys unexpected \(some\.other\.weight\)"


def _misshapen(tensors: dict[str, torch.Tensor], key: str, path: Path) -> str:
    torch.save({**tensors, key: torch.zeros(*tensors[key].shape, 1)}, path)
    return rf"1 of another shape \({key} \("


def _pickled(tensors: dict[str, torch.Tensor], key: str, path: Path) -> str:
    torch.save({**tensors, "trained_by": Anything()}, path)
    return "would run code to be read"


def _truncated(tensors: dict[str, torch.Tensor], key: str, path: Path) -> str:
    torch.save(tensors, path)
    path.write_bytes(path.read_bytes()[:-1000])
    return "is no whole torch checkpoint"


KINDS: dict[str, Callable[[dict[str, torch.Tensor], str, Path], str]] = {
    "key missing": _missing,
    "key added": _added,
    "wrong shape": _misshapen,
    "pickled object": _pickled,
    "truncated": _truncated,
}


def assert_refused(
    expert: str, kind: str, tensors: dict[str, torch.Tensor], key: str, folder: Path
) -> None:
    """Spoil a good checkpoint at `key`, and see it refused by name, in one line, for that."""
    path = folder / "checkpoint.pth"
    torch.save(tensors, path)
    experts.load_expert(expert, str(path))
    sentence = KINDS[kind](tensors, key, path)
    with pytest.raises(UserError, match=sentence) as told:
        experts.load_expert(expert, str(path))
    assert str(told.value).startswith(str(path))
    assert str(told.value).endswith(".")
    assert "\n" not in str(told.value)
