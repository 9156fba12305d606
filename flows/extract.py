"""The Prefect flow `extract`, the entry point of its deployment."""

from flows.jobs.extract import extract as job
from flows.prefect_job import as_flow

extract = as_flow(job)
