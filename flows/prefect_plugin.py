"""Prefect plugin that adds the command `prefect run`.

If plugins are enabled, every process that imports Prefect loads this module. Therefore it imports
few modules. If the command cannot be registered, only `prefect run` is unavailable.
"""

import os
import sys
from pathlib import Path

from prefect.plugins import HookContext, register_hook

from flows.environment import set_defaults

SERVER_COMMANDS = (
    *("automation", "block", "deploy", "deployment", "flow-run", "work-pool", "work-queue"),
    "worker",
)
"""Commands before which the server is checked, because their own errors are tracebacks."""


@register_hook
def setup_environment(*, ctx: HookContext) -> None:
    """Set defaults, check the server and register `run` if this process is the `prefect` command.

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
    if command in SERVER_COMMANDS and _uses_settings(arguments):
        _check_server(is_required=command != "worker")
    try:
        # Prefect has no public interface to add a command. If the private one changes, the command
        # `enecg` still works.
        from prefect.cli._app import _app

        _app.command("flows.prefect_run:app", name="run", help="Run a flow of EnECG.")
    except Exception as error:
        ctx.logger_factory("enecg").debug("Could not register `prefect run`: %r", error)


def _uses_settings(arguments: list[str]) -> bool:
    """Return whether a command connects to the server of the current settings.

    A profile that is selected on the command line has not been loaded yet.
    """
    return not (
        {"--help", "-h"} & {*arguments}
        or arguments[0] == "-p"
        or any(argument.startswith("--profile") for argument in arguments)
    )


def _check_server(*, is_required: bool) -> None:
    """Exit with a message if the server rejects the credentials or has another major version.

    Args:
        is_required: Whether to also exit if the server does not respond; a worker waits for it.
    """
    # Imported here because other commands do not need them.
    from enecg.errors import UserError
    from flows.preflight import ServerUnreachable, check_configured_server

    try:
        check_configured_server()
    except UserError as error:
        if is_required or not isinstance(error, ServerUnreachable):
            print(error, file=sys.stderr)
            sys.exit(2)


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
