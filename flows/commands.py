"""Commands that check the parameters of a flow, run it in this process and print its report."""

import functools
from collections.abc import Callable
from typing import Any

from prefect import Flow
from prefect.settings import get_current_settings

from flows import checks
from flows.embedded_server import start_server
from flows.extract import estimate
from flows.extract import extract as extract_flow
from flows.label import label as label_flow
from flows.preflight import check_prefect
from flows.progress import log_to_stderr
from flows.refresh import refresh as refresh_flow
from flows.sweep import sweep as sweep_flow
from flows.train import train as train_flow
from stores.url import check_url


def _as_command(
    flow: Flow[Any, tuple[str, ...]], check: Callable[..., None]
) -> Callable[..., None]:
    """Return a command with the flow's parameters that calls `check`, then runs the flow."""

    @functools.wraps(flow.fn)
    def command(**parameters: Any) -> None:
        # Must come first: Prefect stores the parameters, and a URL may contain credentials.
        if "store" in parameters:
            check_url(parameters["store"])
        # Before `check`, which imports torch.
        check_prefect()
        check(**parameters)
        if not get_current_settings().api.url:
            log_to_stderr(
                "Starting the embedded Prefect server, which takes about ten seconds. "
                "Set PREFECT_API_URL to use a running server."
            )
            start_server()
        for line in flow(**parameters):
            print(line)

    return command


_extract = _as_command(extract_flow, checks.check_experts)


@functools.wraps(extract_flow.fn)
def extract(*, dry_run: bool = False, **parameters: Any) -> None:
    """Run the extraction; with `dry_run`, print an estimate without starting a server."""
    if not dry_run:
        _extract(**parameters)
        return
    for line in estimate(**parameters):
        print(line)


label = _as_command(label_flow, checks.check_labels)
train = _as_command(train_flow, checks.check_training)
sweep = _as_command(sweep_flow, checks.check_sweep)
refresh = _as_command(refresh_flow, checks.check_refresh)
