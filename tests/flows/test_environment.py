import pytest

from flows.environment import DEFAULTS, set_defaults


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


def test_prefect_logs_to_the_console_only_if_the_user_sets_a_level():
    quiet: dict[str, str] = {}
    debug = {"PREFECT_LOGGING_LEVEL": "DEBUG"}
    set_defaults(quiet, quiet=True)
    set_defaults(debug, quiet=True)
    assert quiet["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] == "CRITICAL"
    assert "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL" not in debug
