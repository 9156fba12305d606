"""Output to the terminal.

Control characters are escaped, because text from shared stores and runs is not trusted. Credentials
in URLs are redacted.
"""

import re
import sys

from stores.url import redact

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters except tab and newline, and Unicode's characters that override or isolate the
direction of text."""


def printable(text: str) -> str:
    """Replace the characters in `_CONTROL` with Python's escape sequences."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def print_text(text: object = "", end: str = "\n") -> None:
    """Print a text, followed by `end`, to standard output, which is reserved for results."""
    print(printable(redact(str(text))), end=end)


def log_to_stderr(line: str) -> None:
    """Print a line to standard error."""
    print(printable(redact(line)), file=sys.stderr, flush=True)
