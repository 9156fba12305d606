"""The Prefect flow `sweep`, the entry point of its deployment."""

from flows.jobs.sweep import sweep as job
from flows.prefect_job import as_flow

sweep = as_flow(job)
