"""The linear path of heads: ridge regressions in closed form, one per repeat and task.

A path is a weighted average of regressions with different penalties and, for classes and labels,
different scales of the logits. The weights are proportional to the likelihood of left-out training
patients, as in pseudo-Bayesian model averaging. If the features are hardly informative, selecting
the best penalty would fit noise, while the average is close to the constant predictor.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from enecg.heads import base_ffn
from enecg.ridge import RidgeDesign
from pipeline.training.likelihood import log_likelihood
from pipeline.training.mapped_tensor import MappedTensor
from pipeline.training.stack_data import PREDICTION_BATCH_SIZE, StackedData

PENALTIES = tuple(10.0 ** (exponent / 2) for exponent in range(-8, 9))
"""Penalties, relative to the mean squared singular value of the features."""

SHIFT_ITERATIONS = 50
"""Iterations that minimize the smooth L1 loss of left-out predictions over the intercept."""

SCALES = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""Factors that convert scores of a regression on class indicators to logits. With factor 0, the
predictions are the frequencies of the classes."""


@dataclass(frozen=True)
class LinearPaths:
    """The linear paths of all repeats and tasks.

    Attributes:
        weight: Coefficients on standardized features.
        bias: Intercepts.
    """

    weight: Float[Tensor, "repeat task output feature"]
    bias: Float[Tensor, "repeat task output"]

    def copy_to(self, repeat: int, ffns: Sequence[nn.Module]) -> None:
        """Copy the linear paths of a repeat into FFNs.

        Args:
            repeat: Index of the repeat.
            ffns: The `FFN` of each task, or peft's wrapper of it.
        """
        for task, adapted in enumerate(ffns):
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
            Standardized values or logits.
        """
        rows = torch.arange(data.rows.shape[1], device=self.weight.device)
        index = torch.tensor([repeat], device=rows.device)
        weight = self.weight[repeat].flatten(0, 1).T
        parts = [
            data.features(index, part.unsqueeze(0))[0] @ weight
            for part in rows.split(PREDICTION_BATCH_SIZE)
        ]
        output: Tensor = torch.cat(parts).unflatten(1, self.weight.shape[1:3]).transpose(0, 1)
        return output + self.bias[repeat].unsqueeze(1)


@dataclass(frozen=True)
class FittedPaths:
    """Linear paths and their predictions.

    Attributes:
        train: Paths fitted on training records.
        refit: Paths fitted on training and validation records.
        outputs: Predictions of `train` for all records.
        left_out: Like `outputs`, but each training record is predicted by a path that is fitted
            without the record's patient.
        refit_left_out: Predictions for training and validation records by paths that are fitted on
            the training and validation records of all other patients; 0 for test records.
    """

    train: LinearPaths
    refit: LinearPaths
    outputs: Float[Tensor, "repeat task record output"]
    left_out: Float[Tensor, "repeat task record output"]
    refit_left_out: Float[Tensor, "repeat task record output"]


def fit_linear_paths(data: StackedData) -> FittedPaths:
    """Fit the linear paths of all repeats and tasks.

    Args:
        data: Features, labels and splits.

    Returns:
        The paths and their predictions.
    """
    shape = (len(data.repeats), len(data.tasks), data.outputs)
    device = data.embedding.device
    weight = torch.zeros((2, *shape, data.embedding.shape[1]), device=device)
    bias = torch.zeros((2, *shape), device=device)
    left_out: dict[tuple[int, int, int], tuple[Tensor, Tensor]] = {}
    fitted: dict[int, int] = {}
    for index, repeat in enumerate(data.repeats):
        # Trials of a sweep have the same records.
        same = fitted.setdefault(id(repeat.rows), index)
        if same != index:
            weight[:, index], bias[:, index] = weight[:, same], bias[:, same]
            continue
        parts = (repeat.train, torch.cat([repeat.train, repeat.validation]))
        for version, rows in enumerate(parts):
            for known, tasks in _group_by_labels(data, index, rows):
                for task, fit in _fit_part(data, index, rows[known], tasks):
                    size = len(fit.bias)
                    weight[version, index, task, :size] = fit.weight.to(weight)
                    bias[version, index, task, :size] = fit.bias.to(bias)
                    left_out[version, index, task] = (rows[known], fit.left_out.to(weight))
    train, refit = (LinearPaths(weight[version], bias[version]) for version in (0, 1))
    outputs = torch.stack([train.predict(data, index) for index in range(len(data.repeats))])
    replaced = (outputs.clone(), torch.zeros_like(outputs))
    for index, repeat in enumerate(data.repeats):
        for task in range(len(data.tasks)):
            for version, target in enumerate(replaced):
                rows, predictions = left_out[version, fitted[id(repeat.rows)], task]
                target[index, task, rows, : predictions.shape[1]] = predictions
    return FittedPaths(train, refit, outputs, *replaced)


@dataclass(frozen=True)
class _Fit:
    """Coefficients, intercepts and left-out predictions of the labeled records of one task."""

    weight: Float[Tensor, "output feature"]
    bias: Float[Tensor, " output"]
    left_out: Float[Tensor, "record output"]


class _Rows:
    """Standardized features of records of a repeat, computed for a range of rows at a time."""

    def __init__(self, data: StackedData, repeat: int, rows: Int[Tensor, " row"]) -> None:
        self.data, self.rows = data, rows
        self.repeat = torch.tensor([repeat], device=rows.device)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.rows), self.data.embedding.shape[1]

    def __getitem__(self, rows: slice) -> Float[Tensor, "record feature"]:
        features: Tensor = self.data.features(self.repeat, self.rows[rows].unsqueeze(0))[0]
        return features


def _group_by_labels(
    data: StackedData, repeat: int, rows: Int[Tensor, " row"]
) -> list[tuple[Bool[Tensor, " row"], list[int]]]:
    """Group the tasks by their labeled records; return the mask of these records and the tasks."""
    groups: dict[bytes, list[int]] = {}
    masks = ~data.encoded[repeat][:, rows].isnan()
    for task, known in enumerate(masks):
        groups.setdefault(known.cpu().numpy().tobytes(), []).append(task)
    return [(masks[tasks[0]], tasks) for tasks in groups.values()]


def _fit_part(
    data: StackedData, repeat: int, rows: Int[Tensor, " row"], tasks: Sequence[int]
) -> Iterator[tuple[int, _Fit]]:
    """Fit the paths of tasks with the same labeled records.

    Args:
        data: Features and labels.
        repeat: Index of the repeat.
        rows: Row indices of the records with labels.
        tasks: Positions of the tasks.

    Yields:
        Each task with its fit.
    """
    features = _Rows(data, repeat, rows)
    patients = data.repeats[repeat].patients[rows]
    storage = MappedTensor(features.shape, torch.float64, patients.device, data.max_bytes)
    design = RidgeDesign.decompose(features, patients, storage)
    targets = [_encode_targets(data, repeat, rows, task) for task in tasks]
    penalties = design.scale * torch.tensor(PENALTIES).to(targets[0])
    left_out = design.predict_left_out(torch.cat(targets, 1), penalties)
    sizes = [target.shape[1] for target in targets]
    for task, target, predicted in zip(tasks, targets, left_out.split(sizes, -1), strict=True):
        if data.regression[task]:
            yield task, _fit_values(design, target, penalties, predicted)
        else:
            multilabel = task in data.indicators
            yield task, _fit_logits(design, target, penalties, predicted, multilabel=multilabel)


def _encode_targets(
    data: StackedData, repeat: int, rows: Int[Tensor, " row"], task: int
) -> Float[Tensor, "row output"]:
    """Return the values of a regression, or the indicators of classes or labels."""
    encoded = data.encoded[repeat, task, rows]
    if data.regression[task]:
        return encoded.double().unsqueeze(1)
    size = int(data.valid[repeat, task].sum())
    if task in data.indicators:
        return data.indicators[task][repeat, rows, :size].double()
    return functional.one_hot(encoded.long(), size).double()


def _fit_values(
    design: RidgeDesign,
    targets: Float[Tensor, "record 1"],
    penalties: Float[Tensor, " penalty"],
    left_out: Float[Tensor, "penalty record 1"],
) -> _Fit:
    """Average regressions on values; see `_fit_logits`."""
    # The mean without a record's patient is lower for records with a high label. Replace it by the
    # mean of all records, because the weights of the average would amplify the difference.
    left_out = left_out - design.left_out_means(targets) + targets.mean(0)
    losses = functional.smooth_l1_loss(
        left_out, targets.expand_as(left_out), reduction="none"
    ).mean((1, 2))
    weights = log_likelihood(losses, design.groups, True).softmax(0)
    weight, bias = design.coefficients(targets, penalties, weights)
    averaged = torch.einsum("p,pro->ro", weights, left_out)
    # The regressions minimize squared errors, so they predict conditional means. If the labels are
    # skewed, the smooth L1 loss has its minimum nearer to the median, so shift the intercept.
    shift = torch.zeros((), dtype=targets.dtype, device=targets.device)
    for _ in range(SHIFT_ITERATIONS):
        shift = shift + (targets - averaged - shift).clamp(-1, 1).mean()
    return _Fit(weight, bias + shift, averaged + shift)


def _fit_logits(
    design: RidgeDesign,
    targets: Float[Tensor, "record output"],
    penalties: Float[Tensor, " penalty"],
    left_out: Float[Tensor, "penalty record output"],
    *,
    multilabel: bool,
) -> _Fit:
    """Average regressions on indicators, with scales from their scores to logits.

    Args:
        design: The decomposed features.
        targets: Indicators of classes, or of labels for `multilabel`.
        penalties: Penalties of the regressions.
        left_out: Predictions of each record by regressions without the record's patient.
        multilabel: Whether a record can have several labels.

    Returns:
        The average, whose outputs are logits.
    """
    # The class frequency without a record's patient is lower for records of the class than for
    # others. A scale would turn this difference into logits for the wrong class.
    scores = left_out - design.left_out_means(targets)
    least = 0.5 / len(targets)
    shares = targets.mean(0).clamp(least, 1 - least)
    offset = shares.logit() if multilabel else shares.log()
    scales = torch.tensor(SCALES).to(targets)
    losses = torch.stack([_loss(offset + scale * scores, targets, multilabel) for scale in scales])
    weights = log_likelihood(losses, design.groups, False).flatten().softmax(0).view_as(losses)
    # Logits are linear in the scores, so averaging over scales reduces to one weight per penalty.
    by_penalty = (scales.unsqueeze(1) * weights).sum(0)
    weight, _ = design.coefficients(targets, penalties, by_penalty)
    averaged = offset + torch.einsum("p,pro->ro", by_penalty, scores)
    return _Fit(weight, offset - weight @ design.mean, averaged)


def _loss(
    logits: Float[Tensor, "penalty record output"],
    targets: Float[Tensor, "record output"],
    multilabel: bool,
) -> Float[Tensor, " penalty"]:
    """Return the mean loss of each penalty."""
    if multilabel:
        losses = functional.binary_cross_entropy_with_logits(
            logits, targets.expand_as(logits), reduction="none"
        )
        return losses.mean((1, 2))
    return -(logits.log_softmax(-1) * targets).sum(-1).mean(1)
