"""Checkpoints: state dicts and their wrappers, and strict loading."""

import json
import logging
import re
from argparse import Namespace
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from enecg.errors import UserError
from enecg.experts.checkpoint_file import detect_format, read_torch_file

Model = TypeVar("Model", bound=nn.Module)

_STATE_DICTS = ("state_dict", "model_state_dict", "model", "module", "net")
"""Keys under which training code saves a state dict."""

_CONFIGS = ("args", "hyper_parameters", "hparams", "config", "configs", "cfg")
"""Keys under which training code saves hyperparameters."""

_WRAPPERS = re.compile(r"_(orig_mod|fsdp_wrapped_module|checkpoint_wrapped_module)\.")
"""Names that torch.compile, FSDP and activation checkpointing insert anywhere in a key."""

_PREFIXES = ("module.", "model.")
"""Names that DataParallel and Lightning put before every key."""

MAX_CONFIG_BYTES = 1 << 20

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """The contents of a checkpoint.

    Attributes:
        tensors: The tensors by key, without the names that wrappers add to keys.
        config: Hyperparameters that training code saved with the tensors, or the metadata of a
            safetensors file (strings); empty if there are none.
    """

    tensors: dict[str, Tensor]
    config: Mapping[str, Any]


def open_checkpoint(path: Path, key: str | None = None) -> Checkpoint:
    """Read a checkpoint.

    Args:
        path: A safetensors file, or a torch file that contains a state dict, directly or under
            a usual key such as `state_dict` or `model`.
        key: Key under which the original implementation saves the state dict; takes precedence
            over the usual keys. None: only the usual keys.

    Returns:
        The tensors and hyperparameters.

    Raises:
        UserError: The file is damaged or in another format, contains no state dict or several, or
            would execute code.
        OSError: The file does not exist or cannot be read.
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
    state = _find_state_dict(contents, path, key)
    config: dict[str, Any] = {}
    if not _is_state_dict(contents):
        for name in _CONFIGS:
            saved = contents.get(name)
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


def _find_state_dict(contents: Any, path: Path, key: str | None) -> dict[str, Tensor]:
    if _is_state_dict(contents):
        return dict(contents)
    known = (key, *_STATE_DICTS) if key else _STATE_DICTS
    expected = f"the state_dict itself, or one under the key {', '.join(known[:-1])} or {known[-1]}"
    if not isinstance(contents, dict):
        raise UserError(
            f"{path} contains a {type(contents).__name__} instead of a state_dict; save {expected}."
        )
    found = [name for name in known if _is_state_dict(contents.get(name))]
    if len(found) > 1 and found[0] != key:
        raise UserError(
            f"{path} contains several state_dicts ({', '.join(found)}); save only the model's."
        )
    if not found:
        keys = ", ".join(map(str, list(contents)[:5])) or "none"
        raise UserError(f"{path} contains no state_dict (its keys: {keys}); save {expected}.")
    return dict(contents[found[0]])


def _all_start_with(prefix: str, keys: Collection[str]) -> bool:
    return bool(keys) and all(key.startswith(prefix) for key in keys)


def remove_wrappers(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Remove the names that wrappers such as DataParallel add to keys, and log them.

    Args:
        tensors: Tensors by key.
        path: The checkpoint, for the log line.

    Returns:
        Tensors by the keys of the wrapped model; `tensors` itself if two keys would become equal.
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
        UserError: The file is missing, unreadable, too large, or contains no JSON object.
    """
    if path.exists() and (not path.is_file() or path.stat().st_size > MAX_CONFIG_BYTES):
        raise UserError(
            f"{path} is not a regular file of at most {MAX_CONFIG_BYTES} bytes; download it again."
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); change its permissions, or download it "
            "again."
        ) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON ({error}); download it again.") from error
    if not isinstance(config, dict):
        raise UserError(
            f"{path} contains {json.dumps(config)[:40]} instead of a JSON object with the model's "
            "settings; download it again, or remove it to use the published settings."
        )
    return config


def check_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Check that no tensor contains NaN or infinity.

    Args:
        tensors: Tensors by the checkpoint's keys.
        path: The checkpoint, for the error message.

    Raises:
        UserError: A tensor contains NaN or infinity. The message names the first three.
    """
    bad = sorted(key for key, tensor in tensors.items() if not tensor.isfinite().all())
    if bad:
        names = f"{', '.join(bad[:3])}{', ...' if len(bad) > 3 else ''}"
        raise UserError(
            f"{path}: {len(bad)} of {len(tensors)} tensors contain NaN or infinity ({names}); use "
            "a checkpoint from before the training diverged."
        )


def match_keys(
    model: nn.Module,
    tensors: dict[str, Tensor],
    path: Path,
    unused: Sequence[str] = (),
    published_name: Callable[[str], str] = str,
) -> dict[str, Tensor]:
    """Return a checkpoint's tensors by the keys of a model, requiring that all keys match.

    Args:
        model: The model, which may be on the meta device.
        tensors: The checkpoint's tensors by key.
        path: The checkpoint, for error messages.
        unused: Prefixes of checkpoint keys that the embedding does not need.
        published_name: Maps a key of the model's state dict to the checkpoint's key.

    Returns:
        The tensors, in the model's data types.

    Raises:
        UserError: Keys are missing or unexpected, or shapes differ. The message contains the first
            three checkpoint keys of each.
    """
    own = model.state_dict()
    own_keys = {published_name(key): key for key in own}
    expected = {name: own[key] for name, key in own_keys.items()}
    for prefix in _PREFIXES:
        # `remove_wrappers` also removes a prefix that is part of the model's own keys; restore it.
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
        raise UserError(
            f"{path} does not fit {type(model).__name__}: {', '.join(problems)}; use a checkpoint "
            "of this model."
        )
    return {own_keys[name]: tensor.to(expected[name].dtype) for name, tensor in given.items()}


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
            message contains the first three checkpoint keys of each.
    """
    given = match_keys(model, tensors, path, unused, published_name)
    # Checked after the conversion, because values may exceed the range of the model's data type.
    check_finite({published_name(key): tensor for key, tensor in given.items()}, path)
    model.load_state_dict(given)


def build_strict(
    make: Callable[[], Model], tensors: dict[str, Tensor], path: Path, unused: Sequence[str] = ()
) -> Model:
    """Build a model whose sizes were inferred from a checkpoint, and load the checkpoint.

    Keys and shapes are compared before the model is allocated, so that sizes inferred from a
    damaged checkpoint cannot exhaust the memory.

    Args:
        make: Builds the model; called twice, first with the meta device as default.
        tensors: The checkpoint's tensors by key.
        path: The checkpoint, for error messages.
        unused: Prefixes of checkpoint keys that the embedding does not need.

    Returns:
        The model with the checkpoint's tensors.

    Raises:
        UserError: The checkpoint does not fit; see `load_strict`.
    """
    with torch.device("meta"):
        match_keys(make(), tensors, path, unused)
    model = make()
    load_strict(model, tensors, path, unused)
    return model
