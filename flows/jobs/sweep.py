"""Search for the head and gate settings that score best on validation patients."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows import parameters as p
from flows import pretraining_parameters as pp
from flows import training_parameters as tp
from flows.job import Artifact, current_job
from flows.progress import Progress, forward_logs

if TYPE_CHECKING:
    from pipeline.training.settings import TrainSettings
    from pipeline.training.sweep_space import Space


def sweep(
    *,
    dataset: p.Dataset,
    store: p.Store,
    out: tp.SweepOut,
    trials: tp.Trials = 40,
    at_once: tp.AtOnce = 8,
    learning_rates: tp.LearningRates = (1e-4, 1e-2),
    ranks: tp.Ranks = (2, 4, 8, 16),
    adaptations: tp.Adaptations = ("linear-lora", "lora", "full", "linear", "shared-lora"),
    gate_depths: tp.GateDepths = (1, 2),
    poolings: tp.Poolings = ("default",),
    tasks: tp.Tasks = (),
    own_tasks: tp.OwnTasks = (),
    labels: p.Labels = None,
    missing_values: p.MissingValues = (),
    experts: p.StoredExperts = (),
    weights: p.Weights = ("published",),
    precision: p.Precision = ("float32",),
    dtype: p.Dtype = "float16",
    expert_settings: p.ExpertSettings = (),
    short_records: p.ShortRecords = "refuse",
    derive_leads: p.DeriveLeads = False,
    device: p.Device = "auto",
    batch_size: tp.TrainBatchSize = 64,
    patients: tp.Patients = 10_000,
    ecgs: tp.Ecgs = "all",
    seed: p.Seed = 0,
    folds: p.Folds = None,
    fold_column: p.FoldColumn = "fold",
    train_folds: p.TrainFolds = (),
    validation_folds: p.ValidationFolds = (),
    test_folds: p.TestFolds = (),
    limit: p.Limit = None,
    records: p.Records = None,
    exclude_pretrained: pp.ExcludePretrained = False,
    pretraining_patients: pp.PretrainingPatients = (),
    epochs: tp.Epochs = 100,
    patience: tp.Patience = 10,
) -> tuple[str, ...]:
    """Search for the head and gate settings that score best on validation patients.

    An interrupted sweep resumes. A finished sweep continues if `trials` is larger than before.

    Returns:
        Lines of the report.
    """
    # Imported here because `--help` should not wait for torch.
    from pipeline.labels.folds import fold_options
    from pipeline.report.sweep_page import PAGE
    from pipeline.training.settings import FitSettings, TrainSettings
    from pipeline.waveforms.options import DecodeOptions

    settings = TrainSettings(
        tasks=p.split(tasks),
        own_tasks=p.split(own_tasks),
        labels=None if labels is None else str(labels),
        missing_values=p.split(missing_values),
        experts=p.split(experts),
        weights=p.split(weights),
        precision=p.split(precision),
        dtype=dtype,
        expert_settings=p.split(expert_settings),
        decoding=DecodeOptions(short_records, derive_leads),
        device=device,
        folds=fold_options(
            folds,
            fold_column,
            train=p.split(train_folds),
            validation=p.split(validation_folds),
            test=p.split(test_folds),
        ),
        patients=patients,
        ecgs=ecgs,
        seed=seed,
        limit=limit,
        records=None if records is None else str(records),
        exclude_pretrained=exclude_pretrained,
        pretraining_patients=tuple(map(str, pretraining_patients)),
        fit=FitSettings(batch_size=batch_size, epochs=epochs, patience=patience),
    )
    space = search_space(
        learning_rates=learning_rates,
        ranks=ranks,
        adaptations=adaptations,
        gate_depths=gate_depths,
        poolings=poolings,
    )
    job = current_job()
    artifact = Artifact(str(out), f"Sweep on {dataset} in {out}")
    with (
        forward_logs("pipeline", job.log),
        job.progress("sweep", "trials", artifact) as progress,
    ):
        lines = job.step(
            f"sweep on {dataset}",
            try_settings,
            *(dataset, store, out, settings, space, trials, at_once, progress),
        )
    job.publish("sweep", artifact, lines[0])
    job.publish_page(artifact, out / PAGE)
    return lines


def search_space(**parameters: Any) -> "Space":
    """Return the search space that the job's parameters define; ignore those of other settings."""
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
    """Run the missing trials, write the sweep's page and return the lines of its report."""
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
