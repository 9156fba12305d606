"""How far a run is: a bar on a terminal, a line now and then where there is none."""

import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich import progress as rich_progress
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

Report = Callable[[int, int], None]
"""Called with what is done and the total, as often as one likes."""

Say = Callable[[str], None]
"""Takes one line for whoever watches."""


def to_stderr(line: str) -> None:
    """Print a line beside the results, which go to standard output."""
    print(line, file=sys.stderr, flush=True)


def to_the_log(logger: logging.Logger | logging.LoggerAdapter[logging.Logger]) -> Say:
    """Lines to a run's log, and to standard error too where nothing shows the log there."""

    def say(line: str) -> None:
        logger.info(line)
        handlers = logging.getLogger().handlers
        shown = any(handler.level <= logging.INFO for handler in handlers)
        if not (shown and logger.isEnabledFor(logging.INFO)):
            to_stderr(line)

    return say


def at_most_every(seconds: float, report: Report) -> Report:
    """The same report, let through once in so many seconds; the last one always."""
    last = -float("inf")

    def throttled(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if done >= total or now - last >= seconds:
            last = now
            report(done, total)

    return throttled


class Progress:
    """One progress over a work done in parts, told to several at once.

    A part that fails and is begun again counts once.
    """

    def __init__(self, total: int, reports: Sequence[Report]) -> None:
        self.total = total
        self.reports = reports
        self.before = 0

    @contextmanager
    def part(self) -> Iterator[Report]:
        """Counts a part's own steps on top of those of the parts before it."""
        done_here = 0

        def report(done: int, _: int) -> None:
            nonlocal done_here
            done_here = done
            for each in self.reports:
                each(self.before + done, self.total)

        yield report
        self.before += done_here


@contextmanager
def shown(title: str, unit: str, say: Say, *, seconds: float = 10) -> Iterator[Report]:
    """Show what is reported: a bar where standard error is a terminal, else a line every `seconds`.

    Both with the rate in units a second and the time left.
    """
    if sys.stderr.isatty():
        with _bar(title, unit) as report:
            yield report
    else:
        yield at_most_every(seconds, _lines(title, unit, say))


def _lines(title: str, unit: str, say: Say) -> Report:
    began = time.monotonic()

    def report(done: int, total: int) -> None:
        passed = time.monotonic() - began
        left = ""
        if passed and 0 < done < total:
            left = f", {_clock((total - done) * passed / done)} left"
        say(f"{title}: {done:,} of {total:,} {unit}, {_rate(done, passed, unit)}{left}")

    return report


def _rate(done: float, seconds: float, unit: str) -> str:
    """Units a second, or for slow work seconds a unit."""
    if not done or not seconds:
        return f"0 {unit}/s"
    if done >= seconds:
        return f"{done / seconds:,.1f} {unit}/s"
    return f"{seconds / done:,.1f} s/{unit.removesuffix('s')}"


def _clock(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}"


class _RateColumn(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        seconds = task.finished_time if task.finished_time is not None else task.elapsed
        return Text(_rate(task.completed, seconds or 0.0, self.unit))


@contextmanager
def _bar(title: str, unit: str) -> Iterator[Report]:
    bar = rich_progress.Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(unit),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=Console(stderr=True),
    )
    with bar:
        row = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(row, completed=done, total=total)
