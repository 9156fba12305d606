"""The linear path of heads: ridge regressions in closed form, one per repeat and task.

A linear path is the linear layer of an `FFN` whose output is added to that of the hidden layers.
Its coefficients are a weighted average of ridge regressions with different penalties and, for
classes and labels, with different scales of the logits. As in pseudo-Bayesian model averaging, the
weight of a regression is proportional to the likelihood of the labels of left-out patients. The
average is used instead of the best penalty, because selecting one fits noise if the features
contain little information. The average is close to the constant predictor in this case.
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
"""Penalties, as multiples of `RidgeDesign.scale`."""

SHIFT_ITERATIONS = 50
"""Number of gradient steps that fit the intercept of a regression to the smooth L1 loss."""

SCALES = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""Factors by which the outputs of a regression on indicators are multiplied to obtain logits. With
factor 0, the predicted probabilities are the class frequencies."""


@dataclass(frozen=True)
class LinearPaths:
    """The linear paths of all repeats and tasks.

    Attributes:
        weight: Coefficients of the standardized features. Outputs that a task does not have are 0.
        bias: Intercepts, padded likewise.
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
            Standardized values or logits; 0 for outputs that a task does not have.
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


def fit_linear_paths(data: StackedData) -> FittedPaths:
    """Fit the linear paths of all repeats and tasks.

    Args:
        data: Features, labels and split of the records of each repeat.

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
        # Trials of a sweep are repeats that share the tensor `rows`; fit their paths only once.
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
    """Linear path of one task, and left-out predictions for its labeled records."""

    weight: Float[Tensor, "output feature"]
    bias: Float[Tensor, " output"]
    left_out: Float[Tensor, "record output"]


class _Rows:
    """Standardized features of some records of a repeat, computed when a slice of rows is read."""

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
    """Group tasks with the same labeled records; return (mask of `rows`, task indices) pairs."""
    groups: dict[bytes, list[int]] = {}
    masks = ~data.encoded[repeat][:, rows].isnan()
    for task, known in enumerate(masks):
        groups.setdefault(known.cpu().numpy().tobytes(), []).append(task)
    return [(masks[tasks[0]], tasks) for tasks in groups.values()]


def _fit_part(
    data: StackedData, repeat: int, rows: Int[Tensor, " row"], tasks: Sequence[int]
) -> Iterator[tuple[int, _Fit]]:
    """Fit the paths of tasks that have the same labeled records.

    Args:
        data: Features and labels.
        repeat: Index of the repeat.
        rows: Row indices of the labeled records.
        tasks: Indices of the tasks.

    Yields:
        Index of a task and its path.
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
    """Return the targets of ridge regressions in float64: values, or indicators of classes."""
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
    """Average the regressions of a regression task; for the arguments, see `_fit_logits`."""
    # A left-out prediction contains the mean of all other patients, which is lower for records with
    # a high label. The likelihood weights would amplify this, so use the mean of all records.
    left_out = left_out - design.left_out_means(targets) + targets.mean(0)
    losses = functional.smooth_l1_loss(
        left_out, targets.expand_as(left_out), reduction="none"
    ).mean((1, 2))
    weights = log_likelihood(losses, design.groups, True).softmax(0)
    weight, bias = design.coefficients(targets, penalties, weights)
    averaged = torch.einsum("p,pro->ro", weights, left_out)
    # The regressions minimize the squared error, so they predict means. For skewed labels, the
    # smooth L1 loss is lowest nearer to the median. Shift the intercept to its minimum.
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
    """Average the regressions of a classification task, for all penalties and `SCALES`.

    Args:
        design: The decomposed features of the labeled records.
        targets: Indicators of classes; if `multilabel`, of labels.
        penalties: Penalties of the regressions.
        left_out: Predictions for each record by regressions that are fitted on the records of all
            other patients.
        multilabel: Whether outputs are labels with separate probabilities, instead of classes
            whose probabilities sum to 1.

    Returns:
        The average path. Its outputs are logits.
    """
    # A left-out prediction contains the class frequency among all other patients, which is lower
    # for records of the class. A large scale would turn this into logits for the wrong class.
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
    """Return the mean loss for each penalty: cross-entropy, or binary cross-entropy for labels."""
    if multilabel:
        losses = functional.binary_cross_entropy_with_logits(
            logits, targets.expand_as(logits), reduction="none"
        )
        return losses.mean((1, 2))
    return -(logits.log_softmax(-1) * targets).sum(-1).mean(1)
