import threading
import time
from contextlib import suppress

from flows.progress import in_background, progress_bar, throttle
from pipeline.extraction.progress import JobProgress


def test_counts_of_parts_add_up():
    calls: list[tuple[int, int]] = []
    job = JobProgress(10, lambda done, total: calls.append((done, total)))
    for size in (4, 6):
        with job.part() as progress:
            progress(size // 2, size)
            progress(size, size)
    assert calls == [(2, 10), (4, 10), (7, 10), (10, 10)]


def test_retried_part_counts_once():
    counts: list[int] = []
    job = JobProgress(4, lambda done, _: counts.append(done))
    with suppress(OSError), job.part() as progress:
        progress(3, 4)
        raise OSError("the disk is unavailable")
    with job.part() as progress:
        progress(4, 4)
    assert counts == [3, 4]


def test_final_call_is_never_throttled():
    counts: list[int] = []
    progress = throttle(lambda done, _: counts.append(done), 3600)
    for done in range(1, 101):
        progress(done, 100)
    assert counts == [1, 100]


def test_progress_is_logged_if_standard_error_is_not_a_terminal():
    lines: list[str] = []
    with progress_bar("extract", "records", lines.append, seconds=0) as progress:
        progress(1, 4)
        progress(4, 4)
    assert lines[0].startswith("extract: 1 of 4 records, ")
    assert lines[0].endswith(" left")
    assert lines[1].startswith("extract: 4 of 4 records, ")


def test_scaled_counts_end_at_the_total():
    lines: list[str] = []
    with progress_bar("label", "MB", lines.append, scale=10**6, seconds=0) as progress:
        progress(2_999_999, 3_000_001)
        progress(3_000_001, 3_000_001)
    assert lines[0].startswith("label: 2 of 4 MB, ")
    assert lines[1].startswith("label: 4 of 4 MB, ")


def test_background_report_is_throttled_and_receives_the_final_counts():
    calls: list[tuple[int, int]] = []
    with in_background(lambda done, total: calls.append((done, total)), 3600) as progress:
        progress(1, 2)
        time.sleep(0.1)
        progress(2, 2)
    assert calls == [(2, 2)]


def test_background_report_does_not_repeat_unchanged_counts():
    calls: list[tuple[int, int]] = []
    with in_background(lambda done, total: calls.append((done, total)), 0.01) as progress:
        progress(1, 2)
        time.sleep(0.1)
    assert calls == [(1, 2)]


def test_failing_or_hanging_report_does_not_stop_the_work():
    released = threading.Event()

    def hang(done: int, total: int) -> None:
        released.wait(30)

    def fail(done: int, total: int) -> None:
        raise ConnectionError("the server is unreachable")

    for report in (hang, fail):
        with in_background(report, 0.01) as progress:
            progress(1, 2)
            time.sleep(0.05)
            progress(2, 2)
    assert not released.is_set()
    released.set()
