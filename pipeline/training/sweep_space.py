"""The values that a sweep tries, and the suggestion of a trial's settings."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast, get_args

import optuna

from enecg.errors import UserError
from pipeline.training.settings import Adaptation, FitSettings


@dataclass(frozen=True)
class Space:
    """Values to try for each hyperparameter.

    Attributes:
        learning_rate: Lower and upper bound, in (0, 1]; sampled log-uniformly.
            Default: 1e-4 to 1e-2.
        rank: LoRA ranks, at least 1; tried with LoRA adaptations only. Default: 2, 4, 8, 16.
        adaptation: Adaptations of the heads. Default: all.
        gate_depth: Numbers of hidden layers of the gate, at least 1. Default: 1, 2.
        pooling: Poolings that have stores. Default: ``default`` only.
    """

    learning_rate: tuple[float, float] = (1e-4, 1e-2)
    rank: tuple[int, ...] = (2, 4, 8, 16)
    adaptation: tuple[str, ...] = ("lora", "full", "linear", "shared-lora")
    gate_depth: tuple[int, ...] = (1, 2)
    pooling: tuple[str, ...] = ("default",)


def check_space(space: Space) -> None:
    """Check the values of a search space.

    Args:
        space: The search space.

    Raises:
        UserError: A hyperparameter has no value, or an invalid one.
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
        raise UserError("There is nothing to try; give --adaptations and --poolings.")


def suggest(trial: optuna.Trial, fit: FitSettings, space: Space) -> tuple[str, FitSettings]:
    """Suggest the settings of a trial.

    Args:
        trial: The Optuna trial.
        fit: Hyperparameters that are not searched.
        space: Values to try.

    Returns:
        The pooling and the hyperparameters. The rank is only suggested for LoRA adaptations.
    """
    adaptation = trial.suggest_categorical("adaptation", space.adaptation)
    rank = fit.rank
    if adaptation in ("lora", "shared-lora"):
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
    """Group trials that can be trained in one pass: those that differ in the learning rate only.

    Args:
        suggested: Pooling and hyperparameters of each trial.

    Returns:
        The positions of the trials in each group.
    """
    groups: dict[tuple[str, FitSettings], list[int]] = {}
    for number, (pooling, fit) in enumerate(suggested):
        groups.setdefault((pooling, replace(fit, learning_rate=0.0)), []).append(number)
    return list(groups.values())
