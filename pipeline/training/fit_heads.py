"""Joint training of the heads of one expert for all repeats and tasks."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from enecg.heads import TaskHeads
from enecg.quantile_bins import BINS
from enecg.stacked import StackConfig, StackedFFN, StackPart
from pipeline.training.correction import FOLDS, fit_factors, predict_other_folds
from pipeline.training.first_layer import precompute_first_layer
from pipeline.training.fitted_models import FittedHeads, count_parameters
from pipeline.training.head_outputs import predict_heads, predict_left_out, to_predictions
from pipeline.training.labeled_repeat import LabeledRepeat, validation_loss
from pipeline.training.linear_path import FittedPaths, LinearPaths, fit_linear_paths
from pipeline.training.ridge_heads import extract_ridge
from pipeline.training.settings import FitSettings
from pipeline.training.stack import BuildLossFunction, Group, LossFunction, train_stack
from pipeline.training.stack_data import StackedData
from pipeline.training.stack_losses import sum_output_losses
from pipeline.training.torch_state import preserve_random_state


@preserve_random_state
def fit_heads(
    embedding: Float[Tensor, "record feature"],
    repeats: Sequence[LabeledRepeat],
    settings: FitSettings,
    bases: Sequence[nn.Linear] | None = None,
    *,
    combined: bool = True,
) -> list[FittedHeads]:
    """Train the heads of one expert for each repeat, on all training records and on each fold.

    All heads are trained at the same time. Different repeats and folds share no parameters, so the
    result is the same as if they were trained separately, with one exception: the largest
    number of records in any repeat determines for all repeats whether features are encoded and
    whether kernels are used; see `can_encode` and `can_use_kernel`.

    Args:
        embedding: Embeddings of all records, in the data type of the store.
        repeats: Records and labels of each repeat.
        settings: Hyperparameters. With ``linear``, the heads are ridge regressions in closed form.
        bases: Frozen hidden layer of each repeat, for ``shared-lora`` only. Default: the layers
            are trained first.
        combined: Whether the heads are combined with those of other experts, which requires heads
            on folds. If False, heads on folds are trained only for ``linear-lora``. Default: True.

    Returns:
        The heads of each repeat.

    Raises:
        UserError: A temporary file cannot be allocated; see `MappedTensor`.
    """
    folds = FOLDS if combined or settings.adaptation == "linear-lora" else FOLDS[:1]
    data = StackedData.from_repeats(embedding, repeats, settings.max_tensor_bytes)
    groups = [
        Group.of(index, repeat, settings, fold)
        for index, repeat in enumerate(repeats)
        for fold in folds
    ]
    # The ridge regression baseline is fitted for any adaptation.
    ridge, average = fit_linear_paths(data, nonlinear=settings.adaptation == "linear-lora")
    if settings.adaptation == "linear":
        return _use_ridge(ridge, data, settings)
    paths = average if settings.adaptation == "linear-lora" else None
    stack, history = _fit_stack(data, groups, settings, bases, paths)
    untrained = _initialize(data, settings)
    out_of_fold = predict_other_folds(stack, data, groups)
    if paths is not None:
        left_out, correction = paths.left_out, out_of_fold

        def corrected_losses(repeat: int, rows: Tensor, factor: float) -> tuple[Tensor, Tensor]:
            output = (
                left_out[[repeat]][:, :, rows[0]] + factor * correction[[repeat]][:, :, rows[0]]
            )
            repeats = torch.tensor([repeat], device=rows.device)
            return sum_output_losses(data, repeats, rows, output)

        factors = fit_factors(history[:, :: len(folds)], data, corrected_losses)
        stack.scale_predictions(factors[[group.repeat for group in groups]])
        out_of_fold = left_out + factors[..., None, None] * correction
    fits = []
    for index, repeat in enumerate(repeats):
        features, position = embedding[repeat.rows], index * len(folds)
        train_paths = None if paths is None else paths.train
        heads = _extract_heads(stack, position, data, index, settings, train_paths)
        others = torch.cat([repeat.validation, repeat.test])
        predicted = predict_heads(heads, features[others], repeat.targets)
        outputs = {}
        for number, (task, target) in enumerate(repeat.targets.items()):
            output = out_of_fold[index, number, repeat.train, : target.outputs]
            trained = to_predictions(target.task.kind, output)
            outputs[task] = torch.cat([trained, predicted[task]])
        validation = {task: output[repeat.validation] for task, output in outputs.items()}
        initial = _extract_heads(untrained, index, data, index, settings)
        if paths is not None:
            # In outputs, use paths fitted on validation records for the test records only.
            paths.refit.copy_to(index, heads)
            validation = predict_left_out(heads, features, repeat, paths.refit_left_out[index])
            tested = predict_heads(heads, features[repeat.test], repeat.targets)
            for task, output in tested.items():
                outputs[task][repeat.test] = output
        final, ridge_outputs = _predict_ridge(ridge, data, index)
        fits.append(
            FittedHeads(
                heads,
                {task: history[:, position, n].tolist() for n, task in enumerate(data.tasks)},
                *count_parameters(heads),
                outputs=outputs,
                validation=validation,
                untrained=predict_heads(initial, features, repeat.targets),
                ridge=final,
                ridge_outputs=ridge_outputs,
            )
        )
    return fits


def _use_ridge(ridge: FittedPaths, data: StackedData, settings: FitSettings) -> list[FittedHeads]:
    """Return heads that are the ridge regressions."""
    untrained = _initialize(data, settings)
    fits = []
    for index, repeat in enumerate(data.repeats):
        heads, outputs = _predict_ridge(ridge, data, index)
        initial = _extract_heads(untrained, index, data, index, settings)
        fits.append(
            FittedHeads(
                heads,
                {task: [validation_loss(repeat, task, outputs[task])] for task in data.tasks},
                *count_parameters(heads),
                outputs=outputs,
                validation={
                    task: to_predictions(
                        target.task.kind,
                        ridge.refit_left_out[index, number, repeat.validation, : target.outputs],
                    )
                    for number, (task, target) in enumerate(repeat.targets.items())
                },
                untrained=predict_heads(initial, data.embedding[repeat.rows], repeat.targets),
                ridge=heads,
                ridge_outputs=outputs,
            )
        )
    return fits


def _predict_ridge(
    ridge: FittedPaths, data: StackedData, index: int
) -> tuple[TaskHeads, dict[str, Float[Tensor, "record output"]]]:
    """Return the final ridge regressions of a repeat and the predictions for its records."""
    repeat = data.repeats[index]
    final = extract_ridge(ridge.refit, data, index)
    outputs = {}
    tested = predict_heads(final, data.embedding[repeat.rows[repeat.test]], repeat.targets)
    for number, (task, target) in enumerate(repeat.targets.items()):
        output = ridge.left_out[index, number, : len(repeat.rows), : target.outputs]
        outputs[task] = to_predictions(target.task.kind, output).clone()
        outputs[task][repeat.test] = tested[task]
    return final, outputs


def _configure(data: StackedData, settings: FitSettings, *, zero_prediction: bool) -> StackConfig:
    """Return the shapes of the heads of one expert."""
    return StackConfig(
        features=data.embedding.shape[1],
        hidden=settings.hidden,
        outputs=data.outputs,
        depth=0 if settings.adaptation == "linear" else 1,
        lora=settings.adaptation in ("lora", "shared-lora", "linear-lora"),
        zero_prediction=zero_prediction,
        rank=settings.rank,
        alpha=settings.alpha,
        dropout=settings.dropout,
    )


def _initialize(data: StackedData, settings: FitSettings) -> StackedFFN:
    """Return untrained heads of every repeat, without LoRA: an untrained adapter adds 0."""
    config = replace(_configure(data, settings, zero_prediction=False), lora=False)
    stack = StackedFFN.initialize(config, len(data.tasks), [repeat.seed for repeat in data.repeats])
    return stack.to(data.embedding.device)


def _fit_stack(
    data: StackedData,
    groups: Sequence[Group],
    settings: FitSettings,
    bases: Sequence[nn.Linear] | None,
    paths: FittedPaths | None,
) -> tuple[StackedFFN, Float[np.ndarray, "epoch group task"]]:
    """Train the heads of all groups and return their stack and validation losses."""
    # With a linear path, the FFN is a correction that starts at 0.
    config = _configure(data, settings, zero_prediction=paths is not None)

    def initialize(config: StackConfig) -> StackedFFN:
        stack = StackedFFN.initialize(config, len(data.tasks), [group.seed for group in groups])
        return stack.to(data.embedding.device)

    if settings.adaptation != "shared-lora":
        stack = initialize(config)
        offset = None if paths is None else paths.left_out
        build_loss_function = _build_loss_function(stack, data, groups, offset)
        return stack, train_stack(stack, build_loss_function, groups, settings)
    stack = initialize(replace(config, shared=True))
    if bases is None:
        base = initialize(replace(config, lora=False, shared=True))
        train_stack(base, _build_loss_function(base, data, groups), groups, settings, joint=True)
        with torch.no_grad():
            stack.weight[0].copy_(base.weight[0])
            stack.bias[0].copy_(base.bias[0])
            stack.prediction_weight.copy_(base.prediction_weight)
            stack.prediction_bias.copy_(base.prediction_bias)
    else:
        # Folds also use the layers of the base run, which were trained on all training records.
        layers = [bases[group.repeat] for group in groups]
        with torch.no_grad():
            stack.weight[0].copy_(torch.stack([layer.weight for layer in layers]).unsqueeze(1))
            stack.bias[0].copy_(torch.stack([layer.bias for layer in layers]).unsqueeze(1))
    return stack, train_stack(stack, _build_loss_function(stack, data, groups), groups, settings)


def _build_loss_function(
    stack: StackedFFN,
    data: StackedData,
    groups: Sequence[Group],
    offset: Float[Tensor, "repeat task record output"] | None = None,
) -> BuildLossFunction:
    repeat_of = torch.tensor([group.repeat for group in groups], device=data.embedding.device)
    with torch.no_grad():
        first = precompute_first_layer(stack, data, groups)

    def build(stack: StackedFFN, part: StackPart) -> LossFunction:
        repeats, labels = repeat_of[part.groups], data.select_tasks(part.tasks)
        part_offset = None if offset is None else offset[:, part.tasks]

        def losses(rows: Tensor) -> tuple[Tensor, Tensor]:
            output = stack(data.features(repeats, rows), first(part, rows))
            if part_offset is not None:
                # Advanced indices that are separated by a slice put the indexed axes first.
                output = output + part_offset[repeats.unsqueeze(1), :, rows].movedim(2, 1)
            return sum_output_losses(labels, repeats, rows, output)

        return losses

    return build


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
        bins=BINS if paths is not None and paths.encoders is not None else 0,
        landmarks=0 if paths is None else paths.count_landmarks(repeat),
    )
    if paths is not None:
        paths.copy_to(repeat, heads)
    heads.to(data.embedding.device)
    data.copy_standardization(heads.standardise, repeat)
    stack.copy_to(position, heads.ffn.values())
    return heads.eval()
