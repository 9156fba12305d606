"""Training of the gates of all repeats in one pass, on the predictions of trained heads."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from enecg.gate import MIN_PROBABILITY, Gate, Mixture, expert_weights
from enecg.spectrum import log_spectrum
from enecg.stacked import StackConfig, StackedFFN, StackPart
from pipeline.training.correction import FOLDS, fit_train_factors, predict_other_folds
from pipeline.training.first_layer import precompute_first_layer
from pipeline.training.fitted_models import FittedModel, count_parameters
from pipeline.training.gate_prior import fit_prior
from pipeline.training.labeled_repeat import LabeledRepeat
from pipeline.training.settings import FitSettings
from pipeline.training.stack import BuildLossFunction, Group, LossFunction, train_stack
from pipeline.training.stack_data import PREDICTION_BATCH_SIZE, StackedData
from pipeline.training.stack_losses import sum_losses
from pipeline.training.torch_state import preserve_random_state


@preserve_random_state
def fit_gates(
    leads: Float[Tensor, "record feature"],
    repeats: Sequence[LabeledRepeat],
    outputs: Sequence[dict[str, Float[Tensor, "expert record output"]]],
    settings: FitSettings,
) -> list[FittedModel]:
    """Train the gate of every repeat; the heads are not updated.

    Args:
        leads: Sampled leads of all records, in the data type of the store.
        repeats: Records and labels of each repeat.
        outputs: For each repeat, the predictions of the experts' heads by task, out of fold for
            training records.
        settings: Hyperparameters.

    Returns:
        The gate of each repeat.
    """
    spectrum = settings.gate_input == "spectrum"
    if spectrum:
        leads = torch.cat([log_spectrum(part) for part in leads.split(PREDICTION_BATCH_SIZE)])
    data = StackedData.from_repeats(leads, repeats, settings.max_tensor_bytes)
    predictions = _stack_predictions(outputs, data)
    experts = predictions.shape[-1]
    per_output = settings.gate_weights == "output"
    config = StackConfig(
        features=leads.shape[1],
        hidden=settings.gate_hidden,
        outputs=experts * (data.outputs if per_output else 1),
        depth=settings.gate_depth,
        zero_prediction=True,
        rank=settings.rank,
        alpha=settings.alpha,
        dropout=settings.dropout,
    )
    # With balanced weights, the FFN is not a correction of a prior.
    folds = FOLDS[:1] if settings.balance else FOLDS
    groups = [
        Group.of(index, repeat, settings, fold)
        for index, repeat in enumerate(repeats)
        for fold in folds
    ]
    stack = StackedFFN.initialize(config, len(data.tasks), [group.seed for group in groups]).to(
        leads.device
    )
    priors = torch.stack(
        [
            fit_prior(repeat, by_task, settings.mixture)
            for repeat, by_task in zip(repeats, outputs, strict=True)
        ]
    )
    if settings.balance:  # favors equal weights
        priors = torch.zeros_like(priors)
    build_loss_function = _build_loss_function(stack, data, groups, predictions, priors, settings)
    history = train_stack(stack, build_loss_function, groups, settings)[:, :: len(folds)]
    repeat_of = [group.repeat for group in groups]
    if not settings.balance:
        correction = predict_other_folds(stack, data, groups).unflatten(-1, (-1, experts))

        def corrected_losses(repeat: int, rows: Tensor, factor: float) -> tuple[Tensor, Tensor]:
            logits = priors[[repeat]][:, :, None, None]
            logits = logits + factor * correction[[repeat]][:, :, rows[0]]
            repeats = torch.tensor([repeat], device=rows.device)
            weights = expert_weights(logits, settings.top_k)
            return _mixture_losses(data, predictions, weights, repeats, rows, settings.mixture)

        stack.scale_predictions(fit_train_factors(data, corrected_losses)[repeat_of])
    with torch.no_grad():
        stack.prediction_bias.add_(priors[repeat_of].repeat(1, 1, config.outputs // experts))
    fits = []
    for index, repeat in enumerate(repeats):
        gate = Gate(
            leads.shape[1],
            {
                task: targets.outputs if per_output else 1
                for task, targets in repeat.targets.items()
            },
            experts,
            hidden=settings.gate_hidden,
            dropout=settings.dropout,
            depth=settings.gate_depth,
            top_k=settings.top_k,
            spectrum=spectrum,
        ).to(leads.device)
        data.copy_standardization(gate.standardise, index)
        stack.copy_to(index * len(folds), gate.ffn.values())
        validation = {task: history[:, index, n].tolist() for n, task in enumerate(data.tasks)}
        fits.append(FittedModel(gate.eval(), validation, *count_parameters(gate)))
    return fits


def _stack_predictions(
    outputs: Sequence[dict[str, Float[Tensor, "expert record output"]]], data: StackedData
) -> Float[Tensor, "repeat task record output expert"]:
    """Copy the heads' predictions into one tensor, padded with zeros."""
    experts = len(next(iter(outputs[0].values())))
    stacked = torch.zeros(
        (len(outputs), len(data.tasks), data.rows.shape[1], data.outputs, experts),
        device=data.embedding.device,
    )
    for repeat, by_task in enumerate(outputs):
        for position, task in enumerate(data.tasks):
            predictions = by_task[task].permute(1, 2, 0)
            records, columns, _ = predictions.shape
            stacked[repeat, position, :records, :columns] = predictions
    return stacked


def _build_loss_function(
    stack: StackedFFN,
    data: StackedData,
    groups: Sequence[Group],
    predictions: Float[Tensor, "repeat task record output expert"],
    priors: Float[Tensor, "repeat task expert"],
    settings: FitSettings,
) -> BuildLossFunction:
    repeat_of = torch.tensor([group.repeat for group in groups], device=data.embedding.device)
    experts = predictions.shape[-1]
    with torch.no_grad():
        first = precompute_first_layer(stack, data, groups)

    def build(stack: StackedFFN, part: StackPart) -> LossFunction:
        repeats, labels = repeat_of[part.groups], data.select_tasks(part.tasks)
        of_tasks, prior = predictions[:, part.tasks], priors[:, part.tasks]
        valid = labels.valid if settings.gate_weights == "output" else labels.valid[..., :1]

        def losses(rows: Tensor) -> tuple[Tensor, Tensor]:
            output = stack(data.features(repeats, rows), first(part, rows))
            logits = output.unflatten(-1, (-1, experts)) + prior[repeats][:, :, None, None]
            weights = expert_weights(logits, settings.top_k)
            if settings.top_k and stack.training:
                # Straight-through estimator: the gradient is that of the weights over all experts.
                # Otherwise the weights of experts that are not selected would never be updated.
                dense = expert_weights(logits)
                weights = weights.detach() + dense - dense.detach()
            total, known = _mixture_losses(
                labels, of_tasks, weights, repeats, rows, settings.mixture
            )
            if settings.balance and stack.training:
                # For each set of weights: 0 if the mean weights of all experts are equal,
                # experts - 1 if one expert has the total weight.
                imbalance = experts * weights.mean(2).square().sum(-1) - 1
                imbalance = torch.where(valid[repeats], imbalance, 0).sum(-1)
                total = total + settings.balance * known * imbalance / valid[repeats].sum(-1)
            return total, known

        return losses

    return build


def _mixture_losses(
    data: StackedData,
    predictions: Float[Tensor, "repeat task record output expert"],
    weights: Float[Tensor, "group task batch output_or_1 expert"],
    repeats: Int[Tensor, " group"],
    rows: Int[Tensor, "group batch"],
    mixture: Mixture,
) -> tuple[Float[Tensor, "group task"], Float[Tensor, "group task"]]:
    """Return the summed losses of weighted predictions and the numbers of known labels."""
    # Indexing tensors separated by a slice put the indexed axes first, so restore the order.
    picked = predictions[repeats.unsqueeze(1), :, rows].movedim(2, 1)
    mixed = (weights * picked).sum(-1)
    labels = mixed
    if mixture == "logits":
        mean = (weights * picked.clamp_min(MIN_PROBABILITY).log()).sum(-1)
        valid = data.valid[repeats].unsqueeze(2)
        log_probability = mean.masked_fill(~valid, float("-inf")).log_softmax(-1)
        labels = (weights * picked.logit(MIN_PROBABILITY)).sum(-1).sigmoid()
    else:
        # With a set of weights per class, the mixed probabilities do not sum to 1.
        probability = mixed / mixed.sum(-1, keepdim=True).clamp_min(MIN_PROBABILITY)
        log_probability = probability.clamp_min(MIN_PROBABILITY).log()
    targets = data.targets(repeats, rows)
    sums = sum_losses(mixed[..., 0], log_probability, targets, data.regression)
    if not data.indicators:
        return sums
    present, absent = (share.clamp_min(MIN_PROBABILITY).log() for share in (labels, 1 - labels))
    return data.add_label_losses(sums, repeats, rows, present, absent)
