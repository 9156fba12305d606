"""Text for the terminal, without control characters and secrets from stores, runs and URLs."""

import re
import sys

from stores.url import redact

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters other than tab and newline, and those that change the direction of text."""


def printable(text: str) -> str:
    """Return a text in which control characters are hexadecimal escapes."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def print_text(text: object = "", end: str = "\n") -> None:
    """Print a text to standard output, which is reserved for results."""
    print(printable(str(text)), end=end)


def log_to_stderr(line: str) -> None:
    """Print a line to standard error."""
    print(printable(redact(line)), file=sys.stderr, flush=True)
