"""Batch sizes that adapt to the speed and the memory of a device."""

import logging
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from enecg.errors import UserError
from enecg.experts import Expert
from pipeline.extraction.batch_size import FIRST, GROWTH, SECONDS, BatchSize


class SmallDevice:
    """An expert on a device whose memory holds `capacity` ECGs."""

    spec = SimpleNamespace(name="large")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.batches: list[int] = []

    def embed(self, ecg: torch.Tensor) -> torch.Tensor:
        if len(ecg) > self.capacity:
            raise torch.OutOfMemoryError
        self.batches.append(len(ecg))
        return ecg.mean(-1)


def embed(batch_size: BatchSize, expert: SmallDevice, ecg: torch.Tensor) -> Any:
    return batch_size.embed(cast(Expert, expert), ecg)


def test_batches_of_a_fast_expert_grow_to_the_maximum():
    batch_size = BatchSize(None, "cpu")
    sizes = []
    for _ in range(4):
        sizes.append(batch_size.size)
        batch_size.update(batch_size.size, seconds=0.001)
    assert sizes == [FIRST, FIRST * GROWTH, 64, 64]


@pytest.mark.parametrize(("seconds", "expected"), [(0.5, 4), (5.0, 1), (0.1, 16)])
def test_batch_takes_at_most_the_target_time_or_has_one_ecg(seconds: float, expected: int):
    batch_size = BatchSize(None, "cpu")
    batch_size.update(FIRST, seconds * FIRST)
    assert batch_size.size == expected
    assert expected == 1 or expected * seconds <= SECONDS


def test_fixed_size_does_not_change():
    batch_size = BatchSize(48, "cpu")
    batch_size.update(48, seconds=100.0)
    assert batch_size.size == batch_size.maximum == 48


@pytest.mark.parametrize("fixed", [None, 16])
def test_batch_that_does_not_fit_is_halved(fixed: int | None, caplog: pytest.LogCaptureFixture):
    ecg = torch.randn(16, 12, 5000)
    expert, batch_size = SmallDevice(5), BatchSize(fixed, "cpu")
    with caplog.at_level(logging.INFO):
        found = embed(batch_size, expert, ecg)
    torch.testing.assert_close(torch.from_numpy(found), ecg.mean(-1), rtol=0, atol=0)
    assert expert.batches == [4] * 4
    assert batch_size.size <= batch_size.maximum == 4
    assert "large ran out of memory on cpu with 8 ECGs per batch; continuing with 4." in caplog.text


def test_ecg_that_does_not_fit_is_a_user_error():
    with pytest.raises(UserError, match="large ran out of memory on cpu with a single ECG"):
        embed(BatchSize(None, "cpu"), SmallDevice(0), torch.randn(3, 12, 5000))
