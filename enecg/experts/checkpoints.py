"""Checkpoints: state dicts and their wrappers, strict loading, and SHA-256 digests."""

import hashlib
import json
import logging
import os
import re
from argparse import Namespace
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from enecg.errors import UserError
from enecg.experts.checkpoint_file import detect_format, read_torch_file

_STATE_DICTS = ("state_dict", "model_state_dict", "model", "module", "net")
"""Keys under which training code saves a state dict."""

_CONFIGS = ("args", "hyper_parameters", "hparams", "config", "configs", "cfg")
"""Keys under which training code saves hyperparameters."""

_WRAPPERS = re.compile(r"_(orig_mod|fsdp_wrapped_module|checkpoint_wrapped_module)\.")
"""Names that torch.compile, FSDP and activation checkpointing insert anywhere in a key."""

_PREFIXES = ("module.", "model.")
"""Names that DataParallel and Lightning put before every key."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """The contents of a checkpoint.

    Attributes:
        tensors: The tensors by key, without the prefixes of wrappers.
        config: Hyperparameters that training code saved with them; empty if there are none.
    """

    tensors: dict[str, Tensor]
    config: Mapping[str, Any]


def open_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Args:
        path: A safetensors file, or a torch file that contains a state dict, directly or under
            a usual key such as `state_dict` or `model`.

    Returns:
        Its tensors and hyperparameters.

    Raises:
        UserError: The file is damaged, contains no state dict, or would execute code.
    """
    if detect_format(path) == "safetensors":
        try:
            with safe_open(path, "pt") as file:
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
                metadata = file.metadata() or {}
        except SafetensorError as error:
            raise UserError(
                f"{path} is not a valid safetensors file ({error}); download it again."
            ) from error
        return Checkpoint(remove_wrappers(tensors, path), metadata)
    contents = read_torch_file(path, remedy="save only its state_dict, preferably as safetensors")
    state = _find_state_dict(contents, path)
    config: dict[str, Any] = {}
    if not _is_state_dict(contents):
        for key in _CONFIGS:
            saved = contents.get(key)
            saved = vars(saved) if isinstance(saved, Namespace) else saved
            config |= saved if isinstance(saved, Mapping) else {}
    return Checkpoint(remove_wrappers(state, path), config)


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint, by key; see `open_checkpoint`."""
    return open_checkpoint(path).tensors


def _is_state_dict(value: object) -> bool:
    return (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(key, str) for key in value)
        and all(isinstance(tensor, Tensor) for tensor in value.values())
    )


def _find_state_dict(contents: Any, path: Path) -> dict[str, Tensor]:
    if _is_state_dict(contents):
        return dict(contents)
    expected = f"the state_dict itself, or one under the key {', '.join(_STATE_DICTS[:-1])} or net"
    if not isinstance(contents, dict):
        raise UserError(
            f"{path} contains a {type(contents).__name__} instead of a state_dict; save {expected}."
        )
    found = [key for key in _STATE_DICTS if _is_state_dict(contents.get(key))]
    if len(found) > 1:
        raise UserError(
            f"{path} contains several state_dicts ({', '.join(found)}); save the model's alone."
        )
    if not found:
        keys = ", ".join(map(str, list(contents)[:5])) or "none"
        raise UserError(f"{path} contains no state_dict (its keys: {keys}); save {expected}.")
    return dict(contents[found[0]])


def _all_start_with(prefix: str, keys: Collection[str]) -> bool:
    return bool(keys) and all(key.startswith(prefix) for key in keys)


def remove_wrappers(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Remove the prefixes that wrappers such as DataParallel add to keys, and log them.

    Args:
        tensors: Tensors by key.
        path: The checkpoint, for the log line.

    Returns:
        Tensors by the keys of the wrapped model.
    """
    removed = [found[0] for key in tensors if (found := _WRAPPERS.search(key))]
    renamed = {_WRAPPERS.sub("", key): tensor for key, tensor in tensors.items()}
    while prefix := next((p for p in _PREFIXES if _all_start_with(p, renamed)), None):
        renamed = {key.removeprefix(prefix): tensor for key, tensor in renamed.items()}
        removed.append(prefix)
    if not removed or len(renamed) < len(tensors):
        return tensors
    names = " and ".join(dict.fromkeys(removed))
    _log.info("%s: removed %s from the keys of %d tensors.", path, names, len(tensors))
    return renamed


def read_config(path: Path) -> dict[str, Any]:
    """Read a config.json.

    Args:
        path: The file.

    Returns:
        Its values by key.

    Raises:
        UserError: The file is unreadable or contains no JSON object.
    """
    if path.exists() and (not path.is_file() or path.stat().st_size > MAX_CONFIG_BYTES):
        raise UserError(f"{path} is not a regular file or too large; download it again.")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON ({error}); download it again.") from error
    if not isinstance(config, dict):
        raise UserError(
            f"{path} contains {json.dumps(config)[:40]} instead of a JSON object with the model's "
            "settings; download it again, or remove it to use the published settings."
        )
    return config


def check_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raise UserError if a tensor contains NaN or infinity.

    Args:
        tensors: Tensors by the checkpoint's keys.
        path: The checkpoint, for the error message.

    Raises:
        UserError: The message names the first such tensor.
    """
    bad = sorted(key for key, tensor in tensors.items() if not tensor.isfinite().all())
    if bad:
        names = f"{', '.join(bad[:3])}{', ...' if len(bad) > 3 else ''}"
        raise UserError(
            f"{path}: {len(bad)} of {len(tensors)} tensors contain NaN or infinity ({names}); use "
            "a checkpoint from before the training diverged."
        )


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
        UserError: Keys are missing or unexpected, shapes differ, or values are not finite. The
            message names the first of each, as in the checkpoint.
    """
    own = model.state_dict()
    own_keys = {published_name(key): key for key in own}
    expected = {name: own[key] for name, key in own_keys.items()}
    for prefix in _PREFIXES:
        # `remove_wrappers` also removes a prefix that is part of the model's own keys.
        if _all_start_with(prefix, expected) and not expected.keys() & tensors.keys():
            tensors = {prefix + name: tensor for name, tensor in tensors.items()}
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
    # Values may also exceed the range of the model's data type.
    given = {name: tensor.to(expected[name].dtype) for name, tensor in given.items()}
    check_finite(given, path)
    model.load_state_dict({own_keys[name]: tensor for name, tensor in given.items()})


MAX_CONFIG_BYTES = 1 << 20
SMALL_FILE_BYTES = 64 << 20
"""Size up to which the digest of a file is always computed, in a fraction of a second."""


def model_sha256(model: nn.Module) -> str:
    """Compute the SHA-256 of a model's state dict: names, dtypes, shapes and bytes, by name."""
    sha = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        sha.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()


def file_sha256(path: Path) -> str:
    """Compute the SHA-256 of a file, hexadecimal.

    The digest of a large file is cached until its size, inode, or time of modification or of status
    change differs. A user can restore the time of modification, but not that of the status change.

    Args:
        path: The file.

    Returns:
        The digest.
    """
    resolved = path.resolve()
    status = resolved.stat()
    stamp = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
    cached = _read_cache().get(str(resolved)) if status.st_size > SMALL_FILE_BYTES else None
    if isinstance(cached, list) and cached[:-1] == stamp:
        return str(cached[-1])
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
