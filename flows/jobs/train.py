"""Stage two: train heads and gate on stored embeddings, and evaluate them."""

from pathlib import Path
from typing import TYPE_CHECKING

from flows import parameters as p
from flows import pretraining_parameters as pp
from flows import training_parameters as tp
from flows.job import Artifact, current_job
from flows.progress import Progress, forward_logs

if TYPE_CHECKING:
    from pipeline.train import Results
    from pipeline.training.settings import TrainSettings


def train(
    *,
    dataset: p.Dataset,
    store: p.Store,
    out: tp.Out,
    tasks: tp.Tasks = (),
    own_tasks: tp.OwnTasks = (),
    labels: p.Labels = None,
    missing_values: p.MissingValues = (),
    experts: p.StoredExperts = (),
    weights: p.Weights = ("published",),
    pooling: p.Pooling = ("default",),
    precision: p.Precision = ("float32",),
    dtype: p.Dtype = "float16",
    expert_settings: p.ExpertSettings = (),
    short_records: p.ShortRecords = "refuse",
    derive_leads: p.DeriveLeads = False,
    device: p.Device = "auto",
    threads: tp.Threads = 0,
    memory_limit: tp.MemoryLimit = 4.0,
    batch_size: tp.TrainBatchSize = 64,
    repeats: tp.Repeats = 3,
    patients: tp.Patients = 10_000,
    ecgs: tp.Ecgs = "all",
    seed: p.Seed = 0,
    folds: p.Folds = None,
    fold_column: p.FoldColumn = "fold",
    train_folds: p.TrainFolds = (),
    validation_folds: p.ValidationFolds = (),
    test_folds: p.TestFolds = (),
    label_fractions: tp.LabelFractions = (),
    limit: p.Limit = None,
    records: p.Records = None,
    exclude_pretrained: pp.ExcludePretrained = False,
    pretraining_patients: pp.PretrainingPatients = (),
    baselines: tp.Baselines = None,
    leave_one_out: tp.LeaveOneOut = False,
    base: tp.Base = None,
    epochs: tp.Epochs = 100,
    patience: tp.Patience = 10,
    adaptation: tp.Adaptation = "linear-lora",
    rank: tp.Rank = 8,
    alpha: tp.Alpha = 16.0,
    dropout: tp.Dropout = 0.1,
    hidden: tp.Hidden = 128,
    learning_rate: tp.LearningRate = 1e-3,
    gate_depth: tp.GateDepth = 1,
    gate_hidden: tp.GateHidden = 128,
    gate_weights: tp.GateWeights = "task",
    gate_input: tp.GateInput = "spectrum",
    mixture: tp.GateMixture = "probabilities",
    top_k: tp.TopK = 0,
    balance: tp.Balance = 0.0,
    share: tp.Share = False,
    no_page: tp.NoPage = False,
    log: tp.Log = None,
) -> tuple[str, ...]:
    """Train heads and gate on stored embeddings and evaluate them on test patients.

    Training reads no waveforms and runs no experts.

    Returns:
        Lines of the report.
    """
    # Imported here because `--help` should not wait for torch.
    from pipeline.labels.folds import fold_options
    from pipeline.tracking.trackers import check_tracker, track_run
    from pipeline.training.label_efficiency import parse_fractions
    from pipeline.training.settings import FitSettings, TrainSettings
    from pipeline.waveforms.options import DecodeOptions

    if log is not None:
        check_tracker(log)
    settings = TrainSettings(
        tasks=p.split(tasks),
        own_tasks=p.split(own_tasks),
        labels=None if labels is None else str(labels),
        missing_values=p.split(missing_values),
        experts=p.split(experts),
        weights=p.split(weights),
        pooling=p.split(pooling),
        precision=p.split(precision),
        dtype=dtype,
        expert_settings=p.split(expert_settings),
        decoding=DecodeOptions(short_records, derive_leads),
        device=device,
        threads=threads,
        folds=fold_options(
            folds,
            fold_column,
            train=p.split(train_folds),
            validation=p.split(validation_folds),
            test=p.split(test_folds),
        ),
        repeats=repeats,
        patients=patients,
        label_fractions=parse_fractions(p.split(label_fractions)),
        ecgs=ecgs,
        seed=seed,
        limit=limit,
        records=None if records is None else str(records),
        exclude_pretrained=exclude_pretrained,
        pretraining_patients=tuple(map(str, pretraining_patients)),
        baselines=baselines,
        leave_one_out=leave_one_out,
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
            gate_input=gate_input,
            mixture=mixture,
            top_k=top_k,
            balance=balance,
            memory_limit=memory_limit,
        ),
    )
    job = current_job()
    artifact = Artifact(str(out), f"Training on {dataset} in {out}")
    with (
        forward_logs("pipeline", job.log),
        job.progress("train", "steps", artifact) as progress,
    ):
        results = job.step(
            f"train on {dataset}",
            train_heads,
            *(dataset, store, out, settings, progress, share, not no_page),
        )
    job.publish("results", artifact, results.markdown)
    lines = [f"Run: {results.folder}"]
    if results.page is not None:
        job.publish_page(artifact, results.page)
        lines.append(f"Page: {results.page}")
    if log is not None:
        lines.append(f"Logged to {log}: {track_run(results.folder, log)}")
    return (results.markdown, *lines)


def train_heads(
    dataset: str,
    store: str,
    out: Path,
    settings: "TrainSettings",
    progress: Progress,
    share: bool,
    page: bool,
) -> "Results":
    """Train and evaluate all tasks and repeats; see `pipeline.train.train`."""
    from pipeline.train import train as train_stage

    return train_stage(
        dataset, store, out, settings=settings, progress=progress, share=share, page=page
    )
