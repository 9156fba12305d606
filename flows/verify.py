"""The Prefect flow `verify`, the entry point of its deployment."""

from flows.jobs.verify import verify as job
from flows.prefect_job import as_flow

verify = as_flow(job)
