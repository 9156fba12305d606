"""The embedded Prefect server, which a command starts if PREFECT_API_URL is not set."""

import signal


def start_server() -> None:
    """Start an embedded server that ignores Ctrl-C in the terminal.

    A terminal sends SIGINT to the whole process group. If the server did not ignore it, the server
    would stop before the command has reported the final state of its run, and Prefect would wait
    for the server. Prefect reuses the running server when the flow starts, and stops it when the
    process exits.
    """
    from prefect.server.api.server import SubprocessASGIServer

    # A child process inherits the mask of blocked signals, so even a handler that it installs is
    # not called.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        SubprocessASGIServer().start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
