"""From the words of a command line to an exit code."""

import os
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from cyclopts import App
from cyclopts.exceptions import CycloptsError

from flows.mistakes import MISTAKES
from flows.progress import to_stderr

DONE, WRONG, MISTAKEN, STOPPED, CUT_OFF, TERMINATED = 0, 1, 2, 130, 141, 143
"""Exit codes: done; done, and something was found wrong; the user's mistake, told in one sentence;
stopped by Ctrl-C, by a closed pipe, or by SIGTERM. A bug gives 1 and a traceback."""


UNREACHABLE = "Failed to reach API at"
"""How Prefect begins its sentence when no server answers."""


def answer(app: App, words: Iterable[str]) -> int:
    """Carry out a command line and return its exit code; a bug's exception goes through.

    A command that found what it looked for to be wrong returns `WRONG` itself.
    """
    app.suppress_keyboard_interrupt = False
    try:
        with _leaving_properly_when_terminated():
            left = app(
                list(words),
                exit_on_error=False,
                print_error=False,
                result_action="return_value",
            )
    except CycloptsError as error:
        to_stderr(f"{error} See {' '.join((app.name[0], *(error.command_chain or ())))} --help.")
        return MISTAKEN
    except MISTAKES as mistake:
        to_stderr(str(mistake))
        return MISTAKEN
    except BrokenPipeError:
        # Whoever read the output has seen enough, as `head` has; what was not told is not done.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CUT_OFF
    except RuntimeError as error:
        if not str(error).startswith(UNREACHABLE):
            raise
        to_stderr(
            f"{error}: the Prefect server that PREFECT_API_URL names does not answer; start it, "
            "or unset PREFECT_API_URL to have a server of this run's own."
        )
        return MISTAKEN
    except KeyboardInterrupt:
        to_stderr("Stopped. The same command goes on where it was.")
        return STOPPED
    return left if isinstance(left, int) else DONE


@contextmanager
def _leaving_properly_when_terminated() -> Iterator[None]:
    """Makes SIGTERM an ordinary exit, which ends the embedded Prefect server too.

    By default the process would be gone at once, and the server would stay behind.
    """
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
