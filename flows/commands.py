"""The flows as commands: checked, run in this process, their last lines printed."""

import functools
from collections.abc import Callable
from typing import Any

from prefect import Flow
from prefect.settings import get_current_settings

from flows.extract import extract as extract_flow
from flows.parameters import split
from flows.progress import to_stderr
from flows.refresh import refresh as refresh_flow
from flows.train import train as train_flow

Lines = tuple[str, ...]


def _as_command(flow: Flow[Any, Lines]) -> Callable[..., None]:
    """A function with the flow's own parameters, to be given to a command line."""

    @functools.wraps(flow.fn)
    def command(**parameters: Any) -> None:
        _check(parameters["dataset"], parameters["experts"])
        if not get_current_settings().api.url:
            to_stderr(
                "Starting the embedded Prefect server: some ten seconds. "
                "(PREFECT_API_URL names a running one.)"
            )
        for line in flow(**parameters):
            print(line)

    return command


def _check(dataset: str, experts: Lines) -> None:
    """Find the commonest mistakes before a server is started for them."""
    # Imported here, for they bring torch, and asking for help should not wait for it.
    from enecg.errors import UserError
    from enecg.experts.registry import names
    from pipeline.datasets.registry import open_dataset

    open_dataset(dataset)
    for expert in split(experts):
        if expert not in names():
            raise UserError(f"There is no expert {expert!r}; there are {', '.join(names())}.")


extract = _as_command(extract_flow)
train = _as_command(train_flow)
refresh = _as_command(refresh_flow)
