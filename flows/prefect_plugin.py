"""Prefect plugin that adds the command `prefect run`.

If plugins are enabled, every process that imports Prefect loads this module. Therefore it imports
few modules, and an error in it only disables `prefect run`.
"""

import os
import sys
from pathlib import Path

from prefect.plugins import HookContext, register_hook

from flows.environment import set_defaults


@register_hook
def setup_environment(*, ctx: HookContext) -> None:
    """Register `run` if this process is the `prefect` command.

    Prefect rereads the environment after all plugins have run. Variables are set here and not
    returned, because Prefect logs a line at every command for returned variables.

    Args:
        ctx: Prefect's context, with its logger.
    """
    arguments = _prefect_arguments(sys.argv, sys.orig_argv)
    if arguments is None:
        return
    command = _subcommand(arguments)
    # `config` and `profile` show and change the user's settings, so do not set defaults for them.
    if command not in ("config", "profile"):
        set_defaults(os.environ, quiet=command == "run")
    try:
        # Prefect has no public interface to add a command. If the private one changes, the command
        # `enecg` still works.
        from prefect.cli._app import _app

        _app.command("flows.prefect_command:app", name="run", help="Run a flow of EnECG.")
    except Exception as error:
        ctx.logger_factory("enecg").debug("Could not register `prefect run`: %r", error)


def _prefect_arguments(argv: list[str], orig_argv: list[str]) -> list[str] | None:
    """Return the arguments of `prefect` or `python -m prefect`; None in any other process.

    While Python locates the module of `python -m`, `argv` starts with `-m` and the module's name
    is only in `orig_argv`.
    """
    if argv[:1] == ["-m"]:
        module, *arguments = orig_argv[orig_argv.index("-m") + 1 :]
        return arguments if module == "prefect" else None
    return argv[1:] if argv and Path(argv[0]).stem == "prefect" else None


def _subcommand(arguments: list[str]) -> str | None:
    """Return the first argument that is neither an option nor the value of --profile."""
    rest = iter(arguments)
    for argument in rest:
        if argument in ("--profile", "-p"):
            next(rest, None)
        elif not argument.startswith("-"):
            return argument
    return None
