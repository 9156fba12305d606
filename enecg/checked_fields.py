"""Validation of the fields of options and settings."""

from functools import cache
from typing import Annotated, Any, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError

from enecg.errors import UserError

Count = Annotated[int, Field(ge=1)]
"""An integer of at least 1."""

Positive = Annotated[float, Field(gt=0)]
"""A number above 0."""

NotNegative = Annotated[float, Field(ge=0)]
"""A number of at least 0."""


def check_fields(settings: Any) -> None:
    """Check that the fields of a dataclass have their annotated types and ranges.

    Args:
        settings: The dataclass.

    Raises:
        UserError: A value has another type or is out of range.
    """
    for name, adapter in _adapters(settings.__class__).items():
        value = getattr(settings, name)
        try:
            adapter.validate_python(value)
        except ValidationError as error:
            problem = error.errors()[0]["msg"].replace("Input ", "it ", 1)
            raise UserError(f"{name} is {value!r}; {problem}.") from None


@cache
def _adapters(kind: type) -> dict[str, TypeAdapter[Any]]:
    hints = get_type_hints(kind, include_extras=True)
    return {name: TypeAdapter(hint) for name, hint in hints.items()}
