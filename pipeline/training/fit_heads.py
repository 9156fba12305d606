"""Training of the heads of one expert for all repeats and tasks in one pass."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from enecg.heads import TaskHeads
from enecg.stacked import StackConfig, StackedFFN
from enecg.tasks import Kind
from pipeline.labels.targets import Targets
from pipeline.training.correction import FOLDS, fit_factors, predict_other_folds
from pipeline.training.labeled_repeat import LabeledRepeat
from pipeline.training.linear_path import FittedPaths, LinearPaths, fit_linear_paths
from pipeline.training.ridge_heads import extract_ridge
from pipeline.training.settings import FitSettings
from pipeline.training.stack import Group, train_stack
from pipeline.training.stack_data import (
    PREDICTION_BATCH_SIZE,
    StackedData,
    precompute_first_layer,
    sum_losses,
)
from pipeline.training.torch_state import preserve_random_state


@dataclass(frozen=True)
class FittedModel:
    """A trained module.

    Attributes:
        module: The module, in evaluation mode.
        validation_loss: Validation loss of each task after every epoch. Element 0 is the loss
            before training; losses after the task has stopped are NaN.
        trainable: Number of trainable parameters.
        total: Number of all parameters.
    """

    module: nn.Module
    validation_loss: dict[str, list[float]]
    trainable: int
    total: int


@dataclass(frozen=True)
class FittedHeads(FittedModel):
    """The heads of one expert and repeat, and their predictions for the repeat's records.

    Predictions are standardized values for regression tasks, probabilities of labels for multilabel
    tasks, and class probabilities for others.

    Attributes:
        module: The heads.
        outputs: Predictions by task. With ``linear-lora``, those of test records are from `module`,
            and those of the other records from heads whose linear path was fitted on training
            records only.
        out_of_fold: Same as `outputs`, except that each training record is predicted by heads that
            were trained on the other fold of the training patients. With ``linear-lora``, this
            holds for the correction, and the linear path is fitted without the record's patient.
            The gate and the ensembles are trained on these, because heads overfit their own
            training records.
        untrained: Predictions of the heads at initialization.
        ridge: Ridge regressions on the same embeddings, fitted on training and validation records.
        ridge_outputs: Predictions of the ridge regressions by task; those of training and
            validation records are from regressions that were fitted on training records only.
    """

    module: TaskHeads
    outputs: dict[str, Float[Tensor, "record output"]]
    out_of_fold: dict[str, Float[Tensor, "record output"]]
    untrained: dict[str, Float[Tensor, "record output"]]
    ridge: TaskHeads
    ridge_outputs: dict[str, Float[Tensor, "record output"]]


@preserve_random_state
def fit_heads(
    embedding: Float[Tensor, "record feature"],
    repeats: Sequence[LabeledRepeat],
    settings: FitSettings,
    bases: Sequence[nn.Linear] | None = None,
    *,
    combined: bool = True,
) -> list[FittedHeads]:
    """Train the heads of one expert, for each repeat on all training records and on each fold.

    All heads are trained in one pass. Heads of different repeats and folds share no parameters, so
    the result is the same as if they were trained separately.

    Args:
        embedding: Embeddings of all records, in the data type of the store.
        repeats: Records and labels of each repeat.
        settings: Hyperparameters.
        bases: Frozen hidden layer of each repeat, for ``shared-lora`` only. Default: the layers
            are trained first.
        combined: Whether the heads are combined with those of other experts. If not, heads on folds
            are trained only where ``linear-lora`` needs them, and `FittedHeads.out_of_fold` may
            equal the outputs. Default: True.

    Returns:
        The heads of each repeat.
    """
    folds = FOLDS if combined or settings.adaptation == "linear-lora" else FOLDS[:1]
    data = StackedData.from_repeats(embedding, repeats, settings.max_tensor_bytes)
    groups = [
        Group.of(index, repeat, settings, fold)
        for index, repeat in enumerate(repeats)
        for fold in folds
    ]
    # Other heads have no linear path, but the baseline of ridge regression needs it.
    ridge = fit_linear_paths(data)
    paths = ridge if settings.adaptation == "linear-lora" else None
    stack, history = _fit_stack(data, groups, settings, bases, paths)
    # The update of an untrained adapter is 0, so that none is needed.
    initial = replace(stack.config, zero_prediction=False, lora=False)
    seeds = [repeat.seed for repeat in repeats]
    untrained = StackedFFN(initial, len(data.tasks), seeds).to(embedding.device)
    if paths is not None:
        stack.scale_predictions(fit_factors(history, data, groups))
    others = predict_other_folds(stack, data, groups)
    fits = []
    for index, repeat in enumerate(repeats):
        features, position = embedding[repeat.rows], index * len(folds)
        train_paths = None if paths is None else paths.train
        heads = _extract_heads(stack, position, data, index, settings, train_paths)
        outputs = predict_heads(heads, features, repeat.targets)
        out_of_fold = {task: output.clone() for task, output in outputs.items()}
        for fold, rows in enumerate(repeat.folds if len(folds) > 1 else ()):
            by_task = others[position + FOLDS.index(1 - fold)]
            for number, (task, target) in enumerate(repeat.targets.items()):
                output = by_task[number, : len(rows), : target.outputs]
                if paths is not None:
                    output = output + paths.left_out[index, number, rows, : target.outputs]
                out_of_fold[task][rows] = to_predictions(target.task.kind, output)
        untrained_heads = _extract_heads(untrained, index, data, index, settings)
        if paths is not None:
            # Only predictions for test records may use the labels of validation records.
            paths.refit.copy_to(index, list(heads.ffn.values()))
            tested = predict_heads(heads, features[repeat.test], repeat.targets)
            for task, output in tested.items():
                outputs[task][repeat.test] = output
                out_of_fold[task][repeat.test] = output
        final, trained = (extract_ridge(one, data, index) for one in (ridge.refit, ridge.train))
        ridge_outputs = predict_heads(trained, features, repeat.targets)
        for task, output in predict_heads(final, features[repeat.test], repeat.targets).items():
            ridge_outputs[task][repeat.test] = output
        fits.append(
            FittedHeads(
                heads,
                {task: history[:, position, n].tolist() for n, task in enumerate(data.tasks)},
                *count_parameters(heads),
                outputs=outputs,
                out_of_fold=out_of_fold,
                untrained=predict_heads(untrained_heads, features, repeat.targets),
                ridge=final,
                ridge_outputs=ridge_outputs,
            )
        )
    return fits


def predict_heads(
    heads: nn.Module, embedding: Float[Tensor, "record feature"], targets: dict[str, Targets]
) -> dict[str, Float[Tensor, "record output"]]:
    """Predict all tasks with the heads of one expert.

    Args:
        heads: The heads of one expert.
        embedding: Embeddings by that expert, in the data type of the store.
        targets: Fitted targets, by task.

    Returns:
        Standardized values of regression tasks, and probabilities of classes or labels, by task.
    """
    heads.eval()
    with torch.no_grad():
        parts = [heads(part) for part in embedding.split(PREDICTION_BATCH_SIZE)]
    outputs = {name: torch.cat([part[name] for part in parts]) for name in targets}
    return {
        name: to_predictions(targets[name].task.kind, output) for name, output in outputs.items()
    }


def to_predictions(
    kind: Kind, output: Float[Tensor, "record output"]
) -> Float[Tensor, "record output"]:
    """Convert the outputs of a head: values of a regression unchanged, logits to probabilities."""
    if kind == "regression":
        return output
    return output.sigmoid() if kind == "multilabel" else output.softmax(-1)


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Return the number of trainable parameters and the number of all parameters."""
    trainable = total = 0
    for name, parameter in model.named_parameters():
        trainable += parameter.numel() if parameter.requires_grad else 0
        # peft keeps an unused copy of the initial output layer.
        total += 0 if "original_module" in name else parameter.numel()
    return trainable, total


def _fit_stack(
    data: StackedData,
    groups: Sequence[Group],
    settings: FitSettings,
    bases: Sequence[nn.Linear] | None,
    paths: FittedPaths | None,
) -> tuple[StackedFFN, Float[np.ndarray, "epoch group task"]]:
    """Train the heads of all groups and return their stack and validation losses."""
    config = StackConfig(
        features=data.embedding.shape[1],
        hidden=settings.hidden,
        outputs=data.outputs,
        depth=0 if settings.adaptation == "linear" else 1,
        lora=settings.adaptation in ("lora", "shared-lora", "linear-lora"),
        # With a linear path, the rest starts as a correction of 0.
        zero_prediction=paths is not None,
        rank=settings.rank,
        alpha=settings.alpha,
        dropout=settings.dropout,
    )

    def initialize(config: StackConfig) -> StackedFFN:
        stack = StackedFFN(config, len(data.tasks), [group.seed for group in groups])
        return stack.to(data.embedding.device)

    if settings.adaptation != "shared-lora":
        stack = initialize(config)
        losses = _head_losses(stack, data, groups, None if paths is None else paths.outputs)
        return stack, train_stack(stack, losses, groups, settings)
    stack = initialize(replace(config, shared=True))
    if bases is None:
        base = initialize(replace(config, lora=False, shared=True))
        train_stack(base, _head_losses(base, data, groups), groups, settings, joint=True)
        with torch.no_grad():
            stack.weight[0].copy_(base.weight[0])
            stack.bias[0].copy_(base.bias[0])
            stack.prediction.copy_(base.prediction)
            stack.prediction_bias.copy_(base.prediction_bias)
    else:
        # Both folds use the layer that was trained for other tasks on all training records.
        layers = [bases[group.repeat] for group in groups]
        with torch.no_grad():
            stack.weight[0].copy_(torch.stack([layer.weight for layer in layers]).unsqueeze(1))
            stack.bias[0].copy_(torch.stack([layer.bias for layer in layers]).unsqueeze(1))
    return stack, train_stack(stack, _head_losses(stack, data, groups), groups, settings)


def _head_losses(
    stack: StackedFFN,
    data: StackedData,
    groups: Sequence[Group],
    offset: Float[Tensor, "repeat task record output"] | None = None,
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    repeats = torch.tensor([group.repeat for group in groups], device=data.embedding.device)
    with torch.no_grad():
        first = precompute_first_layer(stack, data, groups)
    valid = data.valid[repeats].unsqueeze(2)

    def losses(rows: Tensor) -> tuple[Tensor, Tensor]:
        output = stack(data.features(repeats, rows), first(rows))
        if offset is not None:
            # Indexing tensors separated by a slice put the indexed axes first.
            output = output + offset[repeats.unsqueeze(1), :, rows].movedim(2, 1)
        logits = output.masked_fill(~valid, float("-inf")).log_softmax(-1)
        sums = sum_losses(output[..., 0], logits, data.targets(repeats, rows), data.regression)
        present, absent = functional.logsigmoid(output), functional.logsigmoid(-output)
        return data.add_label_losses(sums, repeats, rows, present, absent)

    return losses


def _extract_heads(
    stack: StackedFFN,
    position: int,
    data: StackedData,
    repeat: int,
    settings: FitSettings,
    paths: LinearPaths | None = None,
) -> TaskHeads:
    """Copy one group of the stack into a `TaskHeads` module, which can be saved."""
    targets = data.repeats[repeat].targets
    heads = TaskHeads(
        data.embedding.shape[1],
        {name: target.outputs for name, target in targets.items()},
        hidden=settings.hidden,
        dropout=settings.dropout,
        depth=stack.config.depth,
        shared=stack.config.shared,
        linear=paths is not None,
    )
    if paths is not None:
        paths.copy_to(repeat, list(heads.ffn.values()))
    if stack.config.lora:
        heads.adapt(rank=settings.rank, alpha=settings.alpha, dropout=settings.dropout)
    heads.to(data.embedding.device)
    data.copy_standardization(heads.standardise, repeat)
    stack.copy_to(position, list(heads.ffn.values()))
    return heads.eval()
