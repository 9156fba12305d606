"""Adds `run` to the `prefect` command: Prefect loads this file where its plugins are enabled.

It is loaded by every process that imports Prefect, so it imports nothing of ours but the names of
some variables, and whatever fails in it leaves `prefect` as it was, without `run`.
"""

import os
import sys
from pathlib import Path

from prefect.plugins import HookContext, register_hook

from flows.environment import set_defaults


@register_hook
def setup_environment(*, ctx: HookContext) -> None:
    """Register `run` where this process is the `prefect` command; elsewhere do nothing.

    Prefect reads the environment again when all plugins have been called. Nothing is returned:
    what is returned to be set is announced in a line at every command.
    """
    words = _words_of_the_prefect_command(sys.orig_argv)
    if words is None:
        return
    set_defaults(os.environ, quiet=_command(words) == "run")
    try:
        # Private, the only way there is; `enecg` is the stable one.
        from prefect.cli._app import _app

        _app.command("flows.prefect_command:app", name="run", help="Run a stage of EnECG.")
    except Exception as error:
        ctx.logger_factory("enecg").debug("prefect run is not to be had: %r", error)


def _words_of_the_prefect_command(argv: list[str]) -> list[str] | None:
    """What follows `prefect` or `python -m prefect`; None in any other process."""
    for place, word in enumerate(argv[:4]):
        if Path(word).stem == "prefect" and (argv[place - 1] == "-m" or place <= 1):
            return argv[place + 1 :]
    return None


def _command(words: list[str]) -> str | None:
    """The first word that is no option, nor the value of --profile."""
    rest = iter(words)
    for word in rest:
        if word in ("--profile", "-p"):
            next(rest, None)
        elif not word.startswith("-"):
            return word
    return None
