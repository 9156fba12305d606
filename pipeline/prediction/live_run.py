"""A run as a live model: its experts on waveforms, then heads and gate.

```python
run = load_run("runs/first")                     # opens the run; loads no expert yet
prediction = run.predict(signal_mv, 500, leads)  # 100 to 2000 Hz, leads in any order
prediction.tasks["age"].value, prediction.tasks["age"].interval
```

The parts of a `LiveRun` can also be used on their own, for example for attributions:

- `LiveRun.experts`: `enecg.experts.Expert` by name, in the order of the gate's outputs. They are
  loaded on first access with the weights, pooling, precision and settings of the run's stores, and
  rejected if their identity differs from the one in ``provenance.json``.
  ``expert.embed(ecg)`` maps ``(batch, 12, 5000)`` float32 in mV at 500 Hz to ``(batch, feature)``.
  Gradients flow to ``ecg`` if the expert is a `torch.nn.Module`; ``measurements`` is not.
- `LiveRun.leads`: `enecg.leads.LeadsSample`, whose ``embed`` computes the gate's input.
- `LiveRun.repeats`: one `Predictor` per selected repeat, with ``heads[expert]`` (a `TaskHeads`
  module), ``gate``, ``targets[task]`` and ``thresholds``.
- `LiveRun.decode`: an array of 100 to 2000 Hz, with leads in any order, as ``(12, 5000)``.
- `LiveRun.embed`: embeddings of ECGs as `Features`, rounded to the data type of the run's stores,
  without gradients; ``predictor.outputs(features)`` and ``predictor.gate_weights(features)`` take
  them.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32
from numpy.typing import ArrayLike
from torch import Tensor, nn

from enecg.ecg_format import LEADS
from enecg.errors import UserError
from enecg.experts import Expert
from enecg.leads import LeadsSample
from pipeline.extraction.batch_size import BatchSize
from pipeline.extraction.plan import NOT_FINITE
from pipeline.extraction.request import resolve_device
from pipeline.prediction.calibrated_repeat import CalibratedRepeat, load_calibrated
from pipeline.prediction.combine import combine, relative_distances
from pipeline.prediction.outliers import describe_distances, find_nonfinite
from pipeline.prediction.predicted import NOTICE, EcgPrediction, RefusedEcg
from pipeline.prediction.run_experts import load_run_experts
from pipeline.runs.predictor import Predictor, load_predictor
from pipeline.runs.saved_run import SavedRun
from pipeline.training.features import Features
from pipeline.waveforms.arrays import decode_array, read_array
from pipeline.waveforms.decode import to_ecg
from pipeline.waveforms.errors import UnreadableRecord
from pipeline.waveforms.options import DecodeOptions
from pipeline.waveforms.quality import examine


class LiveRun:
    """The experts, heads and gate of a run, applied to ECGs.

    Args:
        saved: The saved run.
        repeats: Indices of the repeats to use.
        device: Torch device.
        weights: Checkpoints in place of the run's; see `load_run_experts`.
        experts: Experts that are not registered.

    Attributes:
        saved: The saved run.
        repeats: Heads and gate of each selected repeat.
        device: Torch device.
        leads: Computes the gate's input.
    """

    def __init__(
        self,
        saved: SavedRun,
        repeats: Sequence[int],
        device: str,
        weights: Sequence[str] = (),
        experts: Sequence[Expert] = (),
    ) -> None:
        self.saved = saved
        self.device = device
        self.repeats: tuple[Predictor, ...] = tuple(
            load_predictor(saved.folder, repeat, device) for repeat in repeats
        )
        self._numbers = tuple(repeats)
        self.leads = LeadsSample()
        self._weights = tuple(weights)
        self._objects = tuple(experts)

    @cached_property
    def experts(self) -> dict[str, Expert]:
        """The experts by name, in the order of the gate's outputs; torch modules are on the device.

        Raises:
            UserError: An expert or its weights are unavailable, or differ from those of the run.
        """
        # As in extraction: TF32 would make embeddings differ between GPU models.
        torch.backends.cudnn.allow_tf32 = False
        experts = load_run_experts(self.saved, self._weights, self._objects)
        for expert in experts.values():
            if isinstance(expert, nn.Module):
                expert.to(self.device)
        return experts

    @cached_property
    def calibrated(self) -> tuple[CalibratedRepeat, ...]:
        """The repeats with their calibration, which is empty for runs of earlier versions.

        Raises:
            UserError: A file of the calibration is missing or damaged.
        """
        return tuple(
            load_calibrated(self.saved, number, predictor, self.device)
            for number, predictor in zip(self._numbers, self.repeats, strict=True)
        )

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks."""
        return tuple(self.repeats[0].targets)

    @property
    def untrained(self) -> dict[str, str]:
        """Weights of the experts with random weights, by name."""
        weights = {store["expert"]: str(store["weights"]) for store in self.saved.stores}
        return {
            name: weights[name]
            for name in self.saved.experts
            if weights[name].startswith("random:")
        }

    @property
    def notice(self) -> str:
        """Intended use, and the untrained experts."""
        if not self.untrained:
            return NOTICE
        names = ", ".join(f"{name} ({weights})" for name, weights in self.untrained.items())
        return f"{NOTICE} Untrained experts: {names}."

    @property
    def decoding(self) -> DecodeOptions:
        """The options with which the run's records were decoded."""
        return DecodeOptions.from_json(self.saved.stores[0])

    @property
    def dtype(self) -> torch.dtype:
        """The data type of the run's stores."""
        return torch.float16 if self.saved.stores[0]["dtype"] == "float16" else torch.float32

    def decode(
        self, signal_mv: ArrayLike, rate_hz: float, leads: Sequence[str] = LEADS
    ) -> Float32[np.ndarray, "12 5000"]:
        """Convert an array with the decoding options of the run; see `decode_array`.

        Args:
            signal_mv: Samples in mV, shape (lead, time). Only the first 10 s are used.
            rate_hz: Sampling rate in Hz, 100 to 2000.
            leads: Name of each lead, in any order and case.

        Returns:
            Ten seconds in mV at 500 Hz, leads in the order of `enecg.ecg_format.LEADS`.

        Raises:
            UnreadableRecord: The array cannot be used.
        """
        return decode_array(signal_mv, rate_hz, leads, options=self.decoding)

    def embed(self, ecg: Float32[Tensor, "batch 12 5000"]) -> Features:
        """Compute the embeddings of ECGs by all experts, and the gate's input.

        Args:
            ecg: ECGs in mV at 500 Hz, leads in the order of `enecg.ecg_format.LEADS`.

        Returns:
            Embeddings rounded to the data type of the run's stores, like stored ones. The record
            ids are the positions in the batch.

        Raises:
            UserError: An expert is unavailable, or the device is out of memory.
        """
        size = BatchSize(None, self.device)
        ecg = ecg.to(self.device)

        def compute(expert: Expert) -> Tensor:
            return torch.from_numpy(size.embed(expert, ecg)).to(self.dtype).to(self.device)

        return Features(
            np.arange(len(ecg)),
            {name: compute(expert) for name, expert in self.experts.items()},
            compute(self.leads),
        )

    def predict(
        self,
        signal_mv: ArrayLike,
        rate_hz: float,
        leads: Sequence[str] = LEADS,
        *,
        coverage: float = 0.9,
        tasks: Sequence[str] = (),
    ) -> EcgPrediction:
        """Predict all tasks for one ECG.

        Args:
            signal_mv: Samples in mV, shape (lead, time); the first 10 s are used.
            rate_hz: Sampling rate in Hz, 100 to 2000.
            leads: Name of each lead, in any order and case.
            coverage: Coverage of intervals and prediction sets, above 0 and below 1.
            tasks: Names of the tasks; all by default.

        Returns:
            The prediction, with warnings about the signal and the embeddings.

        Raises:
            UserError: `coverage` or a task is invalid; see also `embed`.
            UnreadableRecord: The ECG cannot be used; the exception has a reason and a detail.
        """
        signals = read_array(signal_mv, rate_hz, leads, options=self.decoding)
        ecg = torch.from_numpy(to_ecg(signals, self.decoding))[None]
        (prediction,) = self.predict_batch(ecg, ["signal"], coverage=coverage, tasks=tasks)
        if isinstance(prediction, RefusedEcg):
            raise UnreadableRecord(prediction.reason, prediction.detail)
        findings = (finding.detail for finding in examine(signals, self.decoding))
        return replace(prediction, warnings=(*findings, *prediction.warnings))

    def predict_batch(
        self,
        ecg: Float32[Tensor, "batch 12 5000"],
        records: Sequence[int | str],
        *,
        coverage: float = 0.9,
        tasks: Sequence[str] = (),
    ) -> list[EcgPrediction | RefusedEcg]:
        """Predict tasks for a batch of decoded ECGs.

        Args:
            ecg: ECGs in mV at 500 Hz, leads in the order of `enecg.ecg_format.LEADS`.
            records: Id of each ECG.
            coverage: Coverage of intervals and prediction sets, above 0 and below 1.
            tasks: Names of the tasks; all by default.

        Returns:
            One element per ECG, in order. ECGs whose embeddings are not finite are refused.

        Raises:
            UserError: `coverage` or a task is invalid; see also `embed`.
        """
        self.check(coverage, tasks)
        features = self.embed(ecg)
        refused = find_nonfinite(features)
        predictions = combine(self.calibrated, features, tasks or self.tasks, coverage)
        distances = relative_distances(self.calibrated, features)
        results: list[EcgPrediction | RefusedEcg] = []
        for row, record in enumerate(records):
            if row in refused:
                detail = f"{record}: {refused[row]}"
                results.append(RefusedEcg(record, NOT_FINITE, detail, self.notice))
                continue
            of_record = {name: float(distance[row]) for name, distance in distances.items()}
            warnings = tuple(f"{record}: {text}" for text in describe_distances(of_record))
            results.append(
                EcgPrediction(record, predictions[row], of_record, warnings, self.notice)
            )
        return results

    def check(self, coverage: float, tasks: Sequence[str] = ()) -> None:
        """Check options of a prediction.

        Args:
            coverage: Coverage of intervals and prediction sets.
            tasks: Names of tasks.

        Raises:
            UserError: The coverage is not above 0 and below 1, or the run has no such task.
        """
        if not 0 < coverage < 1:
            raise UserError(f"The coverage is {coverage:g}; it must be above 0 and below 1.")
        for task in tasks:
            if task not in self.tasks:
                raise UserError(
                    f"{self.saved.folder} has no task {task!r}; available: {', '.join(self.tasks)}."
                )


def load_run(
    folder: str | Path,
    repeat: int | None = None,
    device: str = "cpu",
    *,
    weights: Sequence[str] = (),
    experts: Sequence[Expert] = (),
) -> LiveRun:
    """Load the heads and gate of a run; its experts are loaded when they are first used.

    Args:
        folder: Run folder.
        repeat: Index of the repeat to use; None combines all repeats.
        device: Torch device, such as ``"cuda:1"``; ``"auto"`` selects a GPU if available.
        weights: Checkpoints in place of the run's, ``CHOICE`` or ``EXPERT@CHOICE``, for files that
            have been moved. Their contents must be the same.
        experts: Experts that are not registered, as they were passed to `train`.

    Returns:
        The run as a live model.

    Raises:
        UserError: `folder` is not a run folder or is damaged, or the repeat or device does not
            exist.
    """
    saved = SavedRun(Path(folder).expanduser())
    repeats = range(len(saved.cohorts)) if repeat is None else (repeat,)
    return LiveRun(saved, repeats, resolve_device(device), weights, experts)
