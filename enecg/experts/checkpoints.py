"""Checkpoint files: reading without executing code, strict loading, and SHA-256 digests."""

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
    """Read the tensors of a checkpoint.

    Args:
        path: A safetensors file, or a torch file that contains a state dict, directly or under
            the key `state_dict`.

    Returns:
        The tensors by key.

    Raises:
        UserError: The file is damaged, contains no state dict, or would execute code.
    """
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise UserError(
                f"{path} is not a valid safetensors file ({error}); download it again."
            ) from error
    tensors = read_torch_file(path, remedy="save only its state_dict, preferably as safetensors")
    if isinstance(tensors, dict) and isinstance(tensors.get("state_dict"), dict):
        tensors = tensors["state_dict"]
    if not isinstance(tensors, dict) or not all(isinstance(t, Tensor) for t in tensors.values()):
        raise UserError(f"{path} contains no state_dict; save the model's state_dict in it.")
    return tensors


def read_torch_file(path: Path, *, remedy: str, safe_types: Sequence[Any] = ()) -> Any:
    """Read a torch file without executing code.

    Args:
        path: A file written by `torch.save`.
        remedy: What to do about a file that contains other objects, for the error message.
        safe_types: Types allowed besides tensors and plain containers, as
            `torch.serialization.safe_globals` takes them.

    Returns:
        The contents, tensors on the CPU.

    Raises:
        UserError: The file is damaged, or would execute code.
    """
    try:
        with torch.serialization.safe_globals(list(safe_types)):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} contains objects other than tensors and would execute code when loaded; "
            f"{remedy}."
        ) from error
    except Exception as error:  # torch raises many exception types for damaged files
        raise UserError(
            f"{path} is not a valid torch checkpoint ({type(error).__name__}: {error}); "
            "download it again."
        ) from error


def load_strict(
    model: nn.Module,
    tensors: dict[str, Tensor],
    path: Path,
    unused: Sequence[str] = (),
    published_name: Callable[[str], str] = str,
) -> None:
    """Load a checkpoint's tensors into a model, requiring that all keys match.

    Args:
        model: The model, modified in place.
        tensors: The checkpoint's tensors by key.
        path: The checkpoint, for error messages.
        unused: Prefixes of checkpoint keys that the embedding does not need.
        published_name: Maps a key of the model's state dict to the checkpoint's key.

    Raises:
        UserError: Keys are missing or unexpected, or shapes differ. The message names the first
            of each, as in the checkpoint.
    """
    own = model.state_dict()
    own_keys = {published_name(key): key for key in own}
    expected = {name: own[key] for name, key in own_keys.items()}
    given = {k: v for k, v in tensors.items() if not k.startswith(tuple(unused))}
    missing = sorted(expected.keys() - given.keys())
    unexpected = sorted(given.keys() - expected.keys())
    mismatched = sorted(
        f"{key} {tuple(given[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in expected.keys() & given.keys()
        if expected[key].shape != given[key].shape
    )
    problems = [
        f"{len(keys)} {kind} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
        for kind, keys in (
            ("missing keys", missing),
            ("unexpected keys", unexpected),
            ("shape mismatches", mismatched),
        )
        if keys
    ]
    if problems:
        raise UserError(f"{path} does not fit {type(model).__name__}: {'; '.join(problems)}.")
    model.load_state_dict({own_keys[name]: tensor for name, tensor in given.items()})


def model_sha256(model: nn.Module) -> str:
    """Compute the SHA-256 of a model's state dict: names, dtypes, shapes and bytes, by name."""
    sha = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        sha.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()


def file_sha256(path: Path) -> str:
    """Compute the SHA-256 of a file, hexadecimal; cached until size or modification time change."""
    resolved = path.resolve()
    status = resolved.stat()
    stamp = [status.st_size, status.st_mtime_ns]
    cached = _read_cache().get(str(resolved))
    if cached is not None and cached[:2] == stamp:
        return str(cached[2])
    with resolved.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    _write_cache({**_read_cache(), str(resolved): [*stamp, sha256]})
    return sha256


def _cache_file() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "enecg" / "sha256.json"


def _read_cache() -> dict[str, list[Any]]:
    try:
        cache = json.loads(_cache_file().read_text())
    except (OSError, ValueError):
        return {}
    return cache if isinstance(cache, dict) else {}


def _write_cache(cache: dict[str, list[Any]]) -> None:
    file = _cache_file()
    temporary = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(cache))
        temporary.replace(file)
    except OSError:
        # Without a writable cache directory, the digest is computed again next time.
        return
