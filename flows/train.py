"""The Prefect flow `train`, the entry point of its deployment."""

from flows.jobs.train import train as job
from flows.prefect_job import as_flow

train = as_flow(job)
