"""Checkpoint files: read without running code, loaded without a key left over, told by SHA-256."""

import hashlib
import json
import os
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from enecg.errors import UserError


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint, from safetensors or a torch file that holds nothing but them.

    Raises UserError for a file that is damaged, or that would run code to be read.
    """
    if path.suffix != ".safetensors":
        tensors = read_torch_file(path, remedy="save its state_dict alone, best as safetensors")
    else:
        try:
            return load_file(path)
        except SafetensorError as error:
            raise UserError(
                f"{path} is no whole safetensors file ({error}); fetch it anew."
            ) from error
    if isinstance(tensors, dict) and isinstance(tensors.get("state_dict"), dict):
        tensors = tensors["state_dict"]
    if not isinstance(tensors, dict) or not all(isinstance(t, Tensor) for t in tensors.values()):
        raise UserError(f"{path} holds no state_dict; save the model's state_dict in it.")
    return tensors


def read_torch_file(path: Path, *, remedy: str, safe_types: Sequence[Any] = ()) -> Any:
    """What a torch file holds: tensors in plain containers, and types named in `safe_types`.

    `remedy` tells what to do about a file that holds more; `safe_types` is in the form that
    `torch.serialization.safe_globals` takes.
    Raises UserError for a file that is damaged, or that would run code to be read.
    """
    try:
        with torch.serialization.safe_globals(list(safe_types)):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} holds more than tensors and would run code to be read, so it is refused; "
            f"{remedy}."
        ) from error
    except Exception as error:  # torch's reader meets damage with whatever error comes first
        raise UserError(
            f"{path} is no whole torch checkpoint ({type(error).__name__}: {error}); fetch it anew."
        ) from error


def load_strict(
    model: nn.Module,
    tensors: dict[str, Tensor],
    path: Path,
    unused: Sequence[str] = (),
    published_name: Callable[[str], str] = str,
) -> None:
    """Load tensors into a model, every one of them, and no other.

    `unused` are the prefixes of keys that the published model has and its embedding does not need;
    `published_name` gives a checkpoint's name for one of the model's own keys.
    Raises UserError naming the first missing, unexpected or misshapen keys, as in the checkpoint.
    """
    own = model.state_dict()
    own_keys = {published_name(key): key for key in own}
    wanted = {name: own[key] for name, key in own_keys.items()}
    given = {k: v for k, v in tensors.items() if not k.startswith(tuple(unused))}
    missing = sorted(wanted.keys() - given.keys())
    unexpected = sorted(given.keys() - wanted.keys())
    misshapen = sorted(
        f"{key} {tuple(given[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in wanted.keys() & given.keys()
        if wanted[key].shape != given[key].shape
    )
    faults = [
        f"{len(keys)} {kind} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
        for kind, keys in (
            ("keys missing", missing),
            ("keys unexpected", unexpected),
            ("of another shape", misshapen),
        )
        if keys
    ]
    if faults:
        raise UserError(f"{path} does not fit {type(model).__name__}: {'; '.join(faults)}.")
    model.load_state_dict({own_keys[name]: tensor for name, tensor in given.items()})


def model_sha256(model: nn.Module) -> str:
    """SHA-256 of a model's parameters and buffers: names, dtypes, shapes and bytes, by name."""
    sha = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        sha.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal. Computed once and remembered while the file is unchanged."""
    whole = path.resolve()
    status = whole.stat()
    mark = [status.st_size, status.st_mtime_ns]
    remembered = _remembered()
    known = remembered.get(str(whole))
    if known is not None and known[:2] == mark:
        return str(known[2])
    with whole.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    _remember({**_remembered(), str(whole): [*mark, sha256]})
    return sha256


def _memory() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "enecg" / "sha256.json"


def _remembered() -> dict[str, list[Any]]:
    try:
        remembered = json.loads(_memory().read_text())
    except (OSError, ValueError):
        return {}
    return remembered if isinstance(remembered, dict) else {}


def _remember(known: dict[str, list[Any]]) -> None:
    file = _memory()
    aside = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(json.dumps(known))
        aside.replace(file)
    except OSError:
        # A home that cannot be written costs only the time to compute it again.
        return
