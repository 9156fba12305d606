"""Training data of a stack: records and labels of several repeats in padded tensors."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from enecg.heads import Standardize, compress_outliers
from enecg.quantile_bins import QuantileBins
from pipeline.training.labeled_repeat import LabeledRepeat
from pipeline.training.stack import PADDING

PREDICTION_BATCH_SIZE = 8192
"""Records per batch in inference; limits the memory for float32 copies of the embeddings."""

LAYER_BYTES = 1 << 29
"""Default of `StackedData.max_bytes`."""


def prediction_batch_size(encoder: QuantileBins | None) -> int:
    """Return the number of records per batch in inference, which is smaller with an encoding."""
    values_per_feature = 1 if encoder is None else len(encoder.edges)
    return max(1, PREDICTION_BATCH_SIZE // values_per_feature)


@dataclass(frozen=True)
class StackedData:
    """Features of all records, and the records and labels of each repeat.

    Repeats are padded to the number of records of the largest one.

    Attributes:
        embedding: Features of all records, in the data type of the store.
        repeats: The repeats, unpadded.
        tasks: Names of the tasks, which are the same in all repeats.
        rows: Row in `embedding` of each record of a repeat; 0 for padding.
        encoded: Encoded labels; NaN where unknown and for padding.
        mean: Mean of each feature over a repeat's training records.
        scale: Standard deviation of each feature over these records; 1 for constant features.
        regression: Mask of the regression tasks.
        valid: Mask of the outputs that each task has.
        outputs: Largest number of outputs of any task.
        indicators: Label indicators of each multilabel task, by index of the task; 0 where unknown
            and for padding. `encoded` of a multilabel task is 0 where known.
        max_bytes: Size in bytes above which a tensor is written to a temporary file; see
            `MappedTensor`. Features are standardized in advance if they take at most half of it.
    """

    embedding: Float[Tensor, "all feature"]
    repeats: tuple[LabeledRepeat, ...]
    tasks: tuple[str, ...]
    rows: Int[Tensor, "repeat record"]
    encoded: Float[Tensor, "repeat task record"]
    mean: Float[Tensor, "repeat feature"]
    scale: Float[Tensor, "repeat feature"]
    regression: Bool[Tensor, " task"]
    valid: Bool[Tensor, "repeat task output"]
    outputs: int
    indicators: dict[int, Float[Tensor, "repeat record output"]] = field(default_factory=dict)
    max_bytes: int = LAYER_BYTES

    @classmethod
    def from_repeats(
        cls,
        embedding: Float[Tensor, "all feature"],
        repeats: Sequence[LabeledRepeat],
        max_bytes: int = LAYER_BYTES,
    ) -> "StackedData":
        """Compute the training statistics of each repeat and pad the repeats to equal length.

        Args:
            embedding: Features of all records.
            repeats: The repeats.
            max_bytes: See the attribute.

        Returns:
            The data.
        """
        tasks = tuple(repeats[0].targets)
        device = embedding.device
        fitted = []
        for repeat in repeats:
            standardization = Standardize(embedding.shape[1]).to(device)
            standardization.fit(embedding[repeat.rows[repeat.train]])
            fitted.append(standardization)
        longest = max(len(repeat.rows) for repeat in repeats)
        encoded = torch.full((len(repeats), len(tasks), longest), float("nan"), device=device)
        rows = torch.zeros((len(repeats), longest), dtype=torch.long, device=device)
        for index, repeat in enumerate(repeats):
            rows[index, : len(repeat.rows)] = repeat.rows
            for position, task in enumerate(tasks):
                labels = repeat.encoded[task]
                # The first indicator is missing where all indicators are.
                labels = 0 * labels[:, 0] if labels.dim() > 1 else labels
                encoded[index, position, : len(repeat.rows)] = labels
        counts = torch.tensor(
            [[repeat.targets[task].outputs for task in tasks] for repeat in repeats]
        )
        outputs = int(counts.max())
        kinds = [repeats[0].targets[task].task.kind for task in tasks]
        indicators = {}
        for position in (n for n, kind in enumerate(kinds) if kind == "multilabel"):
            padded = torch.zeros((len(repeats), longest, outputs), device=device)
            for index, repeat in enumerate(repeats):
                labels = repeat.encoded[tasks[position]].nan_to_num()
                padded[index, : len(labels), : labels.shape[1]] = labels
            indicators[position] = padded
        return cls(
            embedding,
            tuple(repeats),
            tasks,
            rows,
            encoded,
            torch.stack([standardization.mean for standardization in fitted]),
            torch.stack([standardization.scale for standardization in fitted]),
            torch.tensor([kind == "regression" for kind in kinds], device=device),
            (torch.arange(outputs) < counts.unsqueeze(-1)).to(device),
            outputs,
            indicators,
            max_bytes,
        )

    @cached_property
    def standardized(self) -> Float[Tensor, "repeat record feature"] | None:
        """Standardized features of all records of each repeat; None if they are too large."""
        if 4 * self.rows.numel() * self.embedding.shape[1] > self.max_bytes // 2:
            return None
        repeats = torch.arange(len(self.rows), device=self.rows.device)
        return self._standardize(repeats, self.rows)

    def select_tasks(self, tasks: Int[Tensor, " task"]) -> "StackedData":
        """Return the data with only the labels of the tasks at the given positions."""
        positions = tasks.tolist()
        if positions == list(range(len(self.tasks))):
            return self
        return replace(
            self,
            tasks=tuple(self.tasks[position] for position in positions),
            encoded=self.encoded[:, tasks],
            regression=self.regression[tasks],
            valid=self.valid[:, tasks],
            indicators={
                number: self.indicators[position]
                for number, position in enumerate(positions)
                if position in self.indicators
            },
        )

    def count_patients(self, repeat: int, rows: Int[Tensor, " row"]) -> Int[Tensor, " task"]:
        """Count the patients that have a label of each task.

        Args:
            repeat: Index of the repeat.
            rows: Row indices of records of the repeat.

        Returns:
            Number of labeled patients among these records, for each task.
        """
        patients = self.repeats[repeat].patients[rows]
        known = ~self.encoded[repeat][:, rows].isnan()
        counts = [len(patients[labeled].unique()) for labeled in known]
        return torch.tensor(counts, device=rows.device)

    def copy_standardization(self, target: Standardize, repeat: int) -> None:
        """Copy the training statistics of a repeat into a module.

        Args:
            target: Module to update.
            repeat: Index of the repeat.
        """
        target.mean = self.mean[repeat].clone()
        target.scale = self.scale[repeat].clone()

    def features(
        self, repeats: Int[Tensor, " group"], rows: Int[Tensor, "group batch"]
    ) -> Float[Tensor, "group batch feature"]:
        """Return the standardized features of a batch of records for each group.

        Args:
            repeats: Repeat of each group.
            rows: Indices of records within that repeat, or `PADDING`, whose features are arbitrary.

        Returns:
            The features as float32.
        """
        if self.standardized is not None:
            return self.standardized[repeats.unsqueeze(1), rows]
        return self._standardize(repeats, self.rows[repeats.unsqueeze(1), rows])

    def _standardize(
        self, repeats: Int[Tensor, " group"], rows: Int[Tensor, "group batch"]
    ) -> Float[Tensor, "group batch feature"]:
        """Standardize rows of `embedding` by the statistics of repeats, and compress outliers."""
        picked = self.embedding[rows].float()
        # In place: the features of all records are large.
        picked.sub_(self.mean[repeats].unsqueeze(1)).div_(self.scale[repeats].unsqueeze(1))
        return compress_outliers(picked)

    def targets(
        self, repeats: Int[Tensor, " group"], rows: Int[Tensor, "group batch"]
    ) -> Float[Tensor, "group task batch"]:
        """Return the encoded labels of a batch of records for each group.

        Args:
            repeats: Repeat of each group.
            rows: Indices of records within that repeat, or `PADDING`.

        Returns:
            Encoded labels; NaN where unknown and for padding.
        """
        picked = self.encoded[repeats.unsqueeze(1), :, rows].movedim(1, 2)
        return picked.masked_fill((rows == PADDING).unsqueeze(1), float("nan"))

    def add_label_losses(
        self,
        sums: tuple[Float[Tensor, "group task"], Float[Tensor, "group task"]],
        repeats: Int[Tensor, " group"],
        rows: Int[Tensor, "group batch"],
        log_present: Float[Tensor, "group task batch output"],
        log_absent: Float[Tensor, "group task batch output"],
    ) -> tuple[Float[Tensor, "group task"], Float[Tensor, "group task"]]:
        """Replace the losses of multilabel tasks with the binary cross-entropy.

        Args:
            sums: Result of `stack_losses.sum_losses`.
            repeats: Repeat of each group.
            rows: Indices of records within that repeat, or `PADDING`.
            log_present: Log probability that a record has a label; ignored for other tasks.
            log_absent: Log probability that a record does not have a label.

        Returns:
            Summed losses, averaged over the labels of a task, and numbers of labeled records.
        """
        if not self.indicators:
            return sums
        total, known = sums
        by_task = list(total.unbind(1))
        is_known = ~self.targets(repeats, rows).isnan()
        for position, indicators in self.indicators.items():
            truth = indicators[repeats.unsqueeze(1), rows]
            valid = self.valid[repeats, position].unsqueeze(1)
            losses = -torch.where(
                truth > 0, log_present[:, position], log_absent[:, position]
            ).where(valid, 0.0)
            mean = losses.sum(-1) / valid.sum(-1)
            by_task[position] = mean.where(is_known[:, position], 0.0).sum(-1)
        return torch.stack(by_task, 1), known
