"""The Prefect flow `refresh`, the entry point of its deployment."""

from flows.jobs.refresh import refresh as job
from flows.prefect_job import as_flow

refresh = as_flow(job)
