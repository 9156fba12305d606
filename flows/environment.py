"""Settings that Prefect and the model hub read from the environment: ours are defaults only."""

from collections.abc import MutableMapping

DEFAULTS = {
    # Nobody is told that this runs: Prefect's server and client analytics, and the hub's.
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    # A cold start on a busy machine takes 35 s, Prefect waits for 20 s.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
}
"""Variable and value, as set by every command of this project."""

QUIET = {
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "HF_HUB_VERBOSITY": "error",
}
"""Keeps Prefect's and the hub's own lines off the terminal; the runs' logs keep them."""


def set_defaults(environ: MutableMapping[str, str], *, quiet: bool) -> None:
    """Fill in what the user has not set; quiet: leave the terminal to the progress bar.

    Takes effect only before Prefect reads its settings, so call it before `import prefect` or
    from one of Prefect's start-up hooks. Somebody who sets PREFECT_LOGGING_LEVEL wants to see
    Prefect's lines, so then they stay.
    """
    for name, value in DEFAULTS.items():
        environ.setdefault(name, value)
    if quiet and "PREFECT_LOGGING_LEVEL" not in environ:
        for name, value in QUIET.items():
            environ.setdefault(name, value)
