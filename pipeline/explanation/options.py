"""Options of an explanation."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from enecg.checked_fields import Count, check_fields


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

    Raises:
        UserError: A value has the wrong type or is out of range.
    """

    cohort: Count | None = None
    class_name: str | None = None
    repeat: Annotated[int, Field(ge=0)] = 0
    steps: Count = 16
    references: Count = 16
    seed: Annotated[int, Field(ge=0)] = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        check_fields(self)
