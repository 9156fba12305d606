"""The linear path of heads: ridge regressions in closed form, one per repeat and task.

A linear path is the linear layer of an `FFN` whose output is added to that of the hidden layers. It
is an average of ridge regressions; see `averaged_ridge.py`. Some of them are fitted on standardized
features. If `can_encode` allows it, others are fitted on their encoding by `QuantileBins`, so that
the average is a sum of nonlinear functions of the features.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from enecg.heads import TaskHeads, base_ffn
from enecg.quantile_bins import QuantileBins, can_encode, encoded_size
from enecg.ridge import RidgeDesign
from pipeline.training.averaged_ridge import (
    AveragedRidge,
    RidgeFamily,
    average_logits,
    average_values,
)
from pipeline.training.mapped_tensor import MappedTensor
from pipeline.training.stack_data import StackedData, prediction_batch_size

PENALTIES = tuple(10.0 ** (exponent / 2) for exponent in range(-8, 9))
"""Penalties, as multiples of `RidgeDesign.scale`."""


@dataclass(frozen=True)
class LinearPaths:
    """The linear paths of all repeats and tasks.

    Attributes:
        weight: Coefficients of the standardized features, or of their encoding. Outputs that a task
            does not have are 0.
        bias: Intercepts, padded likewise.
        encoders: Encoding of the features of each repeat; None without encoding.
    """

    weight: Float[Tensor, "repeat task output feature"]
    bias: Float[Tensor, "repeat task output"]
    encoders: tuple[QuantileBins, ...] | None = None

    def copy_to(self, repeat: int, heads: TaskHeads) -> None:
        """Copy the linear paths of a repeat into heads.

        Args:
            repeat: Index of the repeat.
            heads: Heads with linear paths, with or without LoRA.
        """
        if self.encoders is not None:
            assert heads.encode is not None
            heads.encode.edges = self.encoders[repeat].edges.clone()
        for task, adapted in enumerate(heads.ffn.values()):
            ffn = base_ffn(adapted)
            assert ffn.linear is not None
            outputs = ffn.linear.out_features
            with torch.no_grad():
                ffn.linear.weight.copy_(self.weight[repeat, task, :outputs])
                ffn.linear.bias.copy_(self.bias[repeat, task, :outputs])

    def predict(self, data: StackedData, repeat: int) -> Float[Tensor, "task record output"]:
        """Compute the outputs of all tasks for all records of a repeat.

        Args:
            data: Features of the records.
            repeat: Index of the repeat.

        Returns:
            Standardized values or logits; 0 for outputs that a task does not have.
        """
        encoder = None if self.encoders is None else self.encoders[repeat]
        rows = torch.arange(data.rows.shape[1], device=self.weight.device)
        features = _Rows(data, repeat, rows, encoder)
        weight = self.weight[repeat].flatten(0, 1).T
        size = prediction_batch_size(encoder)
        parts = [features[start : start + size] @ weight for start in range(0, len(rows), size)]
        output: Tensor = torch.cat(parts).unflatten(1, self.weight.shape[1:3]).transpose(0, 1)
        return output + self.bias[repeat].unsqueeze(1)


@dataclass(frozen=True)
class FittedPaths:
    """Linear paths and their predictions, which are standardized values or logits.

    Attributes:
        train: Paths fitted on training records.
        refit: Paths fitted on training and validation records.
        outputs: Predictions of `train` for all records.
        left_out: Equal to `outputs`, except for labeled training records: each is predicted by a
            path that is fitted on the training records of all other patients.
        refit_left_out: Predictions for labeled training and validation records. Each is predicted
            by a path that is fitted on the training and validation records of all other patients.
            0 for all other records.
    """

    train: LinearPaths
    refit: LinearPaths
    outputs: Float[Tensor, "repeat task record output"]
    left_out: Float[Tensor, "repeat task record output"]
    refit_left_out: Float[Tensor, "repeat task record output"]


def fit_linear_paths(data: StackedData, *, encode: bool) -> tuple[FittedPaths, FittedPaths]:
    """Fit the linear paths of all repeats and tasks.

    Args:
        data: Features, labels and split of the records of each repeat.
        encode: Whether to fit regressions on encoded features, too.

    Returns:
        Averages of regressions on standardized features, and averages of these and of regressions
        on encoded features. The second equal the first if `encode` is false or if regressions on
        encoded features would take too long.
    """
    encode = encode and can_encode(data.rows.shape[1], data.embedding.shape[1])
    sources = _find_sources(data)
    encoders = {index: _fit_encoder(data, index) for index in set(sources)} if encode else {}
    fits: dict[tuple[int, int, int], tuple[_Fit, ...]] = {}
    for index in set(sources):
        repeat = data.repeats[index]
        parts = (repeat.train, torch.cat([repeat.train, repeat.validation]))
        for version, rows in enumerate(parts):
            for known, tasks in _group_by_labels(data, index, rows):
                for task, fit in _fit_part(data, index, rows[known], tasks, encoders.get(index)):
                    fits[version, index, task] = fit
    ridge = _predict_paths(data, {key: fit[0] for key, fit in fits.items()}, sources, {})
    if not encode:
        return ridge, ridge
    last = {key: fit[-1] for key, fit in fits.items()}
    return ridge, _predict_paths(data, last, sources, encoders)


def _find_sources(data: StackedData) -> list[int]:
    """Return for each repeat the index of the first repeat with the same records and labels.

    Trials of a sweep are repeats that share the tensor `rows`; their paths are fitted only once.
    """
    first: dict[int, int] = {}
    return [first.setdefault(id(repeat.rows), index) for index, repeat in enumerate(data.repeats)]


@dataclass(frozen=True)
class _Fit:
    """Linear path of one repeat and task, and left-out predictions for its labeled records."""

    rows: Int[Tensor, " row"]
    weight: Float[Tensor, "output feature"]
    bias: Float[Tensor, " output"]
    left_out: Float[Tensor, "row output"]

    @classmethod
    def of(cls, average: AveragedRidge, rows: Int[Tensor, " row"]) -> "_Fit":
        """Add the coefficients of features and of encoded features, which begin with the former."""
        weight = average.coefficients[-1].clone()
        for part in average.coefficients[:-1]:
            weight[:, : part.shape[1]] += part
        return cls(rows, weight.float(), average.bias.float(), average.left_out.float())


class _Rows:
    """Features of some records of a repeat, computed when a slice of rows is read."""

    def __init__(
        self,
        data: StackedData,
        repeat: int,
        rows: Int[Tensor, " row"],
        encoder: QuantileBins | None = None,
    ) -> None:
        self.data, self.rows, self.encoder = data, rows, encoder
        self.repeat = torch.tensor([repeat], device=rows.device)

    @property
    def shape(self) -> tuple[int, int]:
        size = self.data.embedding.shape[1]
        return len(self.rows), size if self.encoder is None else encoded_size(size)

    def __getitem__(self, rows: slice) -> Float[Tensor, "record feature"]:
        features: Tensor = self.data.features(self.repeat, self.rows[rows].unsqueeze(0))[0]
        return features if self.encoder is None else self.encoder(features)


def _fit_encoder(data: StackedData, repeat: int) -> QuantileBins:
    """Fit the encoding of the features of a repeat on its training records."""
    features = _Rows(data, repeat, data.repeats[repeat].train)
    encoder = QuantileBins(features.shape[1]).to(data.embedding.device)
    encoder.fit(features[:])
    return encoder


def _predict_paths(
    data: StackedData,
    fits: Mapping[tuple[int, int, int], _Fit],
    sources: Sequence[int],
    encoders: Mapping[int, QuantileBins],
) -> FittedPaths:
    """Join the paths of all repeats and tasks and predict with them.

    Args:
        data: Features, labels and split of the records of each repeat.
        fits: Path by version (0: training records, 1: also validation records), repeat and task,
            for the repeats in `sources`.
        sources: For each repeat, the repeat whose paths it uses.
        encoders: Encoding of the features of each repeat in `sources`; empty without encoding.

    Returns:
        The paths and their predictions.
    """
    device, features = data.embedding.device, fits[0, 0, 0].weight.shape[1]
    shape = (2, len(data.repeats), len(data.tasks), data.outputs)
    weight = torch.zeros((*shape, features), device=device)
    bias = torch.zeros(shape, device=device)
    for position, fit in fits.items():
        weight[position][: len(fit.bias)] = fit.weight
        bias[position][: len(fit.bias)] = fit.bias
    by_repeat = tuple(encoders[index] for index in sources) if encoders else None
    train, refit = (
        LinearPaths(weight[version, sources], bias[version, sources], by_repeat)
        for version in (0, 1)
    )
    predicted = {index: train.predict(data, index) for index in set(sources)}
    outputs = torch.stack([predicted[index] for index in sources])
    left_out = (outputs.clone(), torch.zeros_like(outputs))
    for (version, index, task), fit in fits.items():
        left_out[version][index, task, fit.rows, : len(fit.bias)] = fit.left_out
    return FittedPaths(train, refit, outputs, left_out[0][sources], left_out[1][sources])


def _group_by_labels(
    data: StackedData, repeat: int, rows: Int[Tensor, " row"]
) -> list[tuple[Bool[Tensor, " row"], list[int]]]:
    """Group tasks with the same labeled records; return (mask of `rows`, task indices) pairs."""
    groups: dict[bytes, list[int]] = {}
    masks = ~data.encoded[repeat][:, rows].isnan()
    for task, known in enumerate(masks):
        groups.setdefault(known.cpu().numpy().tobytes(), []).append(task)
    return [(masks[tasks[0]], tasks) for tasks in groups.values()]


def _fit_part(
    data: StackedData,
    repeat: int,
    rows: Int[Tensor, " row"],
    tasks: Sequence[int],
    encoder: QuantileBins | None,
) -> Iterator[tuple[int, tuple[_Fit, ...]]]:
    """Fit the paths of tasks that have the same labeled records.

    Args:
        data: Features and labels.
        repeat: Index of the repeat.
        rows: Row indices of the labeled records.
        tasks: Indices of the tasks.
        encoder: Encoding of the features; None to use only the features.

    Yields:
        Index of a task and its paths: without encoding and, if there is an encoder, with it.
    """
    targets = [_encode_targets(data, repeat, rows, task) for task in tasks]
    joined = torch.cat(targets, 1)
    families = [_fit_family(data, _Rows(data, repeat, rows), joined)]
    if encoder is not None:
        families.append(_fit_family(data, _Rows(data, repeat, rows, encoder), joined))
    start = 0
    for task, target in zip(tasks, targets, strict=True):
        outputs = slice(start, start := start + target.shape[1])
        of_task = [replace(family, left_out=family.left_out[..., outputs]) for family in families]
        fits = []
        for count in range(1, len(families) + 1):
            if data.regression[task]:
                average = average_values(of_task[:count], target)
            else:
                multilabel = task in data.indicators
                average = average_logits(of_task[:count], target, multilabel=multilabel)
            fits.append(_Fit.of(average, rows))
        yield task, tuple(fits)


def _fit_family(
    data: StackedData, features: _Rows, targets: Float[Tensor, "row output"]
) -> RidgeFamily:
    """Fit regressions with all `PENALTIES` on the features of labeled records."""
    patients = data.repeats[int(features.repeat)].patients[features.rows]
    storage = MappedTensor(features.shape, torch.float64, patients.device, data.max_bytes)
    design = RidgeDesign.decompose(features, patients, storage)
    penalties = design.scale * torch.tensor(PENALTIES).to(targets)
    return RidgeFamily(design, penalties, design.predict_left_out(targets, penalties))


def _encode_targets(
    data: StackedData, repeat: int, rows: Int[Tensor, " row"], task: int
) -> Float[Tensor, "row output"]:
    """Return the targets of ridge regressions in float64: values, or indicators of classes."""
    encoded = data.encoded[repeat, task, rows]
    if data.regression[task]:
        return encoded.double().unsqueeze(1)
    size = int(data.valid[repeat, task].sum())
    if task in data.indicators:
        return data.indicators[task][repeat, rows, :size].double()
    return functional.one_hot(encoded.long(), size).double()
