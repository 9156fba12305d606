"""Conversion of a store root's URL to a `Location`."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from stores.local import LocalRoot
from stores.location import Location
from stores.objects import ObjectRoot
from stores.url import check_url


def locate(url: str | Path) -> Location:
    """Return the location of a store root.

    Credentials are read from the environment, a profile or the cloud instance; a URL that contains
    credentials is rejected.

    Args:
        url: A directory, ``file:///PATH``, ``s3://BUCKET/PREFIX``, ``gs://`` or ``az://``. A
            directory need not exist.

    Raises:
        StoreError: The URL is invalid, or the bucket is unreachable or does not exist.
    """
    text = str(url)
    scheme = check_url(text)
    if not scheme:
        return Location(LocalRoot(Path(text).expanduser().absolute()))
    if scheme == "file":
        return Location(LocalRoot(Path(unquote(urlsplit(text).path))))

    return Location(ObjectRoot.connect(text.rstrip("/")))
