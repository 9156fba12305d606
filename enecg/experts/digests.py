"""SHA-256 digests of models and of checkpoint files."""

import hashlib
import json
import os
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

SMALL_FILE_BYTES = 64 << 20
"""Maximum size of a file whose digest is always recomputed, which takes a fraction of a second."""


def model_sha256(model: "nn.Module") -> str:
    """Compute the hexadecimal SHA-256 of a state dict: names, dtypes, shapes and values."""
    sha = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        sha.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()


def file_sha256(path: Path) -> str:
    """Compute the hexadecimal SHA-256 of a file.

    The digest of a file larger than `SMALL_FILE_BYTES` is cached below `XDG_CACHE_HOME` (default:
    `~/.cache`) until the file's size, inode, modification time or status change time (ctime)
    changes. A user can restore the modification time, but not the ctime.

    Args:
        path: The file.

    Returns:
        The digest.

    Raises:
        OSError: The file cannot be read.
    """
    resolved = path.resolve()
    status = resolved.stat()
    stamp = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
    if status.st_size <= SMALL_FILE_BYTES:
        return _compute_sha256(resolved)
    cache = _cache_file(resolved)
    cached = _read_cache(cache)
    if cached[:-1] == [str(resolved), *stamp]:
        return str(cached[-1])
    sha256 = _compute_sha256(resolved)
    _write_cache(cache, [str(resolved), *stamp, sha256])
    return sha256


def _compute_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _cache_file(path: Path) -> Path:
    """Return the cache file of a path; each has its own, because processes write concurrently."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    name = hashlib.sha256(os.fsencode(path)).hexdigest()
    return Path(base) / "enecg" / "sha256" / f"{name[:32]}.json"


def _read_cache(file: Path) -> list[Any]:
    try:
        cached = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return cached if isinstance(cached, list) else []


def _write_cache(file: Path, values: list[Any]) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(
            "w", dir=file.parent, suffix=".part", delete=False, encoding="utf-8"
        ) as temporary:
            json.dump(values, temporary)
        Path(temporary.name).replace(file)
    except OSError:
        # Without a writable cache directory, the digest is recomputed on the next call.
        return
