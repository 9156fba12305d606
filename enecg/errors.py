"""The exception whose message is meant for the user."""


class UserError(Exception):
    """An error that the user can fix. Its message names the object, the reason and the remedy.

    The command line prints the message and exits with code 2. Any other exception is a bug.
    """
