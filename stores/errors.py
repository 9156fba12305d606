"""The one exception of this room whose text is meant for the user, and what becomes one."""

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

REFUSED = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR}
AWAY = {
    *(errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN),
    *(errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH),
}
"""What a disk that fails says, and a network file system whose server is not there."""


NOT_ALLOWED = ("403 Forbidden", "401 Unauthorized", "InvalidAccessKeyId", "SignatureDoesNotMatch")
NO_RIGHT = (
    "may not be used with these credentials; give others in the usual places (AWS_ACCESS_KEY_ID "
    "and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, ~/.aws)."
)
NO_BUCKET = "NoSuchBucket"


class StoreError(Exception):
    """A store that cannot be used as asked: one sentence naming it, the reason and the remedy."""


class DamagedStore(StoreError):
    """A store that is not as it was written."""


class LeaseLost(StoreError):
    """Somebody else may write here now: whatever this holder has not written stays unwritten."""


class VersionConflict(Exception):
    """An object was changed since it was looked at, so it was not written over."""


def damaged_store_error(where: object, what: str, *, repairable: bool = True) -> DamagedStore:
    """The error for a store that is not as it was written, with what helps."""
    remedy = (
        "`enecg store verify --mend` sets back what is damaged, and the next extraction computes "
        "it again"
        if repairable
        else "remove its folder, and bring it back by `enecg store copy` from another root or "
        "extract again"
    )
    return DamagedStore(f"{where} is a damaged store: {what}; {remedy}.")


@contextmanager
def translate_errors(where: object) -> Iterator[None]:
    """Turn what a disk or an object store refuses into a sentence; other errors pass."""
    try:
        yield
    except VersionConflict as error:
        raise StoreError(
            f"{where} was changed by another writer meanwhile; find out who writes there (`enecg "
            "store show`), and run the same command again."
        ) from error
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise StoreError(f"{where} {NO_RIGHT}") from error
    except GenericError as error:
        said = str(error)
        if any(word in said for word in NOT_ALLOWED):
            raise StoreError(f"{where} {NO_RIGHT}") from error
        if NO_BUCKET in said or "404 Not FoundStores" in said:
            raise StoreError(f"{where}: there is no such bucket; make it first.") from error
        raise StoreError(
            f"{where} cannot be reached ({_first_line(error)}); what was whole stays whole, so "
            "see to the connection and the server's address (AWS_ENDPOINT_URL), and run the same "
            "command again."
        ) from error
    except BaseError as error:
        raise StoreError(f"{where} cannot be used: {_first_line(error)}.") from error
    except OSError as error:
        if error.errno not in REFUSED | AWAY:
            raise
        remedy = (
            "see to the disk or its connection"
            if error.errno in AWAY
            else "make room or get the right to it"
        )
        raise StoreError(
            f"{where} cannot be used ({error.strerror}); what was whole stays whole, so {remedy}, "
            "and run the same command again."
        ) from error


def _first_line(error: Exception) -> str:
    """What went wrong, without the server's document and the count of retries."""
    line = str(error).strip().splitlines()[0]
    return re.split(r", after \d+ retries|<\?xml", line)[0].strip().rstrip(".:")
