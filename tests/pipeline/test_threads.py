"""The number of torch threads of an extraction depends on the load of the machine."""

import pytest
import torch

from pipeline.extraction.threads import choose_threads, use_threads


@pytest.mark.parametrize(
    ("load", "workers", "expected"),
    [(0.1, 1, 8), (3.2, 1, 5), (7.9, 1, 1), (40.0, 1, 1), (0.1, 2, 4), (3.9, 2, 2), (0.0, 16, 1)],
)
def test_threads_leave_busy_cores_alone(
    load: float, workers: int, expected: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr("os.getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr("torch.get_num_threads", lambda: 8)
    assert choose_threads(None, workers) == expected
    assert choose_threads(3, workers) == 3


def test_number_of_threads_of_the_environment_is_not_exceeded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr("os.getloadavg", lambda: (0.0, 0.0, 0.0))
    monkeypatch.setattr("torch.get_num_threads", lambda: 2)
    assert choose_threads(None) == 2


def test_number_of_threads_is_restored():
    before = torch.get_num_threads()
    with use_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
