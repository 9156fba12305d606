"""The embedded Prefect server, which a command starts if PREFECT_API_URL is not set."""

import signal


def start_server() -> None:
    """Start an embedded server that ignores Ctrl-C in the terminal.

    A terminal sends SIGINT to the whole process group. The server must ignore SIGINT:
    otherwise the server stops before the command has reported the final state of its run, and
    Prefect waits for the server. Prefect uses the running server when the flow starts, and stops it
    when the process exits.

    Raises:
        RuntimeError: The server did not start in time.
    """
    from prefect.server.api.server import SubprocessASGIServer

    # A child process inherits the mask of blocked signals, which has precedence over its handlers.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        SubprocessASGIServer().start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
