"""Escaping of untrusted text, such as class names, for HTML pages and Markdown."""

import re

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_MARKDOWN = re.compile(r"[\\`|<]|!(?=\[)|\](?=[(\[:])")
_LINE_BREAK = re.compile(r"[\r\n\u2028\u2029]+")


def replace_control(text: str) -> str:
    """Replace control characters, which are invalid in SVG and HTML, with U+FFFD."""
    return _CONTROL.sub("\ufffd", text)


def escape_markdown(text: str) -> str:
    """Escape text for one table cell or line of Markdown.

    Args:
        text: Any text.

    Returns:
        The text in one line, with a backslash before characters that would start HTML, a link, an
        image, code or a table column. Brackets of intervals are not escaped.
    """
    return _MARKDOWN.sub(r"\\\g<0>", replace_control(_LINE_BREAK.sub(" ", text)))
