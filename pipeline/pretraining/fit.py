"""Training of a model to reconstruct masked samples."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from enecg.errors import UserError
from enecg.experts.reconstruction import Reconstruction, draw_mask, squared_errors
from pipeline.datasets.base import Dataset
from pipeline.extraction.decoding import decode_batches
from pipeline.pretraining.interpolation import interpolation_errors
from pipeline.pretraining.patients import Rows
from pipeline.pretraining.settings import PretrainSettings
from pipeline.pretraining.state import EpochErrors, PretrainingState, save_state
from pipeline.waveforms.errors import UnreadableRecord

Progress = Callable[[int, int], None]
Log = Callable[[str], None]


@dataclass(frozen=True)
class Fit:
    """Training of a model to reconstruct masked samples.

    Attributes:
        dataset: The data set.
        model: The model, on `device`.
        reconstruction: Functions that prepare the model's input and reconstruct masked samples.
        settings: Settings of the training.
        device: Torch device.
        folder: Folder that the state is written to.
        log: Called with a line before training and after each epoch.
        progress: Called as ``progress(done, total)`` with record counts over all epochs.
        share: Whether other users may read the state, subject to the umask.
    """

    dataset: Dataset
    model: nn.Module
    reconstruction: Reconstruction
    settings: PretrainSettings
    device: str
    folder: Path
    log: Log
    progress: Progress
    share: bool = False

    def run(self, state: PretrainingState) -> None:
        """Train until the last epoch, or until the validation error no longer decreases.

        Args:
            state: The state to start from, updated in place and written to the folder after every
                epoch and every `settings.checkpoint_minutes`.

        Raises:
            UserError: No training or no validation record is readable, or the training diverges.
        """
        optimizer = torch.optim.Adam(self.model.parameters(), self.settings.learning_rate)
        generator = torch.Generator()
        generator.manual_seed(self.settings.seed)
        if state.model:
            self.model.load_state_dict(state.model)
            optimizer.load_state_dict(state.optimizer)
            generator.set_state(state.generator)
        if not state.epochs:
            self._finish_epoch(state, None)
            self._save(state, optimizer, generator)
        while not state.is_stopped(self.settings.epochs, self.settings.patience):
            self._train_epoch(state, optimizer, generator)
            if not state.error_count:
                raise UserError(
                    f"No training record of {self.dataset.namespace} is readable; check the data "
                    "set with enecg data check."
                )
            self._finish_epoch(state, state.error_sum / state.error_count)
            state.batch, state.error_sum, state.error_count = 0, 0.0, 0
            self._save(state, optimizer, generator)

    def _train_epoch(
        self,
        state: PretrainingState,
        optimizer: torch.optim.Optimizer,
        generator: torch.Generator,
    ) -> None:
        settings = self.settings
        epoch = state.finished_epochs + 1
        order = np.random.default_rng([settings.seed, epoch]).permutation(state.train.numpy())
        saved = time.monotonic()
        self.model.train()
        for series in self._read(order[state.batch * settings.batch_size :], state):
            if series is not None:
                mask = self._mask(series, generator)
                errors = squared_errors(self.model, self.reconstruction, series, mask)
                optimizer.zero_grad()
                errors.mean().backward()
                optimizer.step()
                state.error_sum += float(errors.detach().double().sum())
                state.error_count += len(errors)
            state.batch += 1
            self._report(state, min(len(order), state.batch * settings.batch_size))
            if time.monotonic() - saved >= 60 * settings.checkpoint_minutes:
                self._save(state, optimizer, generator)
                saved = time.monotonic()

    def _finish_epoch(self, state: PretrainingState, training: float | None) -> None:
        """Compute the validation error and keep the model if it is the best."""
        validation = self._validate(state)
        epoch = 0 if training is None else state.finished_epochs + 1
        if not np.isfinite(validation):
            raise UserError(
                f"The validation error of epoch {epoch} is not finite; use a lower "
                "--learning-rate and another --out."
            )
        state.epochs.append(EpochErrors(epoch, training, validation))
        if state.best_epoch.epoch == epoch:
            state.best = {
                name: tensor.detach().cpu().clone()
                for name, tensor in self.model.state_dict().items()
            }
        trained = "" if training is None else f"training error {training:.4f}, "
        self.log(f"Epoch {epoch}: {trained}validation error {validation:.4f}.")

    def _validate(self, state: PretrainingState) -> float:
        """Return the mean error on validation records, with the same masks in every epoch."""
        generator = torch.Generator()
        generator.manual_seed(self.settings.seed + 1)
        total = interpolated = 0.0
        count = done = 0
        self.model.eval()
        with torch.inference_mode():
            for series in self._read(state.validation.numpy(), state):
                done += self.settings.batch_size
                if series is None:
                    continue
                mask = self._mask(series, generator)
                errors = squared_errors(self.model, self.reconstruction, series, mask)
                total += float(errors.double().sum())
                count += len(errors)
                if state.interpolation is None:
                    interpolated += float(interpolation_errors(series.cpu(), mask.cpu()).sum())
                self._report(state, len(state.train), min(len(state.validation), done))
        if not count:
            raise UserError(
                f"No validation record of {self.dataset.namespace} is readable; increase "
                "--validation, or check the data set with enecg data check."
            )
        if state.interpolation is None:
            state.interpolation = interpolated / count
        return total / count

    def _mask(self, series: Tensor, generator: torch.Generator) -> Tensor:
        """Draw masks on the CPU, so that they are the same on every device."""
        batch, leads, samples = series.shape
        shape = (batch, leads, samples)
        settings = self.settings
        return draw_mask(shape, settings.mask_ratio, settings.mask_length, generator).to(
            series.device
        )

    def _read(
        self, rows: Rows, state: PretrainingState
    ) -> Iterator[Float[Tensor, "batch lead time"] | None]:
        """Yield each batch of rows as the model's input, without its unreadable records.

        Only two batches are in memory at a time. A batch without a readable record is None.
        """
        all_rows = np.arange(len(self.dataset.index()))
        for batch in decode_batches(self.dataset, all_rows, rows, lambda: self.settings.batch_size):
            signals = []
            for record in batch:
                if isinstance(record.ecg, UnreadableRecord):
                    state.unreadable[record.row] = (record.ecg.reason, record.ecg.detail)
                else:
                    signals.append(record.ecg)
            if not signals:
                yield None
                continue
            ecg = torch.from_numpy(np.stack(signals)).to(self.device)
            yield self.reconstruction.prepare(ecg)

    def _report(self, state: PretrainingState, trained: int, validated: int = 0) -> None:
        """Report progress in records; validation records count like training records."""
        train, validation = len(state.train), len(state.validation)
        if not state.epochs:
            done = validated
        else:
            done = validation + state.finished_epochs * (train + validation) + trained + validated
        self.progress(done, validation + self.settings.epochs * (train + validation))

    def _save(
        self,
        state: PretrainingState,
        optimizer: torch.optim.Optimizer,
        generator: torch.Generator,
    ) -> None:
        state.model = self.model.state_dict()
        state.optimizer = optimizer.state_dict()
        state.generator = generator.get_state()
        save_state(state, self.folder, share=self.share)
