"""Validation of the URLs of store roots and data sets, and redaction of credentials in text."""

import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from stores.errors import StoreError

OBJECT_SCHEMES = ("s3", "gs", "az")
WEB_SCHEMES = ("https", "http")
STORE_SCHEMES = ("file", *OBJECT_SCHEMES)

_SECRET = re.compile(
    # Credentials in URLs of object stores may contain slashes, so match up to any "@". The path of
    # a web URL may contain "@", so match only in its host.
    rf"(\b(?:{'|'.join(OBJECT_SCHEMES)}):/{{0,3}})[^\s@]*@"
    r"|(\b(?:https?|ftp)://)[^\s/@]*@"
    r"|(\b(?:https?|ftp):(?:/?(?!/)|///))[^\s@]*@"
    r"|(\b[A-Za-z][A-Za-z0-9+.-]*:/{0,3})[^\s/@:]*:[^\s@]*@"
    r"|(/)[^\s/:@]+:[^\s@]*@",
    re.IGNORECASE,
)
"""Start of a URL up to the ``@`` after its credentials. The URL may be malformed.

If the scheme is missing or unknown (it may be the name of a data set), only text of the form
``user:password@`` matches.
"""
_QUERY = re.compile(
    rf"((?:\b(?:{'|'.join((*OBJECT_SCHEMES, *WEB_SCHEMES))}):|\*\*\*@)[^\s?#]*[?#])"
    r"[^\s'\"]*[^\s'\":;,.)]",
    re.IGNORECASE,
)
"""A URL with a query (often a signature) or a fragment, without punctuation after the URL.

Group 1 ends with the ``?`` or ``#``.
"""

_PORT = re.compile(r"[^:@?#]+:\d{1,5}")
"""A host with a port."""


def redact(text: str) -> str:
    """Replace the credentials, queries and fragments of URLs in a text with ``***``."""
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
        url: A URL, or the path of a directory.
        noun: Kind of resource at the URL, for error messages.
        schemes: Accepted schemes, in lower case, without a colon.
        error: Exception class to raise.

    Returns:
        The scheme; an empty string for the path of a directory.

    Raises:
        error: The URL is malformed, its scheme is not accepted, or it contains credentials, a
            query, a fragment or, unless it is a web URL, a port; of a `file` URL, only the host is
            validated. The message contains no credentials, because messages are logged.
    """
    text = str(url)
    example = "https://HOST/PATH" if "https" in schemes else "file:///PATH"
    advice = f"use a folder, s3://BUCKET/PREFIX or {example}"
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
    is_web = scheme in WEB_SCHEMES and scheme in schemes
    # In URLs of object stores, credentials may contain slashes, so search for "@" in the path too.
    has_secret = "@" in (host if is_web else rest) or bool(set(rest) & {*"?#"})
    has_port = _PORT.fullmatch(host) is not None
    # Bucket names cannot contain a colon. One that does not precede a port precedes a password.
    if has_secret or (":" in host and not is_web and not has_port):
        raise error(
            f"The {noun} URL contains credentials, a query or a fragment, and URLs are logged; "
            "remove them, and set credentials in the environment."
        )
    if has_port and not is_web:
        raise error(
            f"{text}: remove the port from the {noun} URL; use s3://BUCKET/PREFIX, and set the "
            "address of the S3 server in AWS_ENDPOINT_URL."
        )
    if scheme not in schemes or not host or scheme == "file":
        raise error(f"{redact(text)}: not a valid {noun} URL; {advice}.")
    return scheme
