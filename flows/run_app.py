"""Run a command line and return an exit code."""

import os
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import IntEnum

from cyclopts import App
from cyclopts.exceptions import CycloptsError, MissingArgumentError

from flows.output import log_to_stderr
from flows.tasks import USER_ERRORS


class ExitCode(IntEnum):
    """Exit codes of the commands. After an unexpected exception, Python also exits with 1."""

    OK = 0
    ISSUES_FOUND = 1
    """The command completed, but a check failed, or data are damaged, unreadable or refused."""
    USER_ERROR = 2
    INTERRUPTED = 130
    BROKEN_PIPE = 141
    TERMINATED = 143


RESUME = (
    "Run the same command again: extractions, pretrainings, sweeps and copies resume; other "
    "commands restart."
)

SERVER_UNREACHABLE = "Failed to reach API at"
"""Start of Prefect's error message if the server does not respond."""


def run_app(app: App, arguments: Iterable[str]) -> int:
    """Run a command line.

    User errors are printed to standard error in one line. Interruption, SIGTERM, a closed pipe and
    an unreachable Prefect server also result in an exit code; other exceptions propagate.

    Args:
        app: Application to run.
        arguments: Command-line arguments without the program name.

    Returns:
        The exit code of the command or of the error.

    Raises:
        RuntimeError: A command raised it, and the reason is not an unreachable Prefect server.
        SystemExit: A command raised it, and the reason is not SIGTERM.
    """
    app.suppress_keyboard_interrupt = False
    try:
        with _exit_on_sigterm():
            code = app(
                list(arguments),
                exit_on_error=False,
                print_error=False,
                result_action="return_value",
            )
    except CycloptsError as error:
        command = " ".join((app.name[0], *(error.command_chain or ())))
        message = str(error)
        if isinstance(error, MissingArgumentError):
            # cyclopts has the same message for an option without a value and for a missing option.
            reason = "is required" if error.keyword is None else "requires a value"
            message = message.replace("requires an argument", reason)
        log_to_stderr(f"{message} See {command} --help.")
        return ExitCode.USER_ERROR
    except USER_ERRORS as error:
        log_to_stderr(str(error))
        return ExitCode.USER_ERROR
    except BrokenPipeError:
        # The reader of standard output closed the pipe early, as `head` does. Replace standard
        # output, so that Python's flush at exit does not raise the same error again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.BROKEN_PIPE
    except RuntimeError as error:
        if not str(error).startswith(SERVER_UNREACHABLE):
            raise
        log_to_stderr(
            f"{error}: the Prefect server at PREFECT_API_URL does not respond. Start it, or unset "
            "PREFECT_API_URL to use an embedded server."
        )
        return ExitCode.USER_ERROR
    except KeyboardInterrupt:
        log_to_stderr(f"Interrupted. {RESUME}")
        return ExitCode.INTERRUPTED
    except SystemExit as error:
        if error.code != ExitCode.TERMINATED:
            raise
        log_to_stderr(f"Terminated. {RESUME}")
        return ExitCode.TERMINATED
    return code if isinstance(code, int) else ExitCode.OK


@contextmanager
def _exit_on_sigterm() -> Iterator[None]:
    """Raise SystemExit on SIGTERM, so that the embedded Prefect server is stopped as well."""
    previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit(ExitCode.TERMINATED))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
