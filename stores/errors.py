"""The one exception of this room whose text is meant for the user."""

from pathlib import Path


class StoreError(Exception):
    """A store that cannot be used as asked: one sentence naming it, the reason and the remedy."""


def damaged(path: Path, what: str) -> StoreError:
    """The error for a store that is not as it was written."""
    return StoreError(
        f"{path} is a damaged store: {what}; extract again, and if that does not "
        "mend it bring it back from a copy, or remove the folder and extract anew."
    )
