"""Output to the terminal.

Control characters, which files of a shared store or run may contain, are escaped. In log lines,
credentials in URLs are redacted.
"""

import re
import sys

from stores.url import redact

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters except tab and newline, and characters that change the text direction."""


def printable(text: str) -> str:
    """Return a text with its control characters replaced by hexadecimal escapes."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def print_text(text: object = "", end: str = "\n") -> None:
    """Print a text to standard output, which is reserved for results."""
    print(printable(redact(str(text))), end=end)


def log_to_stderr(line: str) -> None:
    """Print a line to standard error."""
    print(printable(redact(line)), file=sys.stderr, flush=True)
