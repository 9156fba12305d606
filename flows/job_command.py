"""Table of the jobs and their parameter checks, and construction of commands that run a job."""

import functools
from collections.abc import Callable
from typing import Any

from enecg.errors import UserError
from flows import checks
from flows.jobs.extract import extract as extract_job
from flows.jobs.label import label as label_job
from flows.jobs.pretrain import pretrain as pretrain_job
from flows.jobs.refresh import refresh as refresh_job
from flows.jobs.sweep import sweep as sweep_job
from flows.jobs.train import train as train_job
from flows.output import print_text
from stores.url import check_url, redact

Job = Callable[..., tuple[str, ...]]
"""A function in `flows.jobs`, which returns the lines of its report."""
Check = Callable[..., None]
"""A function that is called with a job's parameters and raises an error if they are invalid."""

JOBS: dict[str, tuple[Job, Check]] = {
    "extract": (extract_job, checks.check_experts),
    "pretrain": (pretrain_job, checks.check_pretraining),
    "label": (label_job, checks.check_labels),
    "train": (train_job, checks.check_training),
    "sweep": (sweep_job, checks.check_sweep),
    "refresh": (refresh_job, checks.check_refresh),
}
"""Each job by name, with a fast check of its parameters."""

RunJob = Callable[[Job, Check, dict[str, Any]], tuple[str, ...]]
"""A function that checks the parameters, runs the job with them, and returns the job's report."""


def check_secrets(parameters: dict[str, Any]) -> None:
    """Check that parameters can be logged.

    Args:
        parameters: Values of the parameters by name.

    Raises:
        UserError: A parameter contains a URL with credentials, a query or a fragment.
    """
    for name, value in parameters.items():
        for text in map(str, value if isinstance(value, tuple) else (value,)):
            if redact(text) != text:
                option = name.replace("_", "-")
                raise UserError(
                    f"--{option}: {redact(text)} contains credentials, a query or a fragment, and "
                    "parameters are logged; remove them, and set credentials in the environment."
                )


def as_command(name: str, run: RunJob) -> Callable[..., None]:
    """Return a command with the parameters of a job. The command prints the job's report.

    Args:
        name: Name of the job in `JOBS`.
        run: Called with the job, its check and the command's arguments by parameter name, unless
            the command is a dry run.

    Returns:
        The command.
    """
    job, check = JOBS[name]

    @functools.wraps(job)
    def command(**parameters: Any) -> None:
        # Check the URL before Prefect stores the parameters, because it may contain credentials.
        if "store" in parameters:
            check_url(parameters["store"])
        check_secrets(parameters)
        # A dry run needs neither Prefect nor a separate check.
        is_dry_run = parameters.get("dry_run", False)
        for line in job(**parameters) if is_dry_run else run(job, check, parameters):
            print_text(line)

    return command
