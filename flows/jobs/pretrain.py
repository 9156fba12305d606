"""Pretrain an expert on the waveforms of training patients, without labels."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from flows import parameters as p
from flows import pretraining_parameters as pp
from flows.job import Artifact, current_job
from flows.progress import Progress, forward_logs

if TYPE_CHECKING:
    from pipeline.pretrain import PretrainedWeights
    from pipeline.pretraining.settings import PretrainSettings


def pretrain(
    *,
    dataset: p.Dataset,
    out: pp.Out,
    expert: pp.Expert = "timesnet",
    sizes: pp.Sizes = (),
    epochs: pp.Epochs = 20,
    patience: pp.Patience = 5,
    batch_size: pp.BatchSize = 16,
    learning_rate: pp.LearningRate = 1e-3,
    mask_ratio: pp.MaskRatio = (0.125, 0.5),
    mask_length: pp.MaskLength = 1,
    validation: pp.Validation = 0.1,
    repeats: pp.Repeats = 3,
    patients: pp.Patients = 10_000,
    seed: p.Seed = 0,
    folds: p.Folds = None,
    fold_column: p.FoldColumn = "fold",
    train_folds: p.TrainFolds = (),
    validation_folds: p.ValidationFolds = (),
    test_folds: p.TestFolds = (),
    exclude_records: pp.ExcludeRecords = None,
    limit: p.Limit = None,
    records: p.Records = None,
    short_records: p.ShortRecords = "refuse",
    derive_leads: p.DeriveLeads = False,
    device: p.Device = "auto",
    threads: pp.Threads = None,
    checkpoint_minutes: pp.CheckpointMinutes = 5.0,
    share: pp.Share = False,
) -> tuple[str, ...]:
    """Pretrain an expert to reconstruct masked samples, on the ECGs of training patients.

    The test patients of train with the same --seed, --repeats, --patients, --limit and --records,
    or with the same folds, are excluded, so that results of train remain valid.

    Returns:
        Lines of the report.
    """
    # Imported here because `--help` should not wait for torch.
    from pipeline.labels.folds import fold_options
    from pipeline.pretraining.settings import PretrainSettings
    from pipeline.waveforms.options import DecodeOptions

    settings = PretrainSettings(
        sizes=p.split(sizes),
        epochs=epochs,
        patience=patience,
        batch_size=batch_size,
        learning_rate=learning_rate,
        mask_ratio=mask_ratio,
        mask_length=mask_length,
        validation=validation,
        seed=seed,
        repeats=repeats,
        patients=patients,
        folds=fold_options(
            folds,
            fold_column,
            train=p.split(train_folds),
            validation=p.split(validation_folds),
            test=p.split(test_folds),
        ),
        exclude_records=None if exclude_records is None else str(exclude_records),
        limit=limit,
        records=None if records is None else str(records),
        decoding=DecodeOptions(short_records, derive_leads),
        device=device,
        threads=threads,
        checkpoint_minutes=checkpoint_minutes,
    )
    job = current_job()
    artifact = Artifact(str(out), f"Pretraining of {expert} on {dataset} in {out}")
    with (
        forward_logs("pipeline", job.log),
        job.progress("pretrain", "records", artifact) as progress,
    ):
        result = job.step(
            f"pretrain {expert} on {dataset}",
            pretrain_expert,
            *(dataset, out, expert, settings, progress, job.log, share),
        )
    lines = result.lines()
    job.publish("pretraining", artifact, "\n\n".join(lines))
    return lines


def pretrain_expert(
    dataset: str,
    out: Path,
    expert: str,
    settings: "PretrainSettings",
    progress: Progress,
    log: Callable[[str], None],
    share: bool,
) -> "PretrainedWeights":
    """Pretrain an expert, or resume its pretraining; see `pipeline.pretrain.pretrain`."""
    from pipeline.pretrain import pretrain as pretrain_stage

    return pretrain_stage(
        dataset, out, expert, settings=settings, progress=progress, log=log, share=share
    )
