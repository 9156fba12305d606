"""Default environment variables for Prefect and the model hub."""

from collections.abc import MutableMapping

DEFAULTS = {
    # No telemetry of Prefect's server and client, and of the hub.
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    # A cold start takes 35 s on a busy machine; Prefect's default is 20 s.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
}
"""Variables that every command sets unless the user has set them."""

QUIET = {
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "HF_HUB_VERBOSITY": "error",
}
"""Variables that keep log lines of Prefect and the hub off the terminal, but in the run's log."""


def set_defaults(environ: MutableMapping[str, str], *, quiet: bool) -> None:
    """Set the variables that the user has not set.

    Prefect reads its settings at import, so call this before `import prefect` or from one of
    Prefect's start-up hooks.

    Args:
        environ: Environment to change.
        quiet: Keep log lines off the terminal, which shows a progress bar. Has no effect if the
            user has set PREFECT_LOGGING_LEVEL.
    """
    for name, value in DEFAULTS.items():
        environ.setdefault(name, value)
    if quiet and "PREFECT_LOGGING_LEVEL" not in environ:
        for name, value in QUIET.items():
            environ.setdefault(name, value)
