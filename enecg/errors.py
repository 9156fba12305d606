"""The one exception whose text is meant for the user."""


class UserError(Exception):
    """A mistake the user can mend: one sentence naming the thing, the reason and the remedy.

    The command line prints it and exits with code 2; any other exception is a bug.
    """
