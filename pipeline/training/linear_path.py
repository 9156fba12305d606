"""The linear path of heads: ridge regressions in closed form, one per repeat, fold and task.

The penalty, and for classes the scale of the logits, minimize the loss of predictions for patients
that the regression was not fitted on: the training patients, each left out in turn, and the
validation patients.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from enecg.heads import base_ffn
from enecg.ridge import RidgeDesign
from pipeline.training.stack import Group
from pipeline.training.stack_data import PREDICTION_BATCH_SIZE, StackedData

PENALTIES = tuple(10.0 ** (exponent / 2) for exponent in range(-8, 9))
"""Penalties, relative to the mean squared singular value of the features."""

SCALES = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""Factors from scores of a regression on class indicators to logits; 0 predicts the shares."""


@dataclass(frozen=True)
class LinearPaths:
    """The linear paths of all groups and tasks.

    Attributes:
        weight: Coefficients on standardized features.
        bias: Intercepts.
    """

    weight: Float[Tensor, "group task output feature"]
    bias: Float[Tensor, "group task output"]

    def copy_to(self, group: int, ffns: Sequence[nn.Module]) -> None:
        """Copy the linear paths of a group to one `FFN` per task, wrapped by peft or not."""
        for task, adapted in enumerate(ffns):
            ffn = base_ffn(adapted)
            assert ffn.linear is not None
            outputs = ffn.linear.out_features
            with torch.no_grad():
                ffn.linear.weight.copy_(self.weight[group, task, :outputs])
                ffn.linear.bias.copy_(self.bias[group, task, :outputs])

    def predict(
        self, data: StackedData, groups: Sequence[Group]
    ) -> Float[Tensor, "group task record output"]:
        """Compute the outputs for all records of each group's repeat."""
        rows = torch.arange(data.rows.shape[1], device=self.weight.device)
        outputs = []
        for position, group in enumerate(groups):
            repeat = torch.tensor([group.repeat], device=rows.device)
            weight = self.weight[position].flatten(0, 1).T
            parts = [
                data.features(repeat, part.unsqueeze(0))[0] @ weight
                for part in rows.split(PREDICTION_BATCH_SIZE)
            ]
            output = torch.cat(parts).unflatten(1, self.weight.shape[1:3]).transpose(0, 1)
            outputs.append(output + self.bias[position].unsqueeze(1))
        return torch.stack(outputs)


def fit_linear_paths(data: StackedData, groups: Sequence[Group]) -> tuple[LinearPaths, LinearPaths]:
    """Fit the linear paths of all groups and tasks.

    Args:
        data: Features, labels and splits.
        groups: The groups, each of which is fitted on its training records.

    Returns:
        The paths, and those that are fitted again with the same penalties on training and
        validation records; for a fold they are the same.
    """
    shape = (len(groups), len(data.tasks), data.outputs)
    device = data.embedding.device
    weight = torch.zeros((2, *shape, data.embedding.shape[1]), device=device)
    bias = torch.zeros((2, *shape), device=device)
    fitted: dict[tuple[int, int | None], int] = {}
    for position, group in enumerate(groups):
        # Trials of a sweep have the same records.
        same = (id(data.repeats[group.repeat].rows), group.fold)
        if same in fitted:
            weight[:, position], bias[:, position] = (
                weight[:, fitted[same]],
                bias[:, fitted[same]],
            )
            continue
        fitted[same] = position
        train = _Part(data, group.repeat, group.train)
        validation = _Part(data, group.repeat, group.validation)
        both = _Part(data, group.repeat, torch.cat([group.train, group.validation]))
        for task in range(len(data.tasks)):
            outputs = int(data.valid[group.repeat, task].sum())
            classes = 0 if data.regression[task] else outputs
            choice = _choose(train, validation, task, classes)
            fits = [choice.fit(train, task, classes)]
            fits.append(choice.fit(both, task, classes) if group.fold is None else fits[0])
            for version, (fit_weight, fit_bias) in enumerate(fits):
                weight[version, position, task, :outputs] = fit_weight.to(weight)
                bias[version, position, task, :outputs] = fit_bias.to(bias)
    return LinearPaths(weight[0], bias[0]), LinearPaths(weight[1], bias[1])


class _Part:
    """Records of a repeat, with a decomposition for each set of records that tasks have labels for.

    Args:
        data: Features and labels.
        repeat: Index of the repeat.
        rows: Row indices of the records.
    """

    def __init__(self, data: StackedData, repeat: int, rows: Int[Tensor, " row"]) -> None:
        index = torch.tensor([repeat], device=rows.device)
        self.features = data.features(index, rows.unsqueeze(0))[0]
        self.encoded = data.encoded[repeat][:, rows]
        self.patients = data.repeats[repeat].patients[rows]
        self.indicators = {task: labels[repeat][rows] for task, labels in data.indicators.items()}
        self.designs: dict[bytes, RidgeDesign] = {}

    def known(self, task: int) -> Bool[Tensor, " row"]:
        """Return a mask of the records with a label."""
        return ~self.encoded[task].isnan()

    def design(self, task: int) -> RidgeDesign:
        """Return the decomposition of the records with a label."""
        known = self.known(task)
        key = known.cpu().numpy().tobytes()
        if key not in self.designs:
            self.designs[key] = RidgeDesign.decompose(self.features[known], self.patients[known])
        return self.designs[key]

    def targets(self, task: int, classes: int) -> Float[Tensor, "record output"]:
        """Return values, or indicators of classes or labels, of the records with a label."""
        if task in self.indicators:
            return self.indicators[task][self.known(task)][:, :classes].double()
        encoded = self.encoded[task][self.known(task)]
        if not classes:
            return encoded.double().unsqueeze(1)
        return functional.one_hot(encoded.long(), classes).double()


@dataclass(frozen=True)
class _Choice:
    """The penalty, relative to the design's scale, and the scale of the logits."""

    penalty: float
    scale: float

    def fit(
        self, part: _Part, task: int, classes: int
    ) -> tuple[Float[Tensor, "output feature"], Float[Tensor, " output"]]:
        """Return coefficients and intercepts."""
        design, targets = part.design(task), part.targets(task, classes)
        weight, bias = design.coefficients(targets, self.penalty * design.scale)
        if not classes:
            return weight, bias
        shares = _shares(targets)
        offset = shares.logit() if task in part.indicators else shares.log()
        return self.scale * weight, offset + self.scale * (bias - shares)


def _choose(train: _Part, validation: _Part, task: int, classes: int) -> _Choice:
    """Choose the penalty and the scale with the lowest loss for patients that are left out."""
    design, targets = train.design(task), train.targets(task, classes)
    penalties = torch.tensor(PENALTIES, dtype=torch.float64, device=targets.device)
    left_out = design.predict_left_out(targets, penalties * design.scale)
    features = validation.features[validation.known(task)].double()
    held_out = []
    for penalty in PENALTIES:
        weight, bias = design.coefficients(targets, penalty * design.scale)
        held_out.append(features @ weight.T + bias)
    scores = torch.cat([left_out, torch.stack(held_out)], dim=1)
    truth = torch.cat([part.encoded[task][part.known(task)] for part in (train, validation)])
    if not classes:
        expected = truth.expand(len(scores), -1).double()
        losses = functional.smooth_l1_loss(scores[..., 0], expected, reduction="none").mean(1)
        return _Choice(PENALTIES[int(losses.argmin())], 1.0)
    shares, labels = _shares(targets), truth.long().expand(len(scores), -1)
    indicators = torch.cat([targets, validation.targets(task, classes)]).expand(scores.shape)
    by_scale = []
    for scale in SCALES:
        moved = scale * (scores - shares)
        if task in train.indicators:
            loss = functional.binary_cross_entropy_with_logits(
                shares.logit() + moved, indicators, reduction="none"
            )
            by_scale.append(loss.mean((1, 2)))
            continue
        logits = (shares.log() + moved).movedim(-1, 1)
        by_scale.append(functional.cross_entropy(logits, labels, reduction="none").mean(1))
    best = int(torch.stack(by_scale).argmin())
    return _Choice(PENALTIES[best % len(PENALTIES)], SCALES[best // len(PENALTIES)])


def _shares(targets: Float[Tensor, "record output"]) -> Float[Tensor, " output"]:
    """Return the share of each class or label, strictly between 0 and 1."""
    least = 0.5 / len(targets)
    return targets.mean(0).clamp(least, 1 - least)
