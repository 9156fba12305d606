"""Reuse of freed memory by the allocator of the C library."""

from functools import cache

import torch

_BLOCK_BYTES = 31 << 20
"""Less than 32 MiB, the largest block for which glibc adapts its thresholds on 64-bit systems."""


@cache
def keep_freed_memory() -> None:
    """Make glibc reuse freed memory instead of returning it to the system.

    Otherwise, batches of ECGs are allocated from new pages each time, and page faults take up to a
    fourth of the CPU time of an extraction with DLinear.

    When glibc frees a block that was allocated with ``mmap``, it allocates later blocks of up to
    the size of that block on the heap, and keeps up to twice that size free at the end of the heap
    (``M_MMAP_THRESHOLD`` in ``man mallopt``). Other allocators are not affected.
    """
    torch.empty(_BLOCK_BYTES, dtype=torch.uint8)
