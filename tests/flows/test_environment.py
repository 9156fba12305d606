import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.environment import DEFAULTS, set_defaults, use_temporary_home


def test_telemetry_is_off_by_default():
    environ: dict[str, str] = {}
    set_defaults(environ, quiet=False)
    assert environ["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert environ["DO_NOT_TRACK"] == environ["HF_HUB_DISABLE_TELEMETRY"] == "1"


@pytest.mark.parametrize("name", DEFAULTS)
def test_variables_of_the_user_are_kept(name: str):
    environ = {name: "mine"}
    set_defaults(environ, quiet=True)
    assert environ[name] == "mine"


def test_console_shows_only_critical_logs_of_prefect_unless_the_user_sets_a_level():
    quiet: dict[str, str] = {}
    debug = {"PREFECT_LOGGING_LEVEL": "DEBUG"}
    set_defaults(quiet, quiet=True)
    set_defaults(debug, quiet=True)
    assert quiet["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] == "CRITICAL"
    assert "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL" not in debug


@pytest.mark.parametrize("proxy", ["HTTP_PROXY", "https_proxy", "ALL_PROXY"])
@pytest.mark.parametrize(
    ("excluded", "expected"),
    [
        ({}, "127.0.0.1,localhost,::1"),
        ({"NO_PROXY": "lab.example"}, "lab.example,127.0.0.1,localhost,::1"),
        ({"no_proxy": "localhost, lab"}, "localhost,lab,127.0.0.1,::1"),
    ],
)
def test_loopback_bypasses_proxies(proxy: str, excluded: dict[str, str], expected: str):
    environ = {proxy: "http://proxy.example:3128", **excluded}
    set_defaults(environ, quiet=True)
    assert environ["NO_PROXY"] == environ["no_proxy"] == expected


@pytest.mark.parametrize(
    "environ", [{}, {"HTTP_PROXY": "http://proxy.example", "NO_PROXY": "*"}], ids=["none", "all"]
)
def test_no_proxy_is_not_changed_without_a_proxy_or_if_it_excludes_all_hosts(
    environ: dict[str, str],
):
    before = environ.get("NO_PROXY")
    set_defaults(environ, quiet=True)
    assert environ.get("NO_PROXY") == before


def test_prefect_home_is_temporary_if_the_default_one_cannot_be_written(tmp_path: Path):
    (tmp_path / "file").touch()
    lines: list[str] = []
    environ = {"HOME": str(tmp_path / "file")}
    use_temporary_home(environ, lines.append)
    assert Path(environ["PREFECT_HOME"]).is_dir()
    assert len(lines) == 1
    assert str(tmp_path / "file" / ".prefect") in lines[0]


@pytest.mark.parametrize("environ", [{"PREFECT_HOME": "/lab/prefect"}, {}])
def test_prefect_home_is_not_set_if_the_user_sets_it_or_the_default_one_can_be_written(
    environ: dict[str, str], tmp_path: Path
):
    environ = {**environ, "HOME": str(tmp_path)}
    before = dict(environ)
    use_temporary_home(environ, pytest.fail)
    assert environ == before


PROFILE = 'active = "lab"\n[profiles.lab]\nPREFECT_API_URL = "http://lab:4200/api"\n'


@pytest.mark.parametrize(
    ("environ", "files", "configured"),
    [
        ({}, {}, False),
        ({"PREFECT_API_URL": "http://lab:4200/api"}, {}, True),
        ({"PREFECT_API_URL": ""}, {}, False),
        ({}, {"home/profiles.toml": PROFILE}, True),
        ({}, {"home/profiles.toml": PROFILE.replace("active", "# active")}, False),
        ({}, {"home/profiles.toml": 'active = "a"\n[profiles.a]\n'}, False),
        ({}, {"prefect.toml": '[api]\nurl = "http://lab:4200/api"\n'}, True),
        ({}, {"pyproject.toml": '[project]\nname = "lab"\n'}, False),
    ],
)
def test_configured_server_is_found_and_prefect_imported_only_if_a_file_may_configure_one(
    environ: dict[str, str], files: dict[str, str], configured: bool, run_executable, tmp_path: Path
):
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    (tmp_path / "home").mkdir(exist_ok=True)
    code = (
        "import os, sys; from flows.environment import has_prefect_server; "
        "print(has_prefect_server(os.environ), 'prefect' in sys.modules)"
    )
    environ = {"PREFECT_HOME": str(tmp_path / "home"), **environ}
    done = run_executable("python", "-c", code, folder=tmp_path, **environ)
    found, imported = done.stdout.split()
    assert found == str(configured), done.stderr
    assert imported == str(any("url" in text.lower() for text in files.values()))


def test_wait_policy_of_openmp_is_passive():
    program = """
import os
import flows.cli
from flows.environment import set_defaults
set_defaults(os.environ, quiet=True)
import torch
"""
    # libgomp reads and prints its settings when torch loads it; later changes have no effect.
    environ = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**environ, "OMP_DISPLAY_ENV": "TRUE"},
        capture_output=True,
        text=True,
        check=True,
    )
    if "OMP_WAIT_POLICY" not in done.stderr:
        pytest.skip("torch does not use libgomp")
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in done.stderr
