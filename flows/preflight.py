"""Checks of Prefect's environment before a flow runs.

Without them, Prefect retries for minutes and then fails with an error that hides the cause.
"""

import base64
import importlib.util
import os
import re
import sqlite3
import ssl
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import httpx
import prefect
from prefect.settings import get_current_settings
from prefect.settings.models.api import APISettings
from sqlalchemy.engine import make_url

from enecg.errors import UserError

SERVER_TIMEOUT_SECONDS = 10.0

PROXY_STATUS_CODES = (502, 504)
"""Status codes of a proxy whose server does not respond, without 503, the code of a busy server."""

_SQLITE_HEADER = b"SQLite format 3\x00"


class ServerUnreachable(UserError):
    """The Prefect server does not respond."""


def check_prefect() -> None:
    """Check the proxy, home, server and database that Prefect needs to run a flow.

    Raises:
        UserError: A SOCKS proxy is set without the package for it, or Prefect's home, its database
            or the server at PREFECT_API_URL is unusable; see `check_configured_server`.
    """
    settings = get_current_settings()
    check_socks_proxy(os.environ)
    check_home(settings.home)
    if settings.api.url:
        check_configured_server()
        return
    url = settings.server.database.connection_url
    if url is not None:
        parsed = make_url(url.get_secret_value())
        if parsed.get_backend_name() == "sqlite" and parsed.database:
            check_database(Path(parsed.database))


def check_configured_server() -> None:
    """Check the server at PREFECT_API_URL, if this setting is set.

    Raises:
        UserError: See `check_server`; or the file with the server's certificate is unusable.
    """
    api = get_current_settings().api
    if api.url:
        check_server(api.url, credentials(api), verify=tls_verification(api))


def check_socks_proxy(environ: Mapping[str, str]) -> None:
    """Check that the package socksio is installed if a SOCKS proxy is set.

    Raises:
        UserError: A SOCKS proxy is set, but socksio is not installed.
    """
    if importlib.util.find_spec("socksio") is not None:
        return
    for name in (
        "ALL_PROXY",
        "all_proxy",
        "HTTPS_PROXY",
        "https_proxy",
        "HTTP_PROXY",
        "http_proxy",
    ):
        if environ.get(name, "").lower().startswith("socks"):
            raise UserError(
                f"{name} names a SOCKS proxy, which requires the package socksio; run `pip install "
                f"socksio`, or unset {name}."
            )


def check_home(home: Path) -> None:
    """Check that Prefect's home folder can be written; it is created if it does not exist.

    Raises:
        UserError: The folder cannot be written.
    """
    try:
        home.mkdir(parents=True, exist_ok=True)
        probe = home / f".enecg-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"PREFECT_HOME {home} cannot be written ({error.strerror}); set PREFECT_HOME to a "
            "folder that you can write to."
        ) from error


def check_database(path: Path) -> None:
    """Check that the database of the embedded server can be opened by this version of Prefect.

    Args:
        path: SQLite file; it may be missing or empty.

    Raises:
        UserError: The file is not a SQLite database, is unreadable, or was written by a newer
            version of Prefect.
    """
    remedy = "rename the file (Prefect creates a new one), or set PREFECT_HOME to another folder."
    try:
        if not path.exists() or path.stat().st_size == 0:
            return
        with path.open("rb") as file:
            if file.read(len(_SQLITE_HEADER)) != _SQLITE_HEADER:
                raise UserError(f"{path} is not a SQLite database; {remedy}")
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        try:
            tables = connection.execute("SELECT name FROM sqlite_master").fetchall()
            if ("alembic_version",) not in tables:
                return
            revisions = connection.execute("SELECT version_num FROM alembic_version").fetchall()
        finally:
            connection.close()
    except (OSError, sqlite3.Error) as error:
        raise UserError(f"{path} cannot be read ({error}); {remedy}") from error
    unknown = {revision for (revision,) in revisions} - _known_revisions()
    if unknown:
        raise UserError(
            f"{path} was written by a newer version of Prefect than {prefect.__version__} "
            f"(database revision {min(unknown)}); update Prefect, {remedy}"
        )


def credentials(api: APISettings) -> dict[str, str]:
    """Return the HTTP header with the credentials of Prefect's client.

    Args:
        api: Prefect's settings.

    Returns:
        The header `Authorization`; empty if no credentials are set.
    """
    if api.auth_string:
        encoded = base64.b64encode(api.auth_string.get_secret_value().encode()).decode()
        return {"Authorization": f"Basic {encoded}"}
    return {"Authorization": f"Bearer {api.key.get_secret_value()}"} if api.key else {}


def tls_verification(api: APISettings) -> ssl.SSLContext | bool:
    """Return the argument `verify` of httpx, which selects how certificates are verified.

    Args:
        api: Prefect's settings.

    Returns:
        The value that Prefect's client uses.

    Raises:
        UserError: The certificate file does not exist or is not in PEM format.
    """
    if api.tls_insecure_skip_verify:
        return False
    if not api.ssl_cert_file:
        return True
    try:
        return ssl.create_default_context(cafile=api.ssl_cert_file)
    except OSError as error:
        raise UserError(
            f"PREFECT_API_SSL_CERT_FILE {api.ssl_cert_file} cannot be read ({error.strerror}); set "
            "it to a file in PEM format with the certificate of the server or of its authority."
        ) from error


def check_server(
    url: str,
    headers: Mapping[str, str] = MappingProxyType({}),
    *,
    verify: ssl.SSLContext | bool = True,
) -> None:
    """Check that a Prefect server responds, accepts the credentials and is compatible.

    Args:
        url: URL of the server's API.
        headers: HTTP headers with the credentials; see `credentials`.
        verify: How the certificate is verified; see `tls_verification`.

    Raises:
        ServerUnreachable: The server does not respond.
        UserError: The server rejects the credentials, is not a Prefect server, or has another major
            version than the installed Prefect.
    """
    try:
        response = httpx.get(
            f"{url.rstrip('/')}/admin/version",
            headers=dict(headers),
            timeout=SERVER_TIMEOUT_SECONDS,
            verify=verify,
        )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ServerUnreachable(_no_response(url, _cause(error))) from error
    if response.status_code in PROXY_STATUS_CODES:
        raise ServerUnreachable(_no_response(url, f"status {response.status_code} of a proxy"))
    if response.status_code in (401, 403):
        raise UserError(
            f"The Prefect server at PREFECT_API_URL={without_credentials(url)} rejects the "
            "credentials; set PREFECT_API_AUTH_STRING=USER:PASSWORD to the value of "
            "PREFECT_SERVER_API_AUTH_STRING of the server (PREFECT_AUTH in Compose)."
        )
    if not response.is_success:
        # Requests of Prefect's client are retried, for example while the server is busy.
        return
    try:
        version = str(response.json())
        major = int(version.split(".")[0])
    except ValueError as error:
        raise UserError(
            f"PREFECT_API_URL={without_credentials(url)} is not the API of a Prefect server; it "
            "usually ends in :4200/api."
        ) from error
    if major != int(prefect.__version__.split(".")[0]):
        raise UserError(
            f"The Prefect server at PREFECT_API_URL={without_credentials(url)} has version "
            f"{version}, but Prefect {prefect.__version__} is installed here; install the same "
            "major version on both."
        )


def _no_response(url: str, cause: str) -> str:
    return (
        f"The Prefect server at PREFECT_API_URL={without_credentials(url)} does not respond "
        f"({cause}); start it, or correct or unset PREFECT_API_URL."
    )


def _cause(error: Exception) -> str:
    """Return the operating system's text for a failed connection, else the type of the error.

    Texts of other errors can contain the URL with its credentials.
    """
    if isinstance(error, httpx.ConnectError) and str(error):
        return re.sub(r"^\[Errno -?\d+\] ", "", str(error))
    return type(error).__name__


def _known_revisions() -> set[str]:
    """Return the database revisions that the installed Prefect can migrate from."""
    # Imported here because it takes a second.
    import prefect.server.database

    package = Path(prefect.server.database.__file__).parent
    files = (package / "_migrations" / "versions" / "sqlite").glob("*.py")
    lines = (line for file in files for line in file.read_text(encoding="utf-8").splitlines())
    return {
        line.partition("=")[2].strip().strip("\"'") for line in lines if line.startswith("revision")
    }


def without_credentials(url: str) -> str:
    """Return a URL, which may be malformed, without user and password."""
    return re.sub(r"(?<=//).*@", "", url)
