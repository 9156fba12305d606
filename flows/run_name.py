"""Names of flow runs."""

import getpass
import os

from prefect.runtime import flow_run

from flows.parameters import split

USER_TAG = "user:"
"""Prefix of the tag that names the user of a run: ``prefect deployment run --tag user:NAME``."""


def run_name() -> str:
    """Return the name of the current flow run: its job, experts, data set, store and user.

    Returns:
        A name such as ``extract dlinear,moment of mimic-iv-ecg:/data in s3://lab/ecg by anna``.
    """
    parameters = flow_run.parameters
    parts = [str(flow_run.flow_name)]
    if experts := split(parameters.get("experts") or [parameters.get("expert") or ""]):
        parts.append(",".join(experts))
    for word, name in (("of", "dataset"), ("in", "store")):
        if parameters.get(name):
            parts += [word, str(parameters[name])]
    return " ".join([*parts, "by", _user(flow_run.tags)])


def _user(tags: list[str]) -> str:
    """Return the user in a tag, or else the user of this process."""
    # Skip empty names, which result from an unset shell variable in `--tag user:$NAME`.
    names = (tag.removeprefix(USER_TAG) for tag in tags if tag.startswith(USER_TAG))
    if name := next(filter(None, names), None):
        return name
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"
