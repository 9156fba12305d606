"""Commands of `prefect run`, which run a job as a Prefect flow."""

from flows.job_command import as_command
from flows.run_as_flow import run_as_flow

extract = as_command("extract", run_as_flow)
pretrain = as_command("pretrain", run_as_flow)
label = as_command("label", run_as_flow)
train = as_command("train", run_as_flow)
sweep = as_command("sweep", run_as_flow)
refresh = as_command("refresh", run_as_flow)
