"""Checks of Prefect, of proxies, and of the Hugging Face Hub and the weights cached from it."""

import os
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path

from enecg.errors import UserError
from enecg.experts import get_definition, list_experts
from enecg.experts.weights import HubFile
from flows.doctor.finding import Finding, Status, from_error
from flows.environment import LOOPBACK, PROXIES

HUB_TIMEOUT_SECONDS = 2.0

NOT_CHECKED = "not checked, because httpx cannot use the SOCKS proxy"
SEE_PROXIES = "see proxies"


def check_proxies(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Report the configured proxies, and check that HTTP clients can use them.

    Args:
        environ: Environment variables.

    Yields:
        One finding.

    Raises:
        UserError: A SOCKS proxy is set and the package socksio is not installed.
    """
    from flows.preflight import check_socks_proxy

    check_socks_proxy(environ)
    names = [name for name in (*PROXIES, *map(str.upper, PROXIES)) if environ.get(name)]
    if not names:
        yield Finding("proxies", "ok", "none")
        return
    excluded = f"{environ.get('no_proxy', '')},{environ.get('NO_PROXY', '')}"
    text = f"{', '.join(names)} set; NO_PROXY is {excluded.strip(',') or 'empty'}"
    if not any(host in excluded for host in LOOPBACK):
        remedy = f"add {','.join(LOOPBACK)} to NO_PROXY for Prefect's own commands"
        yield Finding("proxies", "warning", text, remedy)
    else:
        yield Finding("proxies", "ok", text)


def check_prefect() -> Iterator[Finding]:
    """Report Prefect's version and profile, and check its home, and its server or database."""
    # Imported here because importing Prefect takes seconds, and fails in a broken installation.
    from prefect.context import get_settings_context
    from prefect.settings import get_current_settings
    from sqlalchemy.engine import make_url

    from flows import preflight

    settings = get_current_settings()
    profile = get_settings_context().profile
    yield Finding("Prefect", "ok", f"{version('prefect')}, profile {profile.name}")
    try:
        preflight.check_home(settings.home)
        yield Finding("Prefect home", "ok", str(settings.home))
    except UserError as error:
        yield from_error("Prefect home", error)
    if settings.api.url:
        try:
            preflight.check_configured_server()
            url = preflight.without_credentials(settings.api.url)
            yield Finding("Prefect server", "ok", f"{url} responds")
        except UserError as error:
            yield from_error("Prefect server", error)
        except ImportError:
            yield Finding("Prefect server", "failed", NOT_CHECKED, SEE_PROXIES)
        return
    yield Finding("Prefect server", "ok", "none configured; commands run without Prefect")
    connection = settings.server.database.connection_url
    parsed = None if connection is None else make_url(connection.get_secret_value())
    if parsed is None or parsed.get_backend_name() != "sqlite" or not parsed.database:
        return
    try:
        preflight.check_database(Path(parsed.database))
        state = "compatible" if Path(parsed.database).exists() else "not created yet"
        yield Finding("Prefect database", "ok", f"{parsed.database}, {state}")
    except UserError as error:
        yield from_error("Prefect database", error)


def check_weights() -> Iterator[Finding]:
    """Check the connection to the hub, and list the weights in the local cache."""
    cached, missing = [], []
    for definition in map(get_definition, list_experts()):
        if not isinstance(definition.published, HubFile):
            continue
        try:
            definition.find_weights("published", fetch=False)
            cached.append(definition.name)
        except UserError:
            missing.append(definition.name)
    reachable, text = _probe_hub(os.environ)
    status: Status = "ok" if reachable or not missing else "warning"
    remedy = (
        "" if status == "ok" else "connect to the hub, or copy cached weights from another machine"
    )
    yield Finding("hub", status, text, remedy)
    if not missing:
        yield Finding("weights", "ok", f"cached: {', '.join(cached)}")
        return
    yield Finding(
        "weights",
        "ok" if cached else "warning",
        f"cached: {', '.join(cached) or 'none'}; not cached: {', '.join(missing)}",
        f"to download weights, run enecg experts fetch {missing[0]}",
    )


def _probe_hub(environ: Mapping[str, str]) -> tuple[bool, str]:
    """Return whether the hub responds, and a description of the result."""
    import httpx

    endpoint = environ.get("HF_ENDPOINT") or "https://huggingface.co"
    if environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        return False, "not used, because HF_HUB_OFFLINE is set"
    try:
        httpx.head(endpoint, timeout=HUB_TIMEOUT_SECONDS)
    except ImportError:
        return False, NOT_CHECKED
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        return False, f"{endpoint} does not respond ({type(error).__name__})"
    return True, f"{endpoint} responds"
