"""Commands of `enecg` that run a job. They use Prefect only if a Prefect server is configured."""

import os
from typing import Any

from flows.environment import has_prefect_server
from flows.job_command import Check, Job, as_command


def _run(job: Job, check: Check, parameters: dict[str, Any]) -> tuple[str, ...]:
    if not has_prefect_server(os.environ):
        check(**parameters)
        return job(**parameters)
    # Imported here because importing Prefect takes seconds.
    from flows.run_as_flow import run_as_flow

    return run_as_flow(job, check, parameters)


extract = as_command("extract", _run)
pretrain = as_command("pretrain", _run)
label = as_command("label", _run)
train = as_command("train", _run)
sweep = as_command("sweep", _run)
refresh = as_command("refresh", _run)
