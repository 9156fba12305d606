"""Conversion of the path or URL of a store root to a `Location`."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from stores.local import LocalRoot
from stores.location import Location
from stores.objects import ObjectRoot
from stores.url import check_url


def locate(url: str | Path) -> Location:
    """Return the location of a store root.

    Credentials are read from environment variables, a profile or the metadata of the cloud
    instance. URLs that contain credentials are rejected.

    Args:
        url: Path of a directory, ``file:///PATH``, ``s3://BUCKET/PREFIX``, ``gs://BUCKET/PREFIX``
            or ``az://CONTAINER/PREFIX``. A directory need not exist; a bucket must exist.

    Returns:
        The location.

    Raises:
        StoreError: The URL is invalid, the bucket is unreachable or does not exist, or credentials
            are missing or rejected.
    """
    text = str(url)
    scheme = check_url(text)
    if not scheme:
        return Location(LocalRoot(Path(text).expanduser().absolute()))
    if scheme == "file":
        return Location(LocalRoot(Path(unquote(urlsplit(text).path))))
    return Location(ObjectRoot.connect(text.rstrip("/")))
