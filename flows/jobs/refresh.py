"""The nightly job: extract the missing embeddings, then train."""

from datetime import datetime
from pathlib import Path

from flows import parameters as p
from flows import pretraining_parameters as pp
from flows import training_parameters as tp
from flows.job import current_job
from flows.jobs.extract import extract
from flows.jobs.train import train
from pipeline.extraction.options import DEFAULT_EXPERTS


def refresh(
    *,
    dataset: p.Dataset,
    store: p.Store,
    out: p.RefreshOut,
    experts: p.Experts = DEFAULT_EXPERTS,
    weights: p.Weights = ("published",),
    pooling: p.Pooling = ("default",),
    expert_settings: p.ExpertSettings = (),
    tasks: tp.Tasks = (),
    own_tasks: tp.OwnTasks = (),
    labels: p.Labels = None,
    missing_values: p.MissingValues = (),
    repeats: tp.Repeats = 3,
    patients: tp.Patients = 10_000,
    seed: p.Seed = 0,
    device: p.Device = "auto",
    workers: p.Workers = None,
    devices: p.Devices = (),
    scheduler: p.ExtractScheduler = None,
    precision: p.Precision = ("float32",),
    dtype: p.Dtype = "float16",
    short_records: p.ShortRecords = "refuse",
    derive_leads: p.DeriveLeads = False,
    batch_size: p.BatchSize = None,
    limit: p.Limit = None,
    records: p.Records = None,
    exclude_pretrained: pp.ExcludePretrained = False,
    pretraining_patients: pp.PretrainingPatients = (),
    wait_minutes: p.WaitMinutes = 60.0,
) -> tuple[str, ...]:
    """Extract the missing embeddings, then train. The run folder is named by the current time.

    Returns:
        Lines of both reports.
    """
    # Imported here because `--help` should not wait for safetensors.
    from pipeline.runs.output_folder import check_output

    job = current_job()
    # Check the folder before the extraction, because training creates it hours later.
    check_output(new_run_folder(out))
    extracted = job.run(
        extract,
        dataset=dataset,
        store=store,
        experts=experts,
        weights=weights,
        pooling=pooling,
        expert_settings=expert_settings,
        batch_size=batch_size,
        device=device,
        workers=workers,
        devices=devices,
        scheduler=scheduler,
        wait_minutes=wait_minutes,
        precision=precision,
        dtype=dtype,
        short_records=short_records,
        derive_leads=derive_leads,
        limit=limit,
        records=records,
    )
    trained = job.run(
        train,
        dataset=dataset,
        store=store,
        out=new_run_folder(out),
        tasks=tasks,
        own_tasks=own_tasks,
        labels=labels,
        missing_values=missing_values,
        experts=experts,
        weights=weights,
        pooling=pooling,
        expert_settings=expert_settings,
        precision=precision,
        dtype=dtype,
        short_records=short_records,
        derive_leads=derive_leads,
        device=device,
        repeats=repeats,
        patients=patients,
        seed=seed,
        limit=limit,
        records=records,
        exclude_pretrained=exclude_pretrained,
        pretraining_patients=pretraining_patients,
    )
    return (*extracted, *trained)


def new_run_folder(out: Path) -> Path:
    """Return the subfolder of a folder of runs that is named by the current date and time."""
    return out / f"{datetime.now().astimezone():%Y-%m-%dT%H%M%S}"
