"""The Prefect server that a command starts for itself where no other is named."""

import signal


def start_server() -> None:
    """Start the embedded server so that Ctrl-C on a terminal reaches the command alone.

    A terminal sends it to the whole process group: the server would be gone before the command
    had told it how the run ended, and Prefect would wait for it. Prefect finds the server that is
    running when the flow begins, and ends it when the process does.
    """
    from prefect.server.api.server import SubprocessASGIServer

    # A child inherits which signals are blocked, also past its own choice of handlers.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        SubprocessASGIServer().start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
