"""Progress of an extraction whose shard ranges may be computed at the same time."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.extraction.ranges import Progress


class JobProgress:
    """Progress of a job with several parts. A part that is retried after a failure counts once.

    Args:
        total: Units of work in the job.
        progress: Called as ``progress(done, total)`` for the job, by one thread at a time.
    """

    def __init__(self, total: int, progress: Progress) -> None:
        self.total = total
        self.progress = progress
        self._completed = 0
        self._running: dict[object, int] = {}
        self._lock = threading.Lock()

    @contextmanager
    def part(self) -> Iterator[Progress]:
        """Yield a callback for the progress of one part, which reports the sum over all parts."""
        part = object()

        def progress(done: int, _: int) -> None:
            with self._lock:
                self._running[part] = done
                self.progress(self._completed + sum(self._running.values()), self.total)

        is_complete = False
        try:
            yield progress
            is_complete = True
        finally:
            # Move the count under the lock, so that no other thread reports it twice or not at all.
            with self._lock:
                done = self._running.pop(part, 0)
                self._completed += done if is_complete else 0
