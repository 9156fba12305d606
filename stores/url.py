"""Validation of the URLs of store roots and data sets."""

import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from stores.errors import StoreError

OBJECT_SCHEMES = ("s3", "gs", "az")
WEB_SCHEMES = ("https", "http")
STORE_SCHEMES = ("file", *OBJECT_SCHEMES)


_SECRET = re.compile(
    # Secrets of object stores may contain slashes; the path of a web URL may contain "@".
    rf"(\b(?:{'|'.join(OBJECT_SCHEMES)}):/{{0,3}})[^\s@]*@"
    r"|(\b(?:https?|ftp)://)[^\s/@]*@"
    r"|(\b(?:https?|ftp):(?:/?(?!/)|///))[^\s@]*@"
    r"|(\b[A-Za-z][A-Za-z0-9+.-]*:/{0,3})[^\s/@:]*:[^\s@]*@"
    r"|(/)[^\s/:@]+:[^\s@]*@",
    re.IGNORECASE,
)
"""Start of a URL, well-formed or not, up to the ``@`` after its credentials.

With an unknown or no scheme, which may be the name of a data set, only ``user:password`` is a
secret.
"""
_QUERY = re.compile(
    rf"((?:\b(?:{'|'.join((*OBJECT_SCHEMES, *WEB_SCHEMES))}):|\*\*\*@)[^\s?#]*[?#])[^\s'\"]+",
    re.IGNORECASE,
)
"""A URL, with or without credentials, up to its query (often a signature) or its fragment."""


def redact(text: str) -> str:
    """Replace the credentials, queries and fragments of every URL in a text by ``***``."""
    text = _SECRET.sub(lambda match: f"{match[match.lastindex or 0]}***@", text)
    return _QUERY.sub(r"\1***", text)


def check_url(
    url: str | Path,
    *,
    noun: str = "store",
    schemes: Sequence[str] = STORE_SCHEMES,
    error: type[Exception] = StoreError,
) -> str:
    """Validate a URL without sending a request, and return its scheme.

    Args:
        url: A URL or a directory.
        noun: Kind of resource at the URL, for error messages.
        schemes: Accepted schemes.
        error: Exception class to raise.

    Returns:
        The scheme, or an empty string for a directory.

    Raises:
        Exception: The URL is malformed, its scheme is not accepted, or it contains credentials, a
            query or a fragment. The class of the exception is `error`. Because messages are
            logged, they contain no credentials: the URL is redacted or omitted.
    """
    text = str(url)
    example = "https://HOST/PATH" if "https" in schemes else "file:///PATH"
    advice = f"use a directory, s3://BUCKET/PREFIX or {example}"
    scheme, separator, rest = text.partition("://")
    if not separator:
        if text.startswith(tuple(f"{name}:" for name in (*STORE_SCHEMES, *WEB_SCHEMES))):
            raise error(f"{redact(text)}: the {noun} URL has no `://` after its scheme; {advice}.")
        return ""
    host = rest.partition("/")[0]
    if scheme == "file" and scheme in schemes and host in ("", "localhost"):
        return scheme
    try:
        urlsplit(text)
    except ValueError as malformed:
        raise error(
            f"The {noun} URL has an invalid host, such as an unclosed bracket; {advice}."
        ) from malformed
    # In URLs of object stores, reject "@" anywhere, because a secret before it may contain slashes,
    # and ":" in the host, because bucket names cannot contain a colon.
    is_web = scheme in WEB_SCHEMES and scheme in schemes
    if "@" in (host if is_web else rest) or (":" in host and not is_web) or set(rest) & {*"?#"}:
        raise error(
            f"The {noun} URL contains credentials, a query or a fragment, and URLs are logged; "
            "remove them, and set credentials in the environment."
        )
    if scheme not in schemes or not host:
        raise error(f"{redact(text)}: not a valid {noun} URL; {advice}.")
    return scheme
