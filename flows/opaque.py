"""Arguments that Prefect hands to a task as they are."""

from typing import TypeVar, cast

from prefect.utilities.annotations import quote

Value = TypeVar("Value")


def opaque(value: Value) -> Value:
    """The value for a task, which Prefect neither walks through, nor copies, nor hashes.

    A plan holds models and a data set's whole index: looking for futures in it takes long.
    """
    return cast(Value, quote(value))
