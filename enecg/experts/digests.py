"""SHA-256 digests of models and of checkpoint files."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from torch import nn

SMALL_FILE_BYTES = 64 << 20
"""Maximum size of a file whose digest is always recomputed, which takes a fraction of a second."""


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
    is_cached = status.st_size > SMALL_FILE_BYTES
    cached = _read_cache().get(str(resolved)) if is_cached else None
    if isinstance(cached, list) and cached[:-1] == stamp:
        return str(cached[-1])
    with resolved.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if is_cached:
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
        # Without a writable cache directory, the digest is recomputed on the next call.
        return
