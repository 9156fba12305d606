"""Options of an explanation."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ExplainOptions:
    """Options of an explanation.

    Attributes:
        cohort: Number of records to draw at random; None if the ids of the records are given.
        class_name: Class or label to explain. None selects the positive class of a binary task,
            otherwise the most probable class or label of each record.
        repeat: Index of the repeat whose heads and gate are explained.
        steps: Number of steps of the integrated gradients.
        references: Number of ECGs that are averaged to obtain the baseline.
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
