"""The exception for a record that cannot be decoded."""


class UnreadableRecord(Exception):
    """A record that cannot be decoded to an ECG.

    Callers count the record with its reason and continue with the next one.

    Attributes:
        reason: One of `pipeline.waveforms.decode.REASONS`.
        detail: One sentence for the user that names the file and the remedy.
    """

    def __init__(self, reason: str, detail: str) -> None:
        """Store the reason and use the detail as the exception's message."""
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
