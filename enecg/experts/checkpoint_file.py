"""Checkpoint files: detection of the format from the content, reading without executing code."""

import pickle
import re
import zipfile
from argparse import Namespace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from enecg.errors import UserError

_TORCH_MAGIC = b"l\xfc\x9cF\xf9 j\xa8P\x19"
"""Pickled magic number at the start of files written by torch before 1.6."""

# The training state in a checkpoint may contain numpy scalars and arrays (scores, the best loss).
# numpy 1 and 2 pickle the same functions under different module names.
_NUMPY_TYPES: tuple[Any, ...] = (
    np.ndarray,
    np.dtype,
    *(type(np.dtype(kind)) for kind in (bool, "i4", "i8", "f4", "f8")),
    *(
        (getattr(np._core.multiarray, name), f"{module}.{name}")
        for name in ("scalar", "_reconstruct")
        for module in ("numpy.core.multiarray", "numpy._core.multiarray")
    ),
)

_UNPACK = "unpack it and pass the checkpoint inside"
_EXPORT = "export the state_dict as safetensors"
_OTHER_FORMATS: tuple[tuple[bytes, str, str], ...] = (
    (
        b"version https://git-lfs",
        "a Git LFS pointer, not the checkpoint itself",
        "run git lfs pull in its repository, or download the file itself",
    ),
    (b"\x1f\x8b", "a gzip archive", _UNPACK),
    (b"BZh", "a bzip2 archive", _UNPACK),
    (b"\xfd7zXZ", "an xz archive", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "a zstd archive", _UNPACK),
    (b"7z\xbc\xaf", "a 7z archive", _UNPACK),
    (b"\x89HDF", "an HDF5 file, such as Keras writes", _EXPORT),
    (b"\x93NUMPY", "a NumPy array", _EXPORT),
    (b"GGUF", "a GGUF file", _EXPORT),
)


def detect_format(path: Path) -> Literal["safetensors", "torch"]:
    """Detect the format of a checkpoint by its content; the file's extension may be wrong.

    Args:
        path: The file.

    Returns:
        The format. The rest of the file may still be damaged.

    Raises:
        UserError: The file is empty, not a regular file, or in another format.
        OSError: The file does not exist or cannot be read.
    """
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is not a regular file; pass the file that contains the weights.")
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        raise UserError(f"{path} is empty; download it again.")
    for magic, kind, remedy in _OTHER_FORMATS:
        if head.startswith(magic):
            raise UserError(f"{path} is {kind}; {remedy}.")
    if head.startswith(b"PK\x03\x04"):
        _check_zip(path)
        return "torch"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**32:
        return "safetensors"
    if head[257:262] == b"ustar":
        raise UserError(f"{path} is a tar archive; {_UNPACK}.")
    if head[:1] == b"\x80":
        if _TORCH_MAGIC in head[:32]:
            return "torch"
        raise UserError(
            f"{path} is a bare Python pickle, which may execute code when loaded; save the "
            "state_dict as safetensors."
        )
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"<"):
        raise UserError(
            f"{path} is a web page (HTML or XML), probably a sign-in or error page, not a "
            "checkpoint; sign in or use the direct link, and download it again."
        )
    if text and all(byte >= 32 or byte in b"\t\r\n" for byte in text):
        start = text.decode(errors="replace").splitlines()[0][:40]
        raise UserError(
            f"{path} is a text file, not a checkpoint (it starts with {start!r}); pass the file "
            "that contains the weights."
        )
    kind = "safetensors file" if path.suffix == ".safetensors" else "torch checkpoint"
    raise UserError(f"{path} is not a valid {kind}; download it again.")


def _check_zip(path: Path) -> None:
    """Raise UserError for a zip archive in another format; `torch.load` reports damaged ones."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            # torch.save does not compress. A small compressed file could expand to fill the memory.
            compressed = [part for part in archive.infolist() if part.compress_type]
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError):
        return
    parts = {name.partition("/")[2] for name in names} | set(names)
    if "constants.pkl" in parts:
        raise UserError(
            f"{path} is a TorchScript archive, which contains code; save the state_dict of "
            "torch.jit.load(...) as safetensors."
        )
    if names and all(name.endswith(".npy") for name in names):
        raise UserError(f"{path} is a NumPy archive (npz); {_EXPORT}.")
    if "data.pkl" not in parts:
        raise UserError(
            f"{path} is a zip archive that torch.save did not write (it contains "
            f"{', '.join(names[:3]) or 'no files'}); {_UNPACK}."
        )
    if compressed:
        raise UserError(
            f"{path} is a compressed zip archive, which torch.save does not write; download the "
            "original file, or repack it without compression."
        )


def read_torch_file(path: Path, *, remedy: str) -> Any:
    """Read a torch file without executing code.

    Tensors, plain containers, `argparse.Namespace`, and numpy arrays and scalars are supported.

    Args:
        path: A file written by `torch.save`.
        remedy: Remedy for a file that contains other objects, for the error message.

    Returns:
        The contents, tensors on the CPU.

    Raises:
        UserError: The file is unreadable or damaged, or contains objects that may execute code when
            loaded.
    """
    try:
        # An open file, because torch.load selects the format by the extension of a path.
        with (
            path.open("rb") as file,
            torch.serialization.safe_globals([Namespace, *_NUMPY_TYPES]),
        ):
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        of_type = f" (of type {found[1]})" if found else ""
        raise UserError(
            f"{path} contains objects other than tensors{of_type}, which may execute code when "
            f"loaded, or is damaged; {remedy}."
        ) from error
    except Exception as error:  # torch raises many exception types for damaged files
        reason = (str(error).splitlines() or [""])[0].rstrip(".")
        raise UserError(
            f"{path} is not a valid torch checkpoint ({type(error).__name__}: {reason}); "
            "download it again."
        ) from error
