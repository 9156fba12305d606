"""Large tensors in memory, or in memory-mapped temporary files above a limit."""

import math
import mmap
import os
import tempfile
from collections.abc import Sequence

import torch
from torch import Tensor

from enecg.errors import UserError


class MappedTensor:
    """A tensor in memory or, if it is large, in a memory-mapped temporary file.

    Access to the tensor loads pages of the file into memory. `count` adds up the bytes that were
    read or written. When the sum exceeds `max_bytes`, all pages are dropped from the memory of the
    process.

    Args:
        shape: Shape of the tensor.
        dtype: Data type.
        device: Device. Only tensors on a CPU are written to a file.
        max_bytes: Size of the largest tensor to keep in memory, and number of bytes that may be
            read or written before the pages of a file are dropped.

    Attributes:
        tensor: The tensor. Its values are arbitrary until they are written.

    Raises:
        UserError: The temporary file cannot be allocated.
    """

    def __init__(
        self, shape: Sequence[int], dtype: torch.dtype, device: torch.device, max_bytes: int
    ) -> None:
        self._max_bytes = max_bytes
        self._row_bytes = dtype.itemsize * shape[-1]
        self._accessed_bytes = 0
        size = dtype.itemsize * math.prod(shape)
        self._pages = None
        if device.type != "cpu" or size <= max_bytes:
            self.tensor = torch.empty(tuple(shape), dtype=dtype, device=device)
            return
        self._pages = _map_temporary_file(size)
        self.tensor = torch.frombuffer(self._pages, dtype=dtype).view(*shape)

    def take(self, index: tuple[Tensor, ...]) -> Tensor:
        """Return a copy of the rows that `index` selects along the leading axes."""
        taken = self.tensor[index]
        self.count(taken)
        return taken

    def count(self, part: Tensor) -> None:
        """Count the bytes of a part that was read or written; above the limit, drop all pages."""
        if self._pages is None:
            return
        # Add one page per row, because random rows are on different pages. This overestimates
        # contiguous accesses.
        rows = part.numel() * part.element_size() // max(1, self._row_bytes)
        self._accessed_bytes += rows * (self._row_bytes + mmap.PAGESIZE)
        if self._accessed_bytes > self._max_bytes:
            # No data is lost, because the mapping is shared: changed pages remain in the file.
            self._pages.madvise(mmap.MADV_DONTNEED)
            self._accessed_bytes = 0


def _map_temporary_file(size: int) -> mmap.mmap:
    """Map a new file without a name, which is deleted with the mapping."""
    try:
        with tempfile.TemporaryFile() as file:
            if hasattr(os, "posix_fallocate"):
                # Reserve the space, because a write to a full disk would kill the process.
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
            return mmap.mmap(file.fileno(), size)
    except OSError as error:
        # `tempdir` is None if no temporary folder is writable; the error then lists all candidates.
        raise UserError(
            f"{tempfile.tempdir or 'TMPDIR'}: cannot allocate a temporary file of {size / 1e9:.1f} "
            f"GB ({error.strerror}); set TMPDIR to a folder with enough space, or increase "
            "--memory-limit."
        ) from error
