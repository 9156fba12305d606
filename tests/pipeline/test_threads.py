"""The numbers of threads of an extraction depend on the cores, the data set and the device."""

from threading import Barrier

import numpy as np
import pytest
import torch

from pipeline.datasets.base import recommended_threads
from pipeline.extraction.decoding import decode_batches
from pipeline.extraction.threads import choose_readers, choose_threads, use_threads


@pytest.mark.parametrize(
    ("busy", "workers", "expected"),
    [(0.1, 1, 8), (3.2, 1, 5), (7.9, 1, 1), (8.0, 1, 1), (0.1, 2, 4), (3.9, 2, 2), (0.0, 16, 1)],
)
def test_threads_leave_busy_cores_alone(
    busy: float, workers: int, expected: int, monkeypatch: pytest.MonkeyPatch
):
    # 16 cores, of which this process may use the last 8.
    used = [100.0] * 8 + [100 * min(1, max(0, busy - core)) for core in range(8)]
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8, 16)))
    monkeypatch.setattr("psutil.cpu_percent", lambda *_, **__: used)
    monkeypatch.setattr("torch.get_num_threads", lambda: 8)
    assert choose_threads(None, workers) == expected
    assert choose_threads(3, workers) == 3


def test_load_of_processes_that_have_ended_does_not_count(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr("os.getloadavg", lambda: (8.0, 8.0, 8.0))
    monkeypatch.setattr("psutil.cpu_percent", lambda *_, **__: [0.0] * 8)
    monkeypatch.setattr("torch.get_num_threads", lambda: 8)
    assert choose_threads(None) == 8


def test_number_of_threads_of_the_environment_is_not_exceeded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr("psutil.cpu_percent", lambda *_, **__: [0.0] * 8)
    monkeypatch.setattr("torch.get_num_threads", lambda: 2)
    assert choose_threads(None) == 2


def test_number_of_threads_is_restored():
    before = torch.get_num_threads()
    with use_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("device", "recommended", "cores", "gpus", "expected"),
    [
        ("cpu", 1, 8, 0, 1),
        ("cpu", 16, 8, 0, 16),
        ("cuda:0", 1, 16, 1, 4),
        ("cuda:1", 1, 16, 8, 2),
        ("cuda:0", 1, 4, 8, 1),
        ("cuda:0", 16, 16, 1, 16),
    ],
)
def test_readers_use_the_cores_of_a_machine_with_gpus(
    device: str,
    recommended: int,
    cores: int,
    gpus: int,
    expected: int,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)))
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    assert choose_readers(None, recommended, device) == expected
    assert choose_readers(3, recommended, device) == 3


def test_records_are_decoded_by_the_requested_number_of_threads_and_in_order():
    class Blocking:
        """Data set whose records can only be read three at a time."""

        threads = 1
        barrier = Barrier(3)

        def read(self, row: int) -> np.ndarray:
            self.barrier.wait(timeout=60)
            return np.full((12, 5000), row, np.float32)

    rows = np.arange(12)
    batches = decode_batches(Blocking(), rows[::-1], rows, lambda: 6, threads=3)  # type: ignore[arg-type]
    decoded = [record for batch in batches for record in batch]
    assert [record.row for record in decoded] == rows.tolist()
    assert [record.ecg[0, 0] for record in decoded] == rows[::-1].tolist()  # type: ignore[index]
    assert recommended_threads(Blocking()) == 1  # type: ignore[arg-type]
