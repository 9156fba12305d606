"""Search space of a sweep, and sampling of trial settings from it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast, get_args

import optuna

from enecg.errors import UserError
from pipeline.training.settings import Adaptation, FitSettings


@dataclass(frozen=True)
class Space:
    """Search space: values or range of each hyperparameter.

    Attributes:
        learning_rate: Lower and upper bound in (0, 1], sampled on a log scale. Default: 1e-4 to
            1e-2.
        rank: LoRA ranks, at least 1; used only if the adaptation uses LoRA. Default: 2, 4, 8, 16.
        adaptation: Adaptations of the heads. Default: all.
        gate_depth: Numbers of hidden layers of the gate, at least 1. Default: 1, 2.
        pooling: Poolings of the embeddings; stores must exist for each. Default: ``default``.
    """

    learning_rate: tuple[float, float] = (1e-4, 1e-2)
    rank: tuple[int, ...] = (2, 4, 8, 16)
    adaptation: tuple[str, ...] = ("linear-lora", "lora", "full", "linear", "shared-lora")
    gate_depth: tuple[int, ...] = (1, 2)
    pooling: tuple[str, ...] = ("default",)


def check_space(space: Space) -> None:
    """Check that a search space is valid.

    Args:
        space: The search space.

    Raises:
        UserError: A hyperparameter has no values or an invalid one.
    """
    known = get_args(Adaptation)
    for name in space.adaptation:
        if name not in known:
            raise UserError(
                f"Unknown adaptation {name!r} in --adaptations (available: {', '.join(known)})."
            )
    for option, values in (("ranks", space.rank), ("gate-depths", space.gate_depth)):
        if min(values, default=0) < 1:
            given = ", ".join(map(str, values)) or "none"
            raise UserError(f"--{option} must be integers of at least 1 (given: {given}).")
    lowest, highest = space.learning_rate
    if not 0 < lowest <= highest <= 1:
        raise UserError(
            "--learning-rates must be a lower and an upper bound, above 0 and at most 1 "
            f"(given: {lowest:g}, {highest:g})."
        )
    if not (space.adaptation and space.pooling):
        raise UserError("--adaptations and --poolings must each have at least one value.")


def suggest(trial: optuna.Trial, fit: FitSettings, space: Space) -> tuple[str, FitSettings]:
    """Sample the settings of a trial.

    Args:
        trial: The Optuna trial.
        fit: Hyperparameters; those in the search space are replaced by sampled values.
        space: Search space.

    Returns:
        The pooling and the hyperparameters. The rank is sampled only if the adaptation uses LoRA.
    """
    adaptation = trial.suggest_categorical("adaptation", space.adaptation)
    rank = fit.rank
    if adaptation in ("linear-lora", "lora", "shared-lora"):
        rank = trial.suggest_categorical("rank", space.rank)
    chosen = replace(
        fit,
        adaptation=cast(Adaptation, adaptation),
        rank=rank,
        learning_rate=trial.suggest_float("learning_rate", *space.learning_rate, log=True),
        gate_depth=trial.suggest_categorical("gate_depth", space.gate_depth),
    )
    return trial.suggest_categorical("pooling", space.pooling), chosen


def group_by_shape(suggested: Sequence[tuple[str, FitSettings]]) -> list[list[int]]:
    """Group trials by all settings except the learning rate; a group is trained in one pass.

    Args:
        suggested: Pooling and hyperparameters of each trial.

    Returns:
        For each group, the positions of its trials in `suggested`.
    """
    groups: dict[tuple[str, FitSettings], list[int]] = {}
    for position, (pooling, fit) in enumerate(suggested):
        groups.setdefault(
            (pooling, replace(fit, learning_rate=FitSettings.learning_rate)), []
        ).append(position)
    return list(groups.values())
