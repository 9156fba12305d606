"""Exceptions of the stores, and the translation of I/O errors into them."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from obstore.exceptions import (
    BaseError,
    GenericError,
    PermissionDeniedError,
    UnauthenticatedError,
)

NO_SPACE_OR_PERMISSION = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR),
}
UNAVAILABLE = {
    *(errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN),
    *(errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH),
}
"""Errors of a failing disk, or of a network file system without its server."""
DENIED = ("403 Forbidden", "401 Unauthorized", "InvalidAccessKeyId", "SignatureDoesNotMatch")
"""Text of an obstore error that means that access was denied."""
NO_BUCKET = ("NoSuchBucket", "404 Not Found")
"""Text of an obstore error that means that the bucket does not exist."""
ACCESS_DENIED = (
    "access denied with these credentials; set others in AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY, AWS_PROFILE or ~/.aws"
)
NO_SUCH_BUCKET = "the bucket does not exist; create it first"
RERUN = "completed rows are kept, so {remedy}, and run the same command again"


class StoreError(Exception):
    """An error to show to the user: which store, what is wrong and what to do."""


class DamagedStore(StoreError):
    """A store whose contents are not as they were written."""


class LeaseLost(StoreError):
    """Another process has taken over the lease; nothing more may be written with it."""


class VersionConflict(Exception):
    """A value was changed by another process since its version was tracked or opened."""


def damaged_store_error(where: object, what: str, *, repairable: bool = True) -> DamagedStore:
    """Return the error for a damaged store.

    Args:
        where: Location of the store.
        what: What is damaged.
        repairable: Whether ``enecg store verify --mend`` can repair it.

    Returns:
        The error, to be raised by the caller.
    """
    remedy = (
        "run `enecg store verify --mend` to set the damaged rows to absent, and extract again"
        if repairable
        else "remove its folder, then restore it with `enecg store copy` from another root or "
        "extract again"
    )
    return DamagedStore(f"{where} is damaged: {what}; {remedy}.")


@contextmanager
def translate_errors(where: object) -> Iterator[None]:
    """Translate errors of a file system or an object store into a `StoreError`.

    Args:
        where: Location to name in the message.

    Raises:
        StoreError: The block raised `VersionConflict`, an obstore error, or an `OSError` that
            means missing space, permission or connection.
        OSError: Any other `OSError` is passed on, as are exceptions of other types.
    """
    try:
        yield
    except VersionConflict as error:
        raise StoreError(
            f"{where} was changed by another writer at the same time; find out who writes to it "
            "(`enecg store show`), and run the same command again."
        ) from error
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise StoreError(f"{where}: {ACCESS_DENIED}.") from error
    except GenericError as error:
        text = str(error)
        if any(word in text for word in DENIED):
            raise StoreError(f"{where}: {ACCESS_DENIED}.") from error
        if any(word in text for word in NO_BUCKET):
            raise StoreError(f"{where}: {NO_SUCH_BUCKET}.") from error
        remedy = "check the connection and the server's address (AWS_ENDPOINT_URL)"
        raise StoreError(
            f"{where} is unreachable ({_first_line(error)}); {RERUN.format(remedy=remedy)}."
        ) from error
    except BaseError as error:
        raise StoreError(f"{where} cannot be used: {_first_line(error)}.") from error
    except OSError as error:
        if error.errno in UNAVAILABLE:
            remedy = "check the disk or its connection"
        elif error.errno in NO_SPACE_OR_PERMISSION:
            remedy = "free some space or get write permission"
        else:
            raise
        raise StoreError(
            f"{where} cannot be used ({error.strerror}); {RERUN.format(remedy=remedy)}."
        ) from error


def _first_line(error: Exception) -> str:
    """Return the cause, without the retry count and the server's XML document."""
    line = str(error).strip().splitlines()[0]
    return re.split(r", after \d+ retries|<\?xml", line)[0].strip().rstrip(".:")
