"""Progress of a run: a bar on a terminal, log lines elsewhere."""

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context

from rich import progress as rich_progress
from rich.console import Console
from rich.text import Text

from flows.output import log_to_stderr

Progress = Callable[[int, int], None]
"""Called as ``progress(done, total)``."""

logger = logging.getLogger(__name__)

Log = Callable[[str], None]
"""Called with one line of text."""


def run_log(logger: logging.Logger | logging.LoggerAdapter[logging.Logger]) -> Log:
    """Return a function that logs a line at INFO.

    The function also prints the line to standard error if no root handler shows INFO.
    """

    def log(line: str) -> None:
        logger.info(line)
        handlers = logging.getLogger().handlers
        visible = any(handler.level <= logging.INFO for handler in handlers)
        if not (visible and logger.isEnabledFor(logging.INFO)):
            log_to_stderr(line)

    return log


@contextmanager
def forward_logs(logger_name: str, log: Log) -> Iterator[None]:
    """Send a library's log lines at INFO and above to `log` instead of the root logger's handlers.

    Args:
        logger_name: Name of the library's logger, such as ``enecg``.
        log: Receives the lines.
    """

    class Forward(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            log(record.getMessage())

    logger, handler = logging.getLogger(logger_name), Forward()
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


def throttle(progress: Progress, seconds: float) -> Progress:
    """Limit the rate of calls of a progress callback.

    Args:
        progress: The callback.
        seconds: Minimum seconds between two calls. The final call (`done` equals `total`) is always
            forwarded.

    Returns:
        The limited callback.
    """
    last = -float("inf")

    def throttled(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if done >= total or now - last >= seconds:
            last = now
            progress(done, total)

    return throttled


@contextmanager
def in_background(progress: Progress, seconds: float) -> Iterator[Progress]:
    """Report progress from another thread, so that slow or failing reports do not affect the work.

    Args:
        progress: Called with the newest counts. Exceptions are logged at DEBUG.
        seconds: Minimum seconds between two calls, and maximum wait for the last one at the end.

    Yields:
        A callback that stores the counts and returns at once.
    """
    newest: tuple[int, int] | None = None
    ended = threading.Event()

    def report() -> None:
        reported = None
        is_last = False
        while not is_last:
            is_last = ended.wait(seconds)
            if newest is None or newest == reported:
                continue
            reported = newest
            try:
                progress(*reported)
            except Exception as error:
                logger.debug("Progress was not reported: %s", error)

    def store(done: int, total: int) -> None:
        nonlocal newest
        newest = done, total

    thread = threading.Thread(target=copy_context().run, args=[report], daemon=True)
    thread.start()
    try:
        yield store
    finally:
        ended.set()
        thread.join(seconds)


@contextmanager
def progress_bar(
    title: str, unit: str, log: Log, *, scale: int = 1, seconds: float = 10
) -> Iterator[Progress]:
    """Show progress with the rate and the estimated time left.

    Args:
        title: Text before the bar or in each line.
        unit: Unit of work, in the plural, such as ``records``.
        log: Called with one line per update if standard error is not a terminal.
        scale: Divisor of the counts before display, such as 10**6 to show bytes as MB.
        seconds: Minimum seconds between two lines.

    Yields:
        A callback that takes the units done and the total.
    """
    if sys.stderr.isatty():
        with _bar(title, unit) as progress:
            yield _scaled(progress, scale)
    else:
        yield throttle(_scaled(_log_lines(title, unit, log), scale), seconds)


def _scaled(progress: Progress, scale: int) -> Progress:
    """Divide the counts by `scale`; the total is rounded up so that it is not shown as 0."""

    def scaled(done: int, total: int) -> None:
        rounded_total = -(-total // scale)
        progress(done // scale if done < total else rounded_total, rounded_total)

    return scaled


def _log_lines(title: str, unit: str, log: Log) -> Progress:
    started = time.monotonic()

    def progress(done: int, total: int) -> None:
        elapsed = time.monotonic() - started
        left = ""
        if elapsed and 0 < done < total:
            left = f", {_format_duration((total - done) * elapsed / done)} left"
        log(f"{title}: {done:,} of {total:,} {unit}, {_format_rate(done, elapsed, unit)}{left}")

    return progress


def _format_rate(done: float, seconds: float, unit: str) -> str:
    """Format a rate in units per second; below one unit per second, in seconds per unit."""
    if not done or not seconds:
        return f"0 {unit}/s"
    if done >= seconds:
        return f"{done / seconds:,.1f} {unit}/s"
    return f"{seconds / done:,.1f} s/{unit.removesuffix('s')}"


def _format_duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}"


class _RateColumn(rich_progress.ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: rich_progress.Task) -> Text:
        seconds = task.finished_time if task.finished_time is not None else task.elapsed
        return Text(_format_rate(task.completed, seconds or 0.0, self.unit))


@contextmanager
def _bar(title: str, unit: str) -> Iterator[Progress]:
    bar = rich_progress.Progress(
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        _RateColumn(unit),
        rich_progress.TimeRemainingColumn(elapsed_when_finished=True),
        console=Console(stderr=True),
    )
    with bar:
        row = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(row, completed=done, total=total)
