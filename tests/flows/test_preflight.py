"""Checks of Prefect's environment: each problem is a user error with a message of one sentence."""

import base64
import json
import re
import sqlite3
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import certifi
import prefect
import pytest
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from prefect.settings.models.api import APISettings

from enecg.errors import UserError
from flows import prefect_plugin, preflight


class _Server(BaseHTTPRequestHandler):
    body: bytes = b""
    status = 200
    password = ""

    def do_GET(self) -> None:
        given = self.headers.get("Authorization", "").removeprefix("Basic ")
        known = base64.b64decode(given).decode() == self.password or not self.password
        status = self.status if self.path == "/api/admin/version" else 404
        self.send_response(status if known else 401)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Server) as http:
        threading.Thread(target=http.serve_forever, args=[0.01], daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}/api"
        http.shutdown()


def set_response(monkeypatch: pytest.MonkeyPatch, body: bytes, status: int = 200) -> None:
    monkeypatch.setattr(_Server, "body", body)
    monkeypatch.setattr(_Server, "status", status)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'"2.20.1"', r"has version 2\.20\.1, but Prefect \d"),
        (b'"4.0.0"', r"has version 4\.0\.0, but Prefect \d"),
        (b"<html>", "is not the API of a Prefect server"),
        (b'"soon"', "is not the API of a Prefect server"),
    ],
)
def test_server_that_is_incompatible_or_not_prefect_is_a_user_error(
    server: str, monkeypatch: pytest.MonkeyPatch, body: bytes, message: str
):
    set_response(monkeypatch, body)
    with pytest.raises(UserError, match=rf"PREFECT_API_URL={server} {message}[^\n]*\.$"):
        preflight.check_server(server)


@pytest.mark.parametrize(
    ("body", "status"), [(json.dumps(prefect.__version__).encode(), 200), (b"", 503)]
)
def test_compatible_or_busy_server_is_accepted(
    server: str, monkeypatch: pytest.MonkeyPatch, body: bytes, status: int
):
    set_response(monkeypatch, body, status)
    preflight.check_server(server)


def test_wrong_password_is_a_user_error_that_names_the_variable(
    server: str, monkeypatch: pytest.MonkeyPatch
):
    set_response(monkeypatch, json.dumps(prefect.__version__).encode())
    monkeypatch.setattr(_Server, "password", "anna:right")
    with temporary_settings({PREFECT_API_AUTH_STRING: "anna:wrong", PREFECT_API_URL: server}):
        with pytest.raises(UserError, match=r"rejects the credentials; set PREFECT_API_AUTH") as e:
            preflight.check_prefect()
        assert "wrong" not in str(e.value)
    with temporary_settings({PREFECT_API_AUTH_STRING: "anna:right", PREFECT_API_URL: server}):
        preflight.check_prefect()


@pytest.mark.parametrize("command", [("deploy", "--all"), ("worker", "start", "--pool", "lab")])
def test_prefect_command_reports_a_server_of_another_version_in_one_sentence(
    server: str,
    monkeypatch: pytest.MonkeyPatch,
    run_executable,
    command: tuple[str, ...],
):
    set_response(monkeypatch, b'"2.20.1"')
    environ = {"PREFECT_PLUGINS_ENABLED": "1", "PREFECT_API_URL": server}
    done = run_executable("prefect", "--no-prompt", *command, **environ)
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.fullmatch(r"[^\n]* has version 2\.20\.1, but [^\n]*\.\n", done.stderr)


@pytest.mark.parametrize("arguments", [("deploy", "--help"), ("work-pool", "ls", "--profile", "x")])
def test_server_is_not_checked_for_help_and_for_other_profiles(arguments: tuple[str, ...]):
    assert not prefect_plugin._uses_settings([*arguments])
    assert prefect_plugin._uses_settings(["worker", "start", "-p", "lab"])


def test_unreachable_server_ends_a_command_only_if_the_server_is_required():
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        prefect_plugin._check_server(is_required=False)
        with pytest.raises(SystemExit, match="2"):
            prefect_plugin._check_server(is_required=True)


def test_unreachable_server_is_reported_with_the_cause():
    with pytest.raises(UserError, match=r"does not respond \(Connection refused\); start it, or"):
        preflight.check_server("http://127.0.0.1:9/api")


def test_status_502_of_a_proxy_is_reported_as_an_unreachable_server(
    server: str, monkeypatch: pytest.MonkeyPatch
):
    set_response(monkeypatch, b"", 502)
    with pytest.raises(preflight.ServerUnreachable, match=r"\(status 502 of a proxy\)"):
        preflight.check_server(server)


def test_certificate_settings_of_prefect_are_used(tmp_path: Path):
    file = tmp_path / "server.pem"
    assert preflight.tls_verification(APISettings(ssl_cert_file=certifi.where())) is not True
    assert preflight.tls_verification(APISettings(tls_insecure_skip_verify=True)) is False
    with pytest.raises(UserError, match=rf"^PREFECT_API_SSL_CERT_FILE {file} cannot be read \(No"):
        preflight.tls_verification(APISettings(ssl_cert_file=str(file)))


@pytest.mark.parametrize(
    "start", ["127.0.0.1:9", "user:secret@127.0.0.1:9", "user:secret@127.0.0.1:x"]
)
def test_unreachable_server_is_a_user_error_without_credentials(start: str):
    with pytest.raises(UserError, match=r"//127[\d.]+:./api does not respond[^\n]*\.$") as raised:
        preflight.check_server(f"http://{start}/api")
    assert "secret" not in str(raised.value)


def test_file_that_is_not_a_database_is_a_user_error(tmp_path: Path):
    path = tmp_path / "prefect.db"
    path.write_text("these are notes, not a database")
    with pytest.raises(UserError, match=rf"^{path} is not a SQLite database; rename the file"):
        preflight.check_database(path)


def test_truncated_database_is_a_user_error(tmp_path: Path):
    path = tmp_path / "prefect.db"
    path.write_bytes(b"SQLite format 3\x00" + bytes(100))
    with pytest.raises(UserError, match=rf"^{path} cannot be read"):
        preflight.check_database(path)


def write_database(path: Path, revision: str) -> Path:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
    connection.execute("INSERT INTO alembic_version VALUES (?)", (revision,))
    connection.commit()
    connection.close()
    return path


def test_database_of_a_newer_prefect_is_a_user_error(tmp_path: Path):
    path = write_database(tmp_path / "prefect.db", "ffffffffffff")
    with pytest.raises(UserError, match=rf"^{path} was written by a newer version of Prefect than"):
        preflight.check_database(path)


def test_missing_empty_or_known_database_is_accepted(tmp_path: Path):
    preflight.check_database(tmp_path / "missing.db")
    (tmp_path / "empty.db").touch()
    preflight.check_database(tmp_path / "empty.db")
    revision = min(preflight._known_revisions())
    preflight.check_database(write_database(tmp_path / "known.db", revision))
    sqlite3.connect(tmp_path / "new.db").execute("CREATE TABLE other (x TEXT)").connection.close()
    preflight.check_database(tmp_path / "new.db")


def test_home_that_is_a_file_is_a_user_error(tmp_path: Path):
    (tmp_path / "home").touch()
    with pytest.raises(UserError, match=rf"^PREFECT_HOME {tmp_path}/home cannot be written"):
        preflight.check_home(tmp_path / "home")


@pytest.mark.parametrize("name", ["ALL_PROXY", "all_proxy", "HTTPS_PROXY", "http_proxy"])
@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "SOCKS4"])
def test_socks_proxy_without_the_package_socksio_is_a_user_error(
    name: str, scheme: str, monkeypatch: pytest.MonkeyPatch
):
    environ = {name: f"{scheme}://127.0.0.1:1080"}
    monkeypatch.setattr(preflight.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=rf"^{name} names a SOCKS proxy, .*`pip install socksio`"):
        preflight.check_socks_proxy(environ)
    preflight.check_socks_proxy({name: "http://proxy.example:3128"})


def test_socks_proxy_with_the_package_socksio_is_accepted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(preflight.importlib.util, "find_spec", lambda _: object())
    preflight.check_socks_proxy({"ALL_PROXY": "socks5://127.0.0.1:1080"})
