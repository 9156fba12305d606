"""Options of an explanation."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ExplainOptions:
    """How ECGs are explained.

    Attributes:
        cohort: Number of records to draw if none are named.
        class_name: Explained class or label; by default the positive class of a binary task, or
            the most probable one of each record.
        repeat: Index of the repeat whose heads and gate are explained.
        steps: Steps of the integrated gradients.
        references: Number of ECGs whose mean is the baseline.
        seed: Seed of the drawn records and references.
        device: Torch device; ``"auto"`` selects a GPU if available.
    """

    cohort: int | None = None
    class_name: str | None = None
    repeat: int = 0
    steps: int = 16
    references: int = 16
    seed: int = 0
    device: str = "auto"
