"""The gates of all repeats, trained in one pass over heads that stay as they are."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from enecg.gate import Gate, expert_weights
from enecg.heads import with_lora
from enecg.stacked import StackConfig, StackedFFN
from pipeline.training.fit import Fit, FitSettings, count
from pipeline.training.stack import keeps_random_state, steps_of, train_stack
from pipeline.training.stack_data import Labelled, StackedData, first_layer, summed_loss


@keeps_random_state
def fit_gates(
    leads: Float[Tensor, "record feature"],
    repeats: Sequence[Labelled],
    out_of_fold: Sequence[dict[str, Float[Tensor, "expert record output"]]],
    settings: FitSettings,
    learning_rates: Sequence[float] | None = None,
) -> list[Fit]:
    """Every repeat's gate over heads that are trained and stay as they are; `out_of_fold` are their
    answers by task; `learning_rates` a repeat's own, where they differ.
    """
    data = StackedData.of(leads, repeats)
    experts = next(iter(out_of_fold[0].values())).shape[0]
    sets = data.outputs if settings.gate_weights == "output" else 1
    shape = StackConfig(
        features=leads.shape[1],
        hidden=settings.gate_hidden,
        outputs=sets * experts,
        depth=settings.gate_depth,
        zero_prediction=True,
        rank=settings.rank,
        alpha=settings.alpha,
        dropout=settings.dropout,
    )
    of_repeat = list(range(len(repeats)))
    seeds = [one.seed for one in repeats]
    stack = StackedFFN(shape, len(data.tasks), seeds).to(leads.device)
    history = train_stack(
        stack,
        _gate_losses(stack, data, of_repeat, _answers(out_of_fold, data), experts, settings),
        [one.train for one in repeats],
        [one.validation for one in repeats],
        steps=[steps_of(one.train, settings.batch_size) for one in repeats],
        seeds=seeds,
        batch_size=settings.batch_size,
        epochs=settings.epochs,
        patience=settings.patience,
        learning_rates=learning_rates or [settings.learning_rate] * len(seeds),
    )
    fits = []
    for number, labelled in enumerate(repeats):
        per_output = settings.gate_weights == "output"
        gate = Gate(
            leads.shape[1],
            {name: one.outputs if per_output else 1 for name, one in labelled.targets.items()},
            experts,
            hidden=settings.gate_hidden,
            dropout=settings.dropout,
            depth=settings.gate_depth,
            top_k=settings.top_k,
        ).to(leads.device)
        data.set_standardise(gate.standardise, number)
        model = with_lora(gate, rank=settings.rank, alpha=settings.alpha, dropout=settings.dropout)
        stack.copy_to(number, list(gate.ffn.values()))
        losses = {
            task: history[:, number, place].tolist() for place, task in enumerate(labelled.targets)
        }
        fits.append(Fit(model.eval(), losses, *count(model)))
    return fits


def _answers(
    out_of_fold: Sequence[dict[str, Float[Tensor, "expert record output"]]], data: StackedData
) -> Float[Tensor, "repeat task record output expert"]:
    """The heads' answers laid out for the gates, 0 where a task has no such output."""
    experts = next(iter(out_of_fold[0].values())).shape[0]
    laid = torch.zeros(
        (len(out_of_fold), len(data.tasks), data.rows.shape[1], data.outputs, experts),
        device=data.embedding.device,
    )
    for number, of_tasks in enumerate(out_of_fold):
        for place, task in enumerate(data.tasks):
            answers = of_tasks[task].permute(1, 2, 0)
            laid[number, place, : answers.shape[0], : answers.shape[1]] = answers
    return laid


def _gate_losses(
    stack: StackedFFN,
    data: StackedData,
    of_repeat: Sequence[int],
    answers: Float[Tensor, "repeat task record output expert"],
    experts: int,
    settings: FitSettings,
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    repeats = torch.tensor(of_repeat, device=data.embedding.device)
    with torch.no_grad():
        first = first_layer(stack, data, of_repeat)
    sets_there = data.valid if settings.gate_weights == "output" else data.valid[..., :1]

    def losses(rows: Tensor) -> tuple[Tensor, Tensor]:
        output = stack(data.features(repeats, rows), first(rows))
        logits = output.unflatten(-1, (-1, experts))
        weights = expert_weights(logits, settings.top_k)
        if settings.top_k and stack.training:
            # Experts that are not heard learn too, else the choice could never change: the
            # gradient is that of hearing them all (straight-through).
            heard_all = expert_weights(logits)
            weights = weights.detach() + heard_all - heard_all.detach()
        # Advanced indices apart from each other put the picked axes first.
        picked = answers[repeats.unsqueeze(1), :, rows].movedim(2, 1)
        mixed = (weights * picked).sum(-1)
        # Mixed probabilities of one set of weights sum to 1; those of many are made to.
        share = mixed / mixed.sum(-1, keepdim=True).clamp_min(1e-7)
        total, known = summed_loss(
            mixed[..., 0],
            share.clamp_min(1e-7).log(),
            data.targets(repeats, rows),
            data.regression,
        )
        if settings.balance and stack.training:
            # 0 where all experts get the same weight on average, experts - 1 where one gets all;
            # of each set of weights that the task has.
            uneven = experts * weights.mean(2).square().sum(-1) - 1
            uneven = torch.where(sets_there[repeats], uneven, 0).sum(-1)
            total = total + settings.balance * known * uneven / sets_there[repeats].sum(-1)
        return total, known

    return losses
