"""Tensors in memory-mapped temporary files."""

import errno
import os
from pathlib import Path

import pytest
import torch

from enecg.errors import UserError
from pipeline.training.mapped_tensor import MappedTensor

CPU = torch.device("cpu")


def test_rows_are_the_same_in_memory_and_in_a_file():
    values = torch.randn(2, 3000, 4, 25)
    rows = torch.randint(3000, (2, 64))
    groups = torch.arange(2).unsqueeze(1)
    for max_bytes in (1 << 30, 10_000):
        mapped = MappedTensor(values.shape, values.dtype, CPU, max_bytes)
        for start in range(0, 3000, 500):
            part = values[:, start : start + 500]
            mapped.tensor[:, start : start + 500] = part
            mapped.count(part)
        for _ in range(20):
            assert torch.equal(mapped.take((groups, rows)), values[groups, rows])


def resident_file_bytes() -> int:
    """Return the size of the pages of mapped files that are in memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("RssFile"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_pages_of_a_file_are_dropped_from_memory():
    size, limit = 1 << 26, 1 << 22
    before = resident_file_bytes()
    mapped = MappedTensor((size // 4096, 1024), torch.float32, CPU, limit)
    for part in mapped.tensor.split(256):
        part.fill_(1)
        mapped.count(part)
    assert resident_file_bytes() - before < size // 4
    assert mapped.tensor.sum() == size // 4
    assert resident_file_bytes() - before > size // 2, "the file is not mapped"


@pytest.mark.parametrize(
    "function", ["os.posix_fallocate", "mmap.mmap", "tempfile.TemporaryFile", "tempfile.gettempdir"]
)
def test_full_disk_is_a_user_error(function: str, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(function, fail, raising=False)
    with pytest.raises(UserError, match=r"cannot allocate a temporary file .* set TMPDIR"):
        MappedTensor((1000, 1000), torch.float32, CPU, 1000)
