"""The jobs and their checks, and commands that run them."""

import functools
from collections.abc import Callable
from typing import Any

from flows import checks
from flows.jobs.extract import extract as extract_job
from flows.jobs.label import label as label_job
from flows.jobs.refresh import refresh as refresh_job
from flows.jobs.sweep import sweep as sweep_job
from flows.jobs.train import train as train_job
from flows.output import print_text
from stores.url import check_url

Job = Callable[..., tuple[str, ...]]
Check = Callable[..., None]

JOBS: dict[str, tuple[Job, Check]] = {
    "extract": (extract_job, checks.check_experts),
    "label": (label_job, checks.check_labels),
    "train": (train_job, checks.check_training),
    "sweep": (sweep_job, checks.check_sweep),
    "refresh": (refresh_job, checks.check_refresh),
}
"""Jobs with a fast check of their parameters."""

RunJob = Callable[[Job, Check, dict[str, Any]], tuple[str, ...]]


def as_command(name: str, run: RunJob) -> Callable[..., None]:
    """Return a command with the parameters of a job that prints the job's lines.

    Args:
        name: Name of the job.
        run: Runs the job with these parameters.

    Returns:
        The command.
    """
    job, check = JOBS[name]

    @functools.wraps(job)
    def command(**parameters: Any) -> None:
        # Must come first: Prefect stores the parameters, and a URL may contain credentials.
        if "store" in parameters:
            check_url(parameters["store"])
        for line in run(job, check, parameters):
            print_text(line)

    return command
