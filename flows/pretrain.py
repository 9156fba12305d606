"""The Prefect flow `pretrain`, the entry point of its deployment."""

from flows.jobs.pretrain import pretrain as job
from flows.prefect_job import as_flow

pretrain = as_flow(job)
