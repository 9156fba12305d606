"""Waits before the retries of a step. They end when the job is stopped."""

import threading
from collections.abc import Callable, Sequence

from enecg.errors import UserError


class RetryWaits:
    """Waits before the attempts of a step, except the first.

    `threading.Event.wait` is used instead of `time.sleep`, because a signal interrupts only the
    main thread, and steps may run in other threads.

    Args:
        name: Name of the step.
        seconds: Seconds to wait before each retry.
        stopped: Event that is set when the job is stopped; None if nothing stops it.
    """

    def __init__(
        self, name: str, seconds: Sequence[float], stopped: threading.Event | None
    ) -> None:
        self.name = name
        self._seconds = iter((0.0, *seconds))
        self._stopped = stopped or threading.Event()

    @property
    def is_stopped(self) -> bool:
        """Whether the job has been stopped, so that a failed step is not retried."""
        return self._stopped.is_set()

    def wait(self, log: Callable[[str], None]) -> None:
        """Wait before the next attempt.

        Args:
            log: Called with a line before a wait.

        Raises:
            UserError: The job was stopped before or during the wait.
        """
        seconds = next(self._seconds)
        if seconds and not self.is_stopped:
            log(f"{self.name}: retrying in {seconds:g} s.")
        if self._stopped.wait(seconds):
            raise UserError(f"{self.name}: not started, because the job was stopped.")
