"""Settings tried from the stores alone, on validation patients, as a flow."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from flows import parameters as p
from flows.progress import Progress, progress_bar, run_log
from flows.tasks import fail_on_user_error, opaque, return_user_errors

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
    out: p.SweepOut,
    trials: p.Trials = 40,
    at_once: p.AtOnce = 8,
    learning_rates: p.LearningRates = (1e-4, 1e-2),
    ranks: p.Ranks = (2, 4, 8, 16),
    adaptations: p.Adaptations = ("lora", "full", "linear", "shared-lora"),
    gate_depths: p.GateDepths = (1, 2),
    poolings: p.Poolings = ("default",),
    tasks: p.Tasks = (),
    own_tasks: p.OwnTasks = (),
    labels: p.Labels = None,
    experts: p.StoredExperts = (),
    weights: p.Weights = ("published",),
    dtype: p.Dtype = "float16",
    device: p.Device = "auto",
    batch_size: p.TrainBatchSize = 64,
    patients: p.Patients = 10_000,
    ecgs: p.Ecgs = "all",
    seed: p.Seed = 0,
    limit: p.Limit = None,
    epochs: p.Epochs = 100,
    patience: p.Patience = 10,
) -> tuple[str, ...]:
    """Try settings of heads and gate, and tell which do best on validation patients.

    A sweep that was stopped goes on where it was; more trials are added by a larger number.
    """
    # Imported here, for they bring torch, and asking for help should not wait for it.
    from pipeline.training.settings import FitSettings, TrainSettings

    logger = get_run_logger()
    settings = TrainSettings(
        tasks=p.split(tasks),
        own_tasks=p.split(own_tasks),
        labels=None if labels is None else str(labels),
        experts=p.split(experts),
        weights=p.split(weights),
        dtype=dtype,
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
            dataset, store, out, opaque(settings), opaque(space), trials, at_once, opaque(progress)
        )
    if isinstance(lines, Exception):
        raise lines
    create_markdown_artifact(key="sweep", markdown=lines[0])
    for told in lines:
        logger.info(told)
    return lines


def search_space(**parameters: Any) -> "Space":
    """Of a sweep's parameters those that are tried; what is not given is as usual."""
    from pipeline.training.sweep_space import Space

    tried = {
        "learning_rates": "learning_rate",
        "ranks": "rank",
        "adaptations": "adaptation",
        "gate_depths": "gate_depth",
        "poolings": "pooling",
    }
    given: dict[str, Any] = {
        tried[name]: p.split(value) if name in ("adaptations", "poolings") else tuple(value)
        for name, value in parameters.items()
        if name in tried
    }
    return Space(**given)


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
    """All trials; a user's mistake is returned, for a raised one is logged."""
    from pipeline.report.sweep_page import PAGE, write_sweep
    from pipeline.training.sweep import SweepSettings
    from pipeline.training.sweep import sweep as sweep_stage

    searched = SweepSettings(settings, space, trials, at_once)
    done = sweep_stage(dataset, store, out, searched, progress=progress)
    chosen = " ".join(
        f"--{name.replace('_', '-')} {value:.3g}"
        if isinstance(value, float)
        else f"--{name.replace('_', '-')} {value}"
        for name, value in done.best.items()
    )
    return (write_sweep(done), f"Best for train: {chosen}", f"Page: {out / PAGE}")
