"""The Prefect flow `label`, the entry point of its deployment."""

from flows.jobs.label import label as job
from flows.prefect_job import as_flow

label = as_flow(job)
