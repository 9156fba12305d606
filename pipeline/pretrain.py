"""Pretrain an expert on the waveforms of training patients, without labels."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from enecg.experts.base import build_seeded
from pipeline.datasets.base import Dataset
from pipeline.datasets.registry import resolve_dataset
from pipeline.extraction.request import resolve_device
from pipeline.extraction.threads import choose_threads, use_threads
from pipeline.pretraining import folder as files
from pipeline.pretraining.fit import Fit
from pipeline.pretraining.patients import choose_records
from pipeline.pretraining.settings import (
    PretrainSettings,
    check_settings,
    find_reconstruction,
    parse_sizes,
)
from pipeline.pretraining.state import EpochErrors, PretrainingState, load_state
from pipeline.runs.output_folder import lock_folder, translate_write_errors, write_file
from pipeline.training.pretraining_patients import format_patients, patients_file


@dataclass(frozen=True)
class PretrainedWeights:
    """Results of a pretraining run.

    Attributes:
        expert: Name of the expert.
        weights: The safetensors file, to be used with ``--weights EXPERT@FILE``.
        patients_file: List of the training and validation patients, one id per line.
        patients: Number of training and validation patients.
        excluded: Number of patients whose records are not used; see `PretrainSettings`.
        epochs: Errors before training and after each epoch.
        interpolation: Validation error of linear interpolation.
        unreadable: Number of unreadable training and validation records.
    """

    expert: str
    weights: Path
    patients_file: Path
    patients: int
    excluded: int
    epochs: tuple[EpochErrors, ...]
    interpolation: float
    unreadable: int

    @property
    def best(self) -> EpochErrors:
        """The epoch with the lowest validation error; its weights are in the file."""
        return min(self.epochs, key=lambda epoch: epoch.validation)

    def lines(self) -> tuple[str, ...]:
        """Return the lines of the report."""
        return (
            f"Validation error of {self.expert}: {self.epochs[0].validation:.4f} before training, "
            f"{self.best.validation:.4f} after epoch {self.best.epoch} of "
            f"{self.epochs[-1].epoch}, {self.interpolation:.4f} by linear interpolation (mean "
            "squared error of masked samples; a lead has variance 1).",
            f"Patients: {self.patients:,} used, {self.excluded:,} excluded.",
            f"Skipped {self.unreadable:,} unreadable ECGs; see "
            f"{self.weights.parent / files.UNREADABLE}.",
            f"Curve: {self.weights.parent / files.CURVE} and {files.PLOT}",
            f"Patient list: {self.patients_file}",
            f"Weights: {self.weights}; use them with --weights {self.expert}@{self.weights}",
        )


def pretrain(
    dataset: str | Dataset,
    out: str | Path,
    expert: str = "timesnet",
    *,
    settings: PretrainSettings | None = None,
    progress: Callable[[int, int], None] | None = None,
    log: Callable[[str], None] | None = None,
    share: bool = False,
) -> PretrainedWeights:
    """Pretrain an expert to reconstruct masked samples of the ECGs of training patients.

    Test patients of `enecg.train` with the same split are excluded; see `PretrainSettings`. An
    interrupted pretraining resumes, with the same result on a CPU. A finished pretraining continues
    if `settings.epochs` and `settings.patience` allow further epochs.

    Args:
        dataset: A data set, or its spec such as ``"mimic-iv-ecg:/data/mimic"``.
        out: Folder for the weights, the list of patients, the curve and the state.
        expert: Name of the expert: ``timesnet`` or ``dlinear``.
        settings: Patients, model and training. Default: those of `PretrainSettings`.
        progress: Called as ``progress(done, total)`` after each batch, with the record counts of
            all epochs together.
        log: Called with lines of text, such as the errors of each epoch.
        share: Whether other users may read the files; by default only their owner can, because
            they contain patient ids.

    Returns:
        Paths and errors.

    Raises:
        UserError: An option is invalid, too few patients or readable records are left, the training
            diverges, or `out` is not writable, is in use or contains other files.
    """
    settings = settings or PretrainSettings()
    check_settings(settings)
    reconstruction = find_reconstruction(expert)
    sizes = parse_sizes(settings.sizes, expert)
    source = resolve_dataset(dataset, settings.decoding)
    device = resolve_device(settings.device)
    log = log or (lambda line: None)
    folder = Path(out).expanduser()
    definition = files.define(source, expert, sizes, settings)
    files.check_folder(folder, definition)
    model = build_seeded(lambda: reconstruction.make(**sizes), settings.seed)
    with translate_write_errors(folder):
        folder.mkdir(mode=0o777 if share else 0o700, parents=True, exist_ok=True)
    with (
        lock_folder(folder),
        translate_write_errors(folder),
        use_threads(choose_threads(settings.threads)),
    ):
        state = load_state(folder) or _start(source, settings, log)
        patients = _list_patients(source, state)
        weights = folder / f"{expert}.safetensors"
        files.write_definition(folder, definition, share=share)
        # The list is written before the weights, so weights without a list cannot exist.
        write_file(patients_file(weights), lambda path: path.write_bytes(patients), share=share)
        torch.backends.cudnn.allow_tf32 = False
        fit = Fit(
            source,
            model.to(device),
            reconstruction,
            settings,
            device,
            folder,
            log,
            progress or (lambda done, total: None),
            share,
        )
        fit.run(state)
        files.write_curve(folder, state.epochs, share=share)
        files.write_unreadable(folder, source, state, share=share)
        files.write_weights(weights, state, definition, patients, share=share)
        assert state.interpolation is not None
        result = PretrainedWeights(
            expert,
            weights,
            patients_file(weights),
            patients.count(b"\n"),
            state.excluded,
            tuple(state.epochs),
            state.interpolation,
            len(state.unreadable),
        )
        _draw_curve(result, folder, source.namespace, share=share)
    return result


def _start(
    source: Dataset, settings: PretrainSettings, log: Callable[[str], None]
) -> PretrainingState:
    records = choose_records(source, settings, log)
    log(
        f"{len(records.train):,} training and {len(records.validation):,} validation records; "
        f"{records.excluded:,} patients are excluded."
    )
    return PretrainingState(
        torch.from_numpy(records.train), torch.from_numpy(records.validation), records.excluded
    )


def _list_patients(source: Dataset, state: PretrainingState) -> bytes:
    rows = np.concatenate([state.train.numpy(), state.validation.numpy()])
    return format_patients(source.index().patient_id[rows])


def _draw_curve(result: PretrainedWeights, folder: Path, namespace: str, *, share: bool) -> None:
    # Imported here because only the plot needs matplotlib.
    from pipeline.report.pretraining_plot import plot_pretraining

    title = f"{result.expert} pretrained on {result.patients:,} patients of {namespace}"
    figure = plot_pretraining(result.epochs, result.best.epoch, result.interpolation, title)
    write_file(
        folder / files.PLOT,
        lambda path: figure.savefig(path, format="png", dpi=150),
        share=share,
    )
