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
    words = _words_of_the_prefect_command(sys.argv, sys.orig_argv)
    if words is None:
        return
    command = _command(words)
    # Those two show and change the settings: they are to find them as the user left them.
    if command not in ("config", "profile"):
        set_defaults(os.environ, quiet=command == "run")
    try:
        # Private, the only way there is; `enecg` is the stable one.
        from prefect.cli._app import _app

        _app.command("flows.prefect_command:app", name="run", help="Run a stage of EnECG.")
    except Exception as error:
        ctx.logger_factory("enecg").debug("prefect run is not to be had: %r", error)


def _words_of_the_prefect_command(argv: list[str], whole: list[str]) -> list[str] | None:
    """What follows `prefect` or `python -m prefect`; None in any other process.

    `argv` begins with `-m` as long as python looks for the module that it was told to run; then
    only `whole`, the command line as it was typed, tells which.
    """
    if argv[:1] == ["-m"]:
        module, *words = whole[whole.index("-m") + 1 :]
        return words if module == "prefect" else None
    return argv[1:] if argv and Path(argv[0]).stem == "prefect" else None


def _command(words: list[str]) -> str | None:
    """The first word that is no option, nor the value of --profile."""
    rest = iter(words)
    for word in rest:
        if word in ("--profile", "-p"):
            next(rest, None)
        elif not word.startswith("-"):
            return word
    return None
