from pathlib import Path

import pytest
from starlette.testclient import TestClient

from enecg.errors import UserError
from flows.lab.pages import pages_app, serve


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = {
        "nightly/a&b/results.html": "<p>tables</p>",
        "nightly/a&b/predictions.parquet": "ids",
        "nightly/a&b/cohorts.json": "ids",
        "nightly/a&b/results-with-ecgs.html": "ECGs",
        "nightly/a&b/unreadable.csv": "ids",
        "failed-records/key.csv": "record_id",
    }
    for name, text in files.items():
        (tmp_path / "runs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "runs" / name).write_text(text)
    (tmp_path / "secret.html").write_text("secret")
    (tmp_path / "runs" / "link.html").symlink_to(tmp_path / "secret.html")
    return tmp_path / "runs"


@pytest.fixture
def client(folder: Path) -> TestClient:
    return TestClient(pages_app(folder, "anna:pass:word"))


ANNA = ("anna", "pass:word")


@pytest.mark.parametrize("auth", [None, ("anna", "wrong"), ("", ""), ("anna", "pass")])
@pytest.mark.parametrize("path", ["/", "/nightly/a&b/results.html", "/none"])
def test_pages_require_the_password(client: TestClient, path: str, auth: tuple[str, str] | None):
    answer = client.get(path, auth=auth)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Basic")


@pytest.mark.parametrize("header", ["", "Basic", "Basic %%%", "Bearer YW5uYTpwYXNzOndvcmQ="])
def test_malformed_credentials_are_rejected(client: TestClient, header: str):
    assert client.get("/", headers={"Authorization": header}).status_code == 401


def test_index_links_to_pages_and_lists(client: TestClient):
    index = client.get("/", auth=ANNA).text
    assert 'href="nightly/a%26b/results.html"' in index
    assert 'href="failed-records/key.csv"' in index
    assert "ecgs" not in index
    page = client.get("/nightly/a%26b/results.html", auth=ANNA)
    assert page.text == "<p>tables</p>"
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'")


@pytest.mark.parametrize(
    "path",
    [
        "/nightly/a&b/predictions.parquet",
        "/nightly/a&b/cohorts.json",
        "/nightly/a&b/results-with-ecgs.html",
        "/nightly/a&b/unreadable.csv",
        "/link.html",
        "/../secret.html",
        "/%2e%2e/secret.html",
        "/none.html",
    ],
)
def test_other_files_and_links_are_not_served(client: TestClient, path: str):
    assert client.get(path, auth=ANNA).status_code == 404


def test_health_requires_no_password(client: TestClient):
    assert client.get("/health").text == "ok"


def test_password_is_required_for_other_machines_and_the_folder_must_exist(folder: Path):
    with pytest.raises(UserError, match="a password is required; set ENECG_PAGES_AUTH"):
        serve(folder, "0.0.0.0", 8080, "")
    with pytest.raises(UserError, match="form USER:PASSWORD"):
        serve(folder, "0.0.0.0", 8080, "anna:")
    with pytest.raises(UserError, match="nowhere does not exist"):
        serve(folder / "nowhere", "127.0.0.1", 8080, "")
