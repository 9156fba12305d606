"""Features and targets of ridge regressions."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from enecg.quantile_bins import QuantileBins, encoded_size
from enecg.ridge import ROWS, Moments, RidgeDesign
from pipeline.training.mapped_tensor import MappedTensor
from pipeline.training.stack_data import StackedData


class RepeatFeatures:
    """Standardized features of some records of a repeat, computed when rows are read.

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

    def __getitem__(self, rows: slice | Int[Tensor, " record"]) -> Float[Tensor, "record feature"]:
        """Return the features of a range of the records, or of the records with these indices."""
        repeats = torch.tensor([self.repeat], device=self.rows.device)
        features: Tensor = self.data.features(repeats, self.rows[rows].unsqueeze(0))[0]
        return features if self.encoder is None else self.encoder(features)


class RidgeDesigns:
    """Ridge designs of selections of the training and validation records of a repeat.

    With fewer records than features, a design depends on the Gram matrix of its records. The Gram
    matrix of all records is computed once, because computing it takes longer than decomposing it.

    Args:
        data: Features of all records.
        repeat: Index of the repeat.
        encoder: Encoding to apply. Default: none.

    Raises:
        UserError: A temporary file cannot be allocated; see `MappedTensor`.
    """

    def __init__(self, data: StackedData, repeat: int, encoder: QuantileBins | None = None) -> None:
        self.data, self.repeat, self.encoder = data, repeat, encoder
        split = data.repeats[repeat]
        features = self._select(torch.cat([split.train, split.validation]))
        records, size = features.shape
        self._gram: Tensor | None = None
        if records < size:
            device = data.embedding.device
            storage = MappedTensor(features.shape, torch.float64, device, data.max_bytes)
            for start in range(0, records, ROWS):
                rows = slice(start, start + ROWS)
                storage.tensor[rows] = features[rows]
                storage.count(storage.tensor[rows])
            self._features = storage.tensor
            self._gram = storage.tensor @ storage.tensor.T

    def decompose(self, *parts: Int[Tensor, " row"]) -> Iterator[RidgeDesign]:
        """Decompose the features of the first part, of the first two parts, and so on.

        Args:
            parts: Row indices of training or validation records.

        Yields:
            A decomposition, in float64. Groups are patients.
        """
        moments: Moments | None = None
        for number in range(len(parts)):
            features = self._select(torch.cat(parts[: number + 1]))
            records, size = features.shape
            if self._gram is not None:
                yield RidgeDesign.from_gram(
                    self._gram, self._features, features.rows, features.patients
                )
                continue
            if records >= size:
                added = features if moments is None else self._select(parts[number])
                sums = Moments.of(added, features.rows.device)
                moments = sums if moments is None else moments + sums
            yield RidgeDesign.decompose(features, features.patients, moments)

    def _select(self, rows: Int[Tensor, " row"]) -> RepeatFeatures:
        return RepeatFeatures(self.data, self.repeat, rows, self.encoder)


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
