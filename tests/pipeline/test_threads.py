"""The number of torch threads of an extraction depends on the cores in use."""

import pytest
import torch

from pipeline.extraction.threads import choose_threads, use_threads


@pytest.mark.parametrize(
    ("busy", "workers", "expected"),
    [(0.1, 1, 8), (3.2, 1, 5), (7.9, 1, 1), (8.0, 1, 1), (0.1, 2, 4), (3.9, 2, 2), (0.0, 16, 1)],
)
def test_threads_are_the_idle_cores_divided_by_the_workers(
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
