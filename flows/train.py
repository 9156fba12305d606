"""Stage two as a flow: heads and gate from the store alone, and the table of results."""

from pathlib import Path
from typing import TYPE_CHECKING

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from flows import parameters as p
from flows.progress import Progress, progress_bar, run_log
from flows.tasks import fail_on_user_error, opaque, return_user_errors

if TYPE_CHECKING:
    from pipeline.train import Results
    from pipeline.training.settings import TrainSettings


@flow(name="train", flow_run_name="train {dataset}")
@p.documented
@fail_on_user_error
def train(
    *,
    dataset: p.Dataset,
    store: p.Store,
    out: p.Out,
    tasks: p.Tasks = (),
    own_tasks: p.OwnTasks = (),
    labels: p.Labels = None,
    experts: p.StoredExperts = (),
    weights: p.Weights = ("published",),
    pooling: p.Pooling = ("default",),
    dtype: p.Dtype = "float16",
    device: p.Device = "auto",
    batch_size: p.TrainBatchSize = 64,
    repeats: p.Repeats = 3,
    patients: p.Patients = 10_000,
    ecgs: p.Ecgs = "all",
    seed: p.Seed = 0,
    limit: p.Limit = None,
    base: p.Base = None,
    epochs: p.Epochs = 100,
    patience: p.Patience = 10,
    adaptation: p.Adaptation = "lora",
    rank: p.Rank = 8,
    alpha: p.Alpha = 16.0,
    dropout: p.Dropout = 0.1,
    hidden: p.Hidden = 128,
    learning_rate: p.LearningRate = 1e-3,
    gate_depth: p.GateDepth = 1,
    gate_hidden: p.GateHidden = 128,
    gate_weights: p.GateWeights = "task",
    top_k: p.TopK = 0,
    balance: p.Balance = 0.0,
) -> tuple[str, ...]:
    """Train the heads and the gate from the store, and tell how good they are.

    Opens no ECG and runs no expert.
    """
    # Imported here, for they bring torch, and asking for help should not wait for it.
    from flows.artifacts import progress_artifact
    from pipeline.training.settings import FitSettings, TrainSettings

    logger = get_run_logger()
    settings = TrainSettings(
        tasks=p.split(tasks),
        own_tasks=p.split(own_tasks),
        labels=None if labels is None else str(labels),
        experts=p.split(experts),
        weights=p.split(weights),
        pooling=p.split(pooling),
        dtype=dtype,
        device=device,
        repeats=repeats,
        patients=patients,
        ecgs=ecgs,
        seed=seed,
        limit=limit,
        base=None if base is None else str(base),
        fit=FitSettings(
            batch_size=batch_size,
            epochs=epochs,
            patience=patience,
            adaptation=adaptation,
            rank=rank,
            alpha=alpha,
            dropout=dropout,
            hidden=hidden,
            learning_rate=learning_rate,
            gate_depth=gate_depth,
            gate_hidden=gate_hidden,
            gate_weights=gate_weights,
            top_k=top_k,
            balance=balance,
        ),
    )
    with progress_bar("train", "steps", run_log(logger)) as line:
        page = progress_artifact(f"Training on {dataset}")

        def progress(done: int, total: int) -> None:
            line(done, total)
            page(done, total)

        results = train_heads(dataset, store, out, opaque(settings), opaque(progress))
    if isinstance(results, Exception):
        raise results
    create_markdown_artifact(key="results", markdown=results.markdown)
    lines = (results.markdown, f"Run: {results.folder}", f"Page: {results.page}")
    for told in lines:
        logger.info(told)
    return lines


@task(name="train heads", cache_policy=NO_CACHE)
@return_user_errors
def train_heads(
    dataset: str,
    store: str,
    out: Path,
    settings: "TrainSettings",
    progress: Progress,
) -> "Results":
    """Train all tasks and repeats; a user's mistake is returned, for a raised one is logged."""
    from pipeline.train import train as train_stage

    return train_stage(dataset, store, out, settings=settings, progress=progress)
