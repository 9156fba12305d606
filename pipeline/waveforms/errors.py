"""The exception for a record that cannot be decoded."""


class UnreadableRecord(Exception):
    """A record that cannot be decoded to an ECG.

    Callers count the record with its reason and continue with the next one.

    Args:
        reason: One of `pipeline.waveforms.failures.REASONS`.
        detail: One sentence for the user that names the file and the remedy.

    Attributes:
        reason: The reason.
        detail: The sentence, with ``?`` in place of unprintable characters.
    """

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        self.detail = "".join(c if c.isprintable() else "?" for c in detail)
        super().__init__(self.detail)
