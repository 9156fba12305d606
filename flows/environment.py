"""Default environment variables for Prefect, the model hub and OpenMP."""

import os
import re
import tempfile
from collections.abc import Callable, Mapping, MutableMapping
from pathlib import Path

DEFAULTS = {
    # Disable telemetry of Prefect's server, its client and the hub.
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    # A cold start of the embedded server takes 35 s on a busy machine; Prefect's default timeout is
    # 20 s.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    # Threads of torch that wait for each other sleep. By default they spin, which slows down an
    # operation several times if another thread or process runs on one of their cores.
    "OMP_WAIT_POLICY": "passive",
}
"""Variables that every command sets unless the user has set them."""

QUIET = {
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "HF_HUB_VERBOSITY": "error",
}
"""Variables that keep log lines of Prefect and the hub off the terminal."""

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Hosts of the embedded Prefect server; a proxy on another machine cannot connect to it."""

PROXIES = ("http_proxy", "https_proxy", "all_proxy")
"""Environment variables of proxies, which are also read in upper case."""


def set_defaults(environ: MutableMapping[str, str], *, quiet: bool) -> None:
    """Set the default variables that the user has not set, and exempt loopback from proxies.

    Prefect and OpenMP read their settings at import, so call this before `import prefect` and
    `import torch`, or from one of Prefect's start-up hooks.

    Args:
        environ: Environment to change.
        quiet: Whether to keep log lines of Prefect and the hub off the terminal, where they would
            break the progress bar. Ignored if the user has set PREFECT_LOGGING_LEVEL.
    """
    for name, value in DEFAULTS.items():
        environ.setdefault(name, value)
    if quiet and "PREFECT_LOGGING_LEVEL" not in environ:
        for name, value in QUIET.items():
            environ.setdefault(name, value)
    _bypass_proxies(environ)


def has_prefect_server(environ: Mapping[str, str]) -> bool:
    """Return whether a Prefect server is configured.

    Prefect is imported only if one of its settings files mentions a server, because importing it is
    slow.

    Args:
        environ: Environment variables.

    Returns:
        Whether PREFECT_API_URL is set in the environment, the active profile or a settings file.
    """
    if environ.get("PREFECT_API_URL"):
        return True
    home = Path(environ.get("PREFECT_HOME") or Path(environ.get("HOME", "~"), ".prefect"))
    profiles = Path(environ.get("PREFECT_PROFILES_PATH") or home / "profiles.toml")
    files = (profiles, *map(Path, ("prefect.toml", "pyproject.toml", ".env")))
    if not any(_mentions_server(file.expanduser()) for file in files):
        return False
    from prefect.settings import get_current_settings

    return bool(get_current_settings().api.url)


def _mentions_server(file: Path) -> bool:
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return re.search(r"PREFECT_API_URL|^\[(tool\.prefect\.)?api\]", text, re.M) is not None


def use_temporary_home(environ: MutableMapping[str, str], log: Callable[[str], None]) -> None:
    """Set PREFECT_HOME to a temporary folder if the default one cannot be written.

    Args:
        environ: Environment to change. PREFECT_HOME is kept if the user has set it.
        log: Called with a message if PREFECT_HOME was set to a temporary folder.
    """
    if "PREFECT_HOME" in environ:
        return
    home = Path(environ.get("HOME", "~")).expanduser() / ".prefect"
    existing = next((folder for folder in (home, *home.parents) if folder.exists()), None)
    if existing is not None and existing.is_dir() and os.access(existing, os.W_OK | os.X_OK):
        return
    environ["PREFECT_HOME"] = tempfile.mkdtemp(prefix="enecg-prefect-")
    log(
        f"{home} cannot be written, so Prefect's data is kept in {environ['PREFECT_HOME']} for "
        "this run; set PREFECT_HOME to a folder that you can write to."
    )


def _bypass_proxies(environ: MutableMapping[str, str]) -> None:
    """Add the loopback hosts to NO_PROXY if a proxy is set."""
    if not any(name in environ or name.upper() in environ for name in PROXIES):
        return
    excluded = environ.get("no_proxy") or environ.get("NO_PROXY", "")
    hosts = [host.strip() for host in excluded.split(",") if host.strip()]
    if "*" not in hosts:
        hosts += [host for host in LOOPBACK if host not in hosts]
        environ["NO_PROXY"] = environ["no_proxy"] = ",".join(hosts)
