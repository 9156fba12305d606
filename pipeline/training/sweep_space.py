"""What a sweep tries, and how a trial draws from it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import get_args

import optuna

from enecg.errors import UserError
from pipeline.training.fit import Adaptation, FitSettings


@dataclass(frozen=True)
class Space:
    """What is tried: the values of each setting. `learning_rate` is tried between two values."""

    learning_rate: tuple[float, float] = (1e-4, 1e-2)
    rank: tuple[int, ...] = (2, 4, 8, 16)
    adaptation: tuple[str, ...] = ("lora", "full", "linear", "shared-lora")
    gate_depth: tuple[int, ...] = (1, 2)
    pooling: tuple[str, ...] = ("default",)


def check_space(space: Space) -> None:
    """Raises UserError where a setting has nothing to try, or what is no value of it."""
    known = get_args(Adaptation)
    for name in space.adaptation:
        if name not in known:
            raise UserError(f"There is no adaptation {name!r}; there are {', '.join(known)}.")
    for option, values in (("ranks", space.rank), ("gate-depths", space.gate_depth)):
        if min(values, default=0) < 1:
            raise UserError(f"--{option} {values} cannot be tried; give whole numbers from 1 on.")
    lowest, highest = space.learning_rate
    if not 0 < lowest <= highest <= 1:
        raise UserError(
            f"--learning-rates {lowest:g} {highest:g} cannot be tried; give a lower and a higher "
            "one, above 0 and at most 1."
        )
    if not (space.adaptation and space.pooling):
        raise UserError("Nothing to try; name --adaptations and --poolings.")


def suggest(trial: optuna.Trial, fit: FitSettings, space: Space) -> tuple[str, FitSettings]:
    """A trial's pooling and settings; what a setting means nothing to is not tried."""
    adaptation = trial.suggest_categorical("adaptation", space.adaptation)
    rank = fit.rank
    if adaptation in ("lora", "shared-lora"):
        rank = trial.suggest_categorical("rank", space.rank)
    chosen = replace(
        fit,
        adaptation=adaptation,  # type: ignore[arg-type]
        rank=rank,
        learning_rate=trial.suggest_float("learning_rate", *space.learning_rate, log=True),
        gate_depth=trial.suggest_categorical("gate_depth", space.gate_depth),
    )
    return trial.suggest_categorical("pooling", space.pooling), chosen


def of_one_shape(tried: Sequence[tuple[str, FitSettings]]) -> list[list[int]]:
    """Trials by number, those together whose FFNs have one shape."""
    together: dict[tuple[str, FitSettings], list[int]] = {}
    for number, (pooling, fit) in enumerate(tried):
        together.setdefault((pooling, replace(fit, learning_rate=0.0)), []).append(number)
    return list(together.values())
