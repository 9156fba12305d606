"""The flow `sweep`, entry point of its deployment."""

from flows.jobs.sweep import sweep as job
from flows.prefect_job import as_flow

sweep = as_flow(job)
