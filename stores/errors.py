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

DISK_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free some space"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "get read and write permission"),
    errno.ENOTDIR: "move the file that is in place of a folder",
    # A failing disk, or a network file system with an unreachable server.
    **dict.fromkeys(
        (
            *(errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN),
            *(errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH),
        ),
        "check the disk or its connection",
    ),
}
"""Remedy for each `OSError.errno`; errors with other values are not translated."""
ACCESS_DENIED_PATTERNS = (
    *("403 Forbidden", "401 Unauthorized", "InvalidAccessKeyId", "SignatureDoesNotMatch"),
)
"""Substrings of obstore errors for denied access."""
MISSING_BUCKET_PATTERNS = ("NoSuchBucket", "404 Not Found")
"""Substrings of obstore errors for a bucket that does not exist."""
ACCESS_DENIED_MESSAGE = (
    "access denied with these credentials; set others in AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY, AWS_PROFILE or ~/.aws"
)
MISSING_BUCKET_MESSAGE = "the bucket does not exist; create it first"
RERUN_ADVICE = "Completed rows are kept; {remedy}, then run the same command again"


class StoreError(Exception):
    """An error whose message names the store, the problem and the remedy for the user."""


class DamagedStore(StoreError):
    """The data or metadata of a store is corrupt, incomplete or inconsistent."""


class LeaseLost(StoreError):
    """Another process has taken over the lease, so this process may no longer write."""


class UnsafeFile(StoreError):
    """A file or folder is a link, is not a regular file or is too large, or its key is invalid."""


class VersionConflict(Exception):
    """Another process changed a value after this process had tracked its version or opened it."""


def damaged_store_error(location: object, problem: str, *, repairable: bool = True) -> DamagedStore:
    """Return the error for a damaged store; see `describe_damage` for the arguments."""
    return DamagedStore(describe_damage(location, problem, repairable=repairable))


def describe_damage(location: object, problem: str, *, repairable: bool = True) -> str:
    """Return the message for a damaged store.

    Args:
        location: Location of the store.
        problem: Description of the damage.
        repairable: Whether ``enecg store verify --repair`` can repair it.

    Returns:
        The message, with the remedy.
    """
    remedy = (
        "run `enecg store verify --repair` to mark the damaged rows as absent, then extract again"
        if repairable
        else "remove its folder, then restore it with `enecg store copy` from another root or "
        "extract again"
    )
    return f"{location} is damaged: {problem}; {remedy}."


def access_denied_error(location: object, error: PermissionError) -> StoreError:
    """Return the error for a file or folder that is skipped because reading is not permitted."""
    return StoreError(
        f"{location} cannot be read ({error.strerror}) and is skipped; ask its owner for "
        "permission to read it."
    )


def too_large(location: object, size: int) -> str:
    """Return the message for a file or object whose size in bytes is too large to read at once."""
    return f"{location} has {size:,} bytes, too many to read at once; remove it."


@contextmanager
def translate_errors(location: object) -> Iterator[None]:
    """Translate errors of a file system or an object store into `StoreError`.

    Args:
        location: Location to name in the message.

    Raises:
        StoreError: The block raised `VersionConflict`, an obstore error, or an `OSError` that
            `DISK_REMEDIES` lists.
        OSError: The block raised another `OSError`. Other exceptions are not translated either.
    """
    try:
        yield
    except VersionConflict as error:
        raise StoreError(
            f"{location} was modified concurrently by another writer; run `enecg store show` to "
            "identify the writer, and run the same command again after it finishes."
        ) from error
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise StoreError(f"{location}: {ACCESS_DENIED_MESSAGE}.") from error
    except GenericError as error:
        text = str(error)
        if any(pattern in text for pattern in ACCESS_DENIED_PATTERNS):
            raise StoreError(f"{location}: {ACCESS_DENIED_MESSAGE}.") from error
        if any(pattern in text for pattern in MISSING_BUCKET_PATTERNS):
            raise StoreError(f"{location}: {MISSING_BUCKET_MESSAGE}.") from error
        remedy = "check the connection and the server's address (AWS_ENDPOINT_URL)"
        raise StoreError(
            f"{location} is unreachable ({_first_line(error)}). "
            f"{RERUN_ADVICE.format(remedy=remedy)}."
        ) from error
    except BaseError as error:
        raise StoreError(f"{location} cannot be accessed: {_first_line(error)}.") from error
    except OSError as error:
        if error.errno not in DISK_REMEDIES:
            raise
        remedy = DISK_REMEDIES[error.errno]
        raise StoreError(
            f"{location} cannot be accessed ({error.strerror}). "
            f"{RERUN_ADVICE.format(remedy=remedy)}."
        ) from error


def _first_line(error: Exception) -> str:
    """Return the first line of the message, without retry count and XML response."""
    line = str(error).strip().splitlines()[0]
    return re.split(r", after \d+ retries|<\?xml", line)[0].strip().rstrip(".:")
