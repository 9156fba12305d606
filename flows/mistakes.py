"""The user's mistakes: one sentence and exit code 2 on a terminal, a failed run in Prefect."""

from typing import cast

from enecg.errors import UserError
from stores.errors import StoreError

MISTAKES = (UserError, StoreError)
"""Exceptions whose text is meant for the user; any other exception is a bug."""


def failed(mistake: Exception) -> tuple[str, ...]:
    """The end of a flow that the user must mend: a failed state with the sentence as its message.

    To be returned from a flow, not raised: Prefect writes the traceback of all that is raised.
    Typed as the lines that a flow gives, for the caller never sees it: Prefect raises the mistake
    to whoever called the flow.
    """
    # Imported here, for the command line answers --help without the two seconds of Prefect.
    from prefect.states import Failed

    return cast(tuple[str, ...], Failed(message=str(mistake), data=mistake))
