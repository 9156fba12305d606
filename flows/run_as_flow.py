"""Run a job as a Prefect flow in this process."""

from typing import Any

from prefect.settings import get_current_settings

from flows.embedded_server import start_server
from flows.job_command import Check, Job
from flows.output import log_to_stderr
from flows.prefect_job import as_flow
from flows.preflight import check_prefect


def run_as_flow(job: Job, check: Check, parameters: dict[str, Any]) -> tuple[str, ...]:
    """Check the parameters of a job, and run it as a flow.

    If no Prefect server is configured, an embedded one is started.

    Args:
        job: A job of `flows.job_command.JOBS`.
        check: The check of the job's parameters.
        parameters: Arguments of the job by parameter name.

    Returns:
        Lines of the job's report.

    Raises:
        UserError: Prefect's environment or a parameter is invalid, or the job raises it.
        StoreError: A store is unusable.
    """
    # Call this before `check`, which is slow because it imports torch.
    check_prefect()
    check(**parameters)
    if not get_current_settings().api.url:
        log_to_stderr(
            "Starting the embedded Prefect server, which takes about ten seconds. "
            "Set PREFECT_API_URL to use a running server."
        )
        start_server()
    lines: tuple[str, ...] = as_flow(job)(**parameters)
    return lines
