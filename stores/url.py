"""Validation of the URLs that name a store root or a data set."""

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from stores.errors import StoreError

OBJECT_SCHEMES = ("s3", "gs", "az")
WEB_SCHEMES = ("https", "http")
STORE_SCHEMES = ("file", *OBJECT_SCHEMES)


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
        noun: What the URL names, for error messages.
        schemes: Accepted schemes.
        error: Exception class to raise.

    Returns:
        The scheme, or an empty string for a directory.

    Raises:
        Exception: An `error` if the URL is malformed, its scheme is not accepted, or it contains
            credentials, a query or a fragment. URLs are logged, so a message about a URL that may
            contain credentials does not repeat it.
    """
    text = str(url)
    other = "https://HOST/PATH" if "https" in schemes else "file:///PATH"
    accepted = f"give a directory, s3://BUCKET/PREFIX or {other}"
    scheme, separator, rest = text.partition("://")
    if not separator:
        if text.startswith(tuple(f"{name}:" for name in (*STORE_SCHEMES, *WEB_SCHEMES))):
            raise error(f"{text}: the {noun} URL has no `://` after its scheme; {accepted}.")
        return ""
    host = rest.partition("/")[0]
    if scheme == "file" and scheme in schemes and host in ("", "localhost"):
        return scheme
    try:
        urlsplit(text)
    except ValueError as malformed:
        raise error(
            f"The {noun} URL has an invalid host, such as an unclosed bracket; {accepted}."
        ) from malformed
    # Outside web servers, "@" is suspicious anywhere, as a secret may contain slashes, and so is
    # ":" in the host, as no bucket name contains one.
    is_web = scheme in WEB_SCHEMES and scheme in schemes
    if "@" in (host if is_web else rest) or (":" in host and not is_web) or set(rest) & {*"?#"}:
        raise error(
            f"The {noun} URL contains credentials, a query or a fragment, and URLs are logged; "
            "give the URL without them, and put credentials in the environment."
        )
    if scheme not in schemes or not host:
        raise error(f"{text}: not a valid {noun} URL; {accepted}.")
    return scheme
