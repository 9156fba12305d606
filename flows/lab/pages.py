"""Web server for results pages, with a password.

Starlette and uvicorn are dependencies of Prefect.
"""

import base64
import binascii
import ipaddress
import secrets
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.authentication import (
    AuthCredentials,
    AuthenticationBackend,
    AuthenticationError,
    BaseUser,
    SimpleUser,
)
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from enecg.errors import UserError
from flows.failed_records import FOLDER as FAILED_RECORDS
from flows.output import log_to_stderr
from pipeline.runs.results import PAGE_WITH_ECGS

AUTH_VARIABLE = "ENECG_PAGES_AUTH"
"""Environment variable with the user and the password, as ``USER:PASSWORD``."""

DEPTH = 4
"""Number of folder levels, including the served folder, in which the index searches for pages."""

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src data:; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
HEALTH = "/health"


def serve(folder: Path, host: str, port: int, credentials: str) -> None:
    """Serve the pages and lists of failed records in a folder until the process is interrupted.

    Args:
        folder: Folder that contains runs.
        host: Address to listen on.
        port: Port to listen on.
        credentials: User and password as ``USER:PASSWORD``; empty to require none.

    Raises:
        UserError: The folder does not exist, `credentials` has another form, or other machines
            could connect without a password.
    """
    folder = folder.expanduser()
    if not folder.is_dir():
        raise UserError(
            f"{folder} does not exist or is not a folder; pass a folder that contains runs."
        )
    if not credentials and not _is_loopback(host):
        raise UserError(
            f"--host {host}: other machines can connect to this address, so a password is "
            f"required; set {AUTH_VARIABLE}=USER:PASSWORD."
        )
    if credentials and not all(credentials.partition(":")):
        raise UserError(f"{AUTH_VARIABLE} must have the form USER:PASSWORD.")
    log_to_stderr(f"Serving the pages in {folder} at http://{host}:{port}/; press Ctrl-C to stop.")
    uvicorn.run(pages_app(folder, credentials), host=host, port=port, log_level="warning")


def pages_app(folder: Path, credentials: str) -> Starlette:
    """Return the application that serves a folder.

    Args:
        folder: Folder that contains runs.
        credentials: User and password as ``USER:PASSWORD``; empty to require none.

    Returns:
        The application: an index at `/`, the pages at their paths below the folder, and `/health`.
    """

    def index(_: Request) -> Response:
        return HTMLResponse(_index(folder), headers=HEADERS)

    def health(_: Request) -> Response:
        return Response("ok")

    return Starlette(
        routes=[Route(HEALTH, health), Route("/", index), Mount("/", _Pages(directory=folder))],
        middleware=[
            Middleware(
                AuthenticationMiddleware,
                backend=_BasicAuth(credentials),
                on_error=_unauthorized,
            )
        ],
    )


class _Pages(StaticFiles):
    """The files that `_is_served` accepts. Links that lead out of the folder are not followed."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        if not _is_served(Path(path)):
            raise HTTPException(404)
        response = await super().get_response(path, scope)
        response.headers.update(HEADERS)
        return response


def _is_served(path: Path) -> bool:
    """Return whether a path is a page without ECGs or a list of failed records.

    Most other files of a run folder contain record or patient ids.

    Args:
        path: Path relative to the served folder.
    """
    if path.suffix == ".csv":
        return path.parts[0] == FAILED_RECORDS
    return path.suffix == ".html" and path.name != PAGE_WITH_ECGS


class _BasicAuth(AuthenticationBackend):
    """HTTP basic authentication with one user. `/health` requires none."""

    def __init__(self, credentials: str) -> None:
        self._credentials = credentials.encode()

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser] | None:
        if not self._credentials or conn.scope["path"] == HEALTH:
            return None
        scheme, _, value = conn.headers.get("Authorization", "").partition(" ")
        try:
            given = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            given = b""
        if scheme.lower() != "basic" or not secrets.compare_digest(given, self._credentials):
            raise AuthenticationError("Wrong user or password.")
        return AuthCredentials(), SimpleUser(given.partition(b":")[0].decode())


def _unauthorized(_: HTTPConnection, error: Exception) -> Response:
    headers = {"WWW-Authenticate": 'Basic realm="EnECG"'}
    return Response(str(error), status_code=401, headers=headers)


def _index(folder: Path) -> str:
    """Return a page with links to all results pages and lists of failed records."""
    from pipeline.report.formats import render_page

    pages, lists = (
        sorted(file.relative_to(folder).as_posix() for file in files)
        for files in (
            (file for depth in range(DEPTH) for file in folder.glob("*/" * depth + "*.html")),
            (folder / FAILED_RECORDS).glob("*.csv"),
        )
    )
    pages = [page for page in pages if _is_served(Path(page))]
    return render_page("index.html", pages=pages, lists=lists)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
