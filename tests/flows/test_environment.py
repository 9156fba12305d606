import pytest

from flows.environment import DEFAULTS, set_defaults


def test_nobody_is_called_by_default():
    environ: dict[str, str] = {}
    set_defaults(environ, quiet=False)
    assert environ["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert environ["DO_NOT_TRACK"] == environ["HF_HUB_DISABLE_TELEMETRY"] == "1"


@pytest.mark.parametrize("name", DEFAULTS)
def test_what_the_user_set_stays(name: str):
    environ = {name: "mine"}
    set_defaults(environ, quiet=True)
    assert environ[name] == "mine"


def test_prefects_own_lines_are_off_unless_somebody_asks_for_them():
    quiet: dict[str, str] = {}
    asked = {"PREFECT_LOGGING_LEVEL": "DEBUG"}
    set_defaults(quiet, quiet=True)
    set_defaults(asked, quiet=True)
    assert quiet["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] == "CRITICAL"
    assert "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL" not in asked
