"""Features and targets of ridge regressions."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from enecg.quantile_bins import QuantileBins, encoded_size
from pipeline.training.stack_data import StackedData


class RepeatFeatures:
    """Standardized features of some records of a repeat, computed when a slice of rows is read.

    Args:
        data: Features of all records.
        repeat: Index of the repeat.
        rows: Row indices of the records.
        encoder: Encoding to apply. Default: none.
    """

    def __init__(
        self,
        data: StackedData,
        repeat: int,
        rows: Int[Tensor, " row"],
        encoder: QuantileBins | None = None,
    ) -> None:
        self.data, self.repeat, self.rows, self.encoder = data, repeat, rows, encoder

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of records and of features, after the encoding."""
        size = self.data.embedding.shape[1]
        return len(self.rows), size if self.encoder is None else encoded_size(size)

    @property
    def patients(self) -> Int[Tensor, " row"]:
        """Patient of each record."""
        return self.data.repeats[self.repeat].patients[self.rows]

    def __getitem__(self, rows: slice) -> Float[Tensor, "record feature"]:
        """Return the features of a range of the records."""
        repeats = torch.tensor([self.repeat], device=self.rows.device)
        features: Tensor = self.data.features(repeats, self.rows[rows].unsqueeze(0))[0]
        return features if self.encoder is None else self.encoder(features)


def encode_targets(
    data: StackedData, repeat: int, rows: Int[Tensor, " row"], task: int
) -> Float[Tensor, "row output"]:
    """Return the targets of ridge regressions.

    Args:
        data: Labels of all records.
        repeat: Index of the repeat.
        rows: Row indices of labeled records.
        task: Index of the task.

    Returns:
        Standardized values, or indicators of classes or labels, as float64.
    """
    encoded = data.encoded[repeat, task, rows]
    if data.regression[task]:
        return encoded.double().unsqueeze(1)
    size = int(data.valid[repeat, task].sum())
    if task in data.indicators:
        return data.indicators[task][repeat, rows, :size].double()
    return functional.one_hot(encoded.long(), size).double()
