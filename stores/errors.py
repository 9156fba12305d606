"""The one exception of this room whose text is meant for the user."""


class StoreError(Exception):
    """A store that cannot be used as asked: one sentence naming it, the reason and the remedy."""
