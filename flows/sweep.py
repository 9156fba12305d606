"""The flow of a sweep: search for settings on stored embeddings and validation patients."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from flows import parameters as p
from flows import training_parameters as tp
from flows.progress import Progress, progress_bar, run_log
from flows.tasks import by_reference, fail_on_user_error, return_user_errors

if TYPE_CHECKING:
    from pipeline.training.settings import TrainSettings
    from pipeline.training.sweep_space import Space


@flow(name="sweep", flow_run_name="sweep {dataset}")
@p.documented
@fail_on_user_error
def sweep(
    *,
    dataset: p.Dataset,
    store: p.Store,
    out: tp.SweepOut,
    trials: tp.Trials = 40,
    at_once: tp.AtOnce = 8,
    learning_rates: tp.LearningRates = (1e-4, 1e-2),
    ranks: tp.Ranks = (2, 4, 8, 16),
    adaptations: tp.Adaptations = ("lora", "full", "linear", "shared-lora"),
    gate_depths: tp.GateDepths = (1, 2),
    poolings: tp.Poolings = ("default",),
    tasks: tp.Tasks = (),
    own_tasks: tp.OwnTasks = (),
    labels: p.Labels = None,
    experts: p.StoredExperts = (),
    weights: p.Weights = ("published",),
    dtype: p.Dtype = "float16",
    expert_settings: p.ExpertSettings = (),
    short_records: p.ShortRecords = "refuse",
    derive_leads: p.DeriveLeads = False,
    device: p.Device = "auto",
    batch_size: tp.TrainBatchSize = 64,
    patients: tp.Patients = 10_000,
    ecgs: tp.Ecgs = "all",
    seed: p.Seed = 0,
    limit: p.Limit = None,
    epochs: tp.Epochs = 100,
    patience: tp.Patience = 10,
) -> tuple[str, ...]:
    """Search for the head and gate settings that score best on validation patients.

    An interrupted sweep resumes. A finished sweep continues if `trials` is larger.

    Returns:
        Lines of the report.
    """
    # Imported here because `--help` should not wait for torch.
    from pipeline.training.settings import FitSettings, TrainSettings
    from pipeline.waveforms.options import DecodeOptions

    logger = get_run_logger()
    settings = TrainSettings(
        tasks=p.split(tasks),
        own_tasks=p.split(own_tasks),
        labels=None if labels is None else str(labels),
        experts=p.split(experts),
        weights=p.split(weights),
        dtype=dtype,
        expert_settings=p.split(expert_settings),
        decoding=DecodeOptions(short_records, derive_leads),
        device=device,
        patients=patients,
        ecgs=ecgs,
        seed=seed,
        limit=limit,
        fit=FitSettings(batch_size=batch_size, epochs=epochs, patience=patience),
    )
    space = search_space(
        learning_rates=learning_rates,
        ranks=ranks,
        adaptations=adaptations,
        gate_depths=gate_depths,
        poolings=poolings,
    )
    with progress_bar("sweep", "trials", run_log(logger)) as progress:
        lines = try_settings(
            dataset,
            store,
            out,
            by_reference(settings),
            by_reference(space),
            trials,
            at_once,
            by_reference(progress),
        )
    if isinstance(lines, Exception):
        raise lines
    create_markdown_artifact(key="sweep", markdown=lines[0])
    for line in lines:
        logger.info(line)
    return lines


def search_space(**parameters: Any) -> "Space":
    """Return the search space for the flow's parameters; other parameters are ignored."""
    from pipeline.training.sweep_space import Space

    fields = {
        "learning_rates": "learning_rate",
        "ranks": "rank",
        "adaptations": "adaptation",
        "gate_depths": "gate_depth",
        "poolings": "pooling",
    }
    values: dict[str, Any] = {
        fields[name]: p.split(value) if name in ("adaptations", "poolings") else tuple(value)
        for name, value in parameters.items()
        if name in fields
    }
    return Space(**values)


@task(name="try settings", cache_policy=NO_CACHE)
@return_user_errors
def try_settings(
    dataset: str,
    store: str,
    out: Path,
    settings: "TrainSettings",
    space: "Space",
    trials: int,
    at_once: int,
    progress: Progress,
) -> tuple[str, ...]:
    """Run all trials, write the sweep's page and return the lines of its report."""
    from pipeline.report.sweep_page import PAGE, write_sweep
    from pipeline.training.sweep import SweepSettings
    from pipeline.training.sweep import sweep as sweep_stage

    sweep_settings = SweepSettings(settings, space, trials, at_once)
    result = sweep_stage(dataset, store, out, sweep_settings, progress=progress)
    options = " ".join(
        f"--{name.replace('_', '-')} {f'{value:.3g}' if isinstance(value, float) else value}"
        for name, value in result.best.items()
    )
    return (write_sweep(result), f"Best options for train: {options}", f"Page: {out / PAGE}")
