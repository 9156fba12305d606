"""From the words of a command line to an exit code."""

from collections.abc import Iterable

from cyclopts import App
from cyclopts.exceptions import CycloptsError

from flows.mistakes import MISTAKES
from flows.progress import to_stderr

DONE, MISTAKEN, STOPPED = 0, 2, 130
"""Exit codes: done; the user's mistake, told in one sentence; stopped by Ctrl-C. A bug gives 1."""


def answer(app: App, words: Iterable[str]) -> int:
    """Carry out a command line and return its exit code; a bug's exception goes through."""
    try:
        app(list(words), exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        to_stderr(f"{error} See {app.name[0]} --help.")
        return MISTAKEN
    except MISTAKES as mistake:
        to_stderr(str(mistake))
        return MISTAKEN
    except KeyboardInterrupt:
        to_stderr("Stopped. The same command goes on where it was.")
        return STOPPED
    return DONE
