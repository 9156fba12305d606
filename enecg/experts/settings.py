"""Hyperparameters that cannot be inferred from the tensors of a checkpoint."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enecg.errors import UserError

OPTION = "--expert-setting"

Settings = dict[str, int]
"""Values of the settings of one expert, by name of the setting."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExpertSetting:
    """A hyperparameter that changes embeddings but cannot be inferred from a checkpoint's tensors.

    Attributes:
        name: NAME in `--expert-setting EXPERT.NAME=VALUE`, as in the expert's published code.
        architecture_key: Key of the value in `ExpertSpec.architecture`.
        default: Default of the expert's published code, used if neither a checkpoint nor the user
            specifies a value. Experts with random weights may have another default.
        minimum: Smallest accepted value.
        maximum: Largest accepted value.
        odd: Whether the value must be odd.
    """

    name: str
    architecture_key: str
    default: int
    minimum: int
    maximum: int
    odd: bool = False

    def check(self, value: Any, where: str) -> int:
        """Convert a value to an integer and validate it.

        Args:
            value: An integer, or a string of decimal digits.
            where: Option or file that contains the value, for the error message.

        Returns:
            The integer.

        Raises:
            UserError: The value is not an integer, is out of range, or is even and `odd` is True.
        """
        text = str(value).strip()
        # Python raises ValueError for an integer of several thousand digits.
        number = int(text) if text.isdecimal() and len(text) <= 18 else None
        if (
            number is None
            or not self.minimum <= number <= self.maximum
            or (self.odd and number % 2 == 0)
        ):
            raise UserError(
                f"{where}: {self.name} = {value} is not an {'odd ' if self.odd else ''}integer "
                f"from {self.minimum} to {self.maximum}."
            )
        return number

    def resolve(self, expert: str, given: int | None, config: Mapping[str, Any], path: Path) -> int:
        """Determine the value for a checkpoint.

        A value from the checkpoint is logged; the use of the default is logged as a warning.

        Args:
            expert: Name of the expert, for messages.
            given: Value of `--expert-setting`, already validated; None if it is not specified.
            config: Hyperparameters stored in the checkpoint, by name.
            path: The checkpoint, for messages.

        Returns:
            The value stored in the checkpoint, else `given`, else the default.

        Raises:
            UserError: The value in the checkpoint is invalid, or differs from `given`.
        """
        stated = config.get(self.name)
        if stated is not None:
            stated = self.check(stated, str(path))
            if given not in (None, stated):
                raise UserError(
                    f"{path} was trained with {self.name} = {stated}, but {OPTION} "
                    f"{expert}.{self.name}={given} is given; remove the option."
                )
            _log.info("%s: %s = %d, as stated in the checkpoint.", path, self.name, stated)
            return stated
        if given is not None:
            return given
        _log.warning(
            "%s does not state %s of %s; assumed %d, the published default. Set another value with "
            "%s %s.%s=VALUE.",
            *(path, self.name, expert, self.default, OPTION, expert, self.name),
        )
        return self.default


def parse_settings(
    values: Iterable[str], experts: Sequence[str], known: Mapping[str, Sequence[ExpertSetting]]
) -> dict[str, Settings]:
    """Parse the values of `--expert-setting`.

    Args:
        values: Values as given on the command line, each `EXPERT.NAME=VALUE`.
        experts: Names of the requested experts.
        known: Available settings, by expert; contains every requested expert.

    Returns:
        Values of the settings, by expert. Experts without a value are omitted.

    Raises:
        UserError: A value is malformed, invalid (see `ExpertSetting.check`), given twice, or for an
            unknown setting or an expert that is not requested.
    """
    parsed: dict[str, Settings] = {}
    for text in values:
        target, _, value = text.partition("=")
        expert, dot, name = target.strip().partition(".")
        if not (dot and name and value.strip()):
            raise UserError(f"{OPTION} {text} is not EXPERT.NAME=VALUE, such as timesnet.top_k=5.")
        if expert not in experts:
            raise UserError(
                f"{OPTION} refers to expert {expert!r}, which is not one of {', '.join(experts)}; "
                f"remove {text}, or select the expert."
            )
        by_name = {setting.name: setting for setting in known[expert]}
        setting = by_name.get(name)
        if setting is None:
            available = ", ".join(by_name) or "none"
            raise UserError(
                f"{OPTION} {text}: {expert} has no setting {name!r}; available: {available}."
            )
        if name in parsed.get(expert, {}):
            raise UserError(f"{OPTION} sets {expert}.{name} twice; set one value.")
        parsed.setdefault(expert, {})[name] = setting.check(value, f"{OPTION} {text}")
    return parsed
