"""The exception for errors that the user can fix."""


class UserError(Exception):
    """An error that the user can fix.

    The message states what is wrong, where, and how to fix it. The command line prints it and
    exits with code 2. Exceptions of other types are bugs.
    """
