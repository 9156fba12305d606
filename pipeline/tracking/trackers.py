"""Experiment trackers: MLflow, Weights & Biases, and TensorBoard.

They write to a folder beside the run. Environment variables can select a server, except for
TensorBoard.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from enecg.errors import UserError
from pipeline.tracking.tracked_run import TrackedRun, open_tracked

EXPERIMENT = "enecg"
"""Default name of the experiment (MLflow) or project (Weights & Biases)."""


def _log_to_mlflow(run: TrackedRun) -> str:
    address = os.environ.get("MLFLOW_TRACKING_URI")
    if not address:
        address = (run.folder.resolve().parent / "mlruns").as_uri()
        # MLflow 3 rejects a folder without this variable. A database requires the full package.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        # Sending usage statistics requires network access.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow

    mlflow.set_tracking_uri(address)
    if not os.environ.get("MLFLOW_EXPERIMENT_NAME"):
        mlflow.set_experiment(EXPERIMENT)
    with mlflow.start_run(run_name=run.name):
        mlflow.log_params(run.parameters)
        mlflow.log_metrics(run.metrics)
        for file in run.files:
            mlflow.log_artifact(str(file))
    return address


def _log_to_wandb(run: TrackedRun) -> str:
    parent = run.folder.resolve().parent
    folder = parent / "wandb"
    mode = os.environ.setdefault("WANDB_MODE", "offline")
    # By default, wandb keeps the artifacts of offline runs in the home folder.
    os.environ.setdefault("WANDB_DATA_DIR", str(folder))
    os.environ.setdefault("WANDB_CACHE_DIR", str(parent))
    # Sending error reports requires network access.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    folder.mkdir(exist_ok=True)  # otherwise, wandb writes to the system's temporary folder
    with wandb.init(
        project=os.environ.get("WANDB_PROJECT", EXPERIMENT),
        name=run.name,
        dir=parent,
        config=run.parameters,
        settings=wandb.Settings(console="off", quiet=True),
    ) as logged:
        logged.summary.update(run.metrics)
        artifact = wandb.Artifact("results", type="report")
        for file in run.files:
            artifact.add_file(str(file))
        logged.log_artifact(artifact)
    return f"{folder} ({mode})"


def _log_to_tensorboard(run: TrackedRun) -> str:
    from torch.utils.tensorboard import SummaryWriter

    folder = run.folder.resolve().parent / "tensorboard" / run.name
    with SummaryWriter(str(folder)) as writer:
        for name, value in run.metrics.items():
            writer.add_scalar(name, value)
        for name, text in run.parameters.items():
            writer.add_text(f"parameters/{name}", text)
        for file in run.files:
            if file.suffix == ".md":
                writer.add_text(file.name, file.read_text(encoding="utf-8"))
    return str(folder)


@dataclass(frozen=True)
class Tracker:
    """An experiment tracker.

    Attributes:
        package: Package that is imported.
        requirement: Argument of `pip install`, quoted for a shell if necessary.
        log: Logs a run and returns the folder or address.
    """

    package: str
    requirement: str
    log: Callable[[TrackedRun], str]


TRACKERS = {
    "mlflow": Tracker("mlflow", "'mlflow-skinny>=3'", _log_to_mlflow),
    "wandb": Tracker("wandb", "wandb", _log_to_wandb),
    "tensorboard": Tracker("tensorboard", "tensorboard", _log_to_tensorboard),
}


def check_tracker(name: str) -> None:
    """Check that a tracker can be used.

    Args:
        name: Name of the tracker.

    Raises:
        UserError: The tracker does not exist or its package is not installed.
    """
    if name not in TRACKERS:
        raise UserError(f"Unknown tracker {name!r}; use {', '.join(TRACKERS)}.")
    tracker = TRACKERS[name]
    if find_spec(tracker.package) is None:
        raise UserError(
            f"--log {name} requires {tracker.package}; install it with pip install "
            f"{tracker.requirement}."
        )


def track_run(folder: Path, name: str) -> str:
    """Log a finished run to an experiment tracker.

    Exceptions of the tracker's package, for example for an unreachable server, are not converted.

    Args:
        folder: Run folder.
        name: Name of the tracker.

    Returns:
        The folder or address of the tracker.

    Raises:
        UserError: The tracker is unknown or not installed, or `folder` is damaged or not a run.
    """
    check_tracker(name)
    with open_tracked(folder) as run:
        return TRACKERS[name].log(run)
