"""Command-line options that take one value for all experts and values for single experts."""

from collections.abc import Sequence
from dataclasses import dataclass

from enecg.errors import UserError
from enecg.experts.registry import get_definition

DEFAULTS = {"--weights": "published", "--pooling": "default", "--precision": "float32"}
"""Default value of each option."""


@dataclass(frozen=True)
class ExpertOption:
    """The value of an option for each expert, given as `VALUE` (all) or `EXPERT@VALUE` (one).

    Attributes:
        option: Name of the option, a key of `DEFAULTS`.
        default: Value for all experts without an override.
        overrides: Pairs of expert name and value.
    """

    option: str
    default: str
    overrides: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, option: str, values: Sequence[str]) -> "ExpertOption":
        """Parse the values of an option.

        Args:
            option: Name of the option, a key of `DEFAULTS`.
            values: Values as given on the command line, each `VALUE` or `EXPERT@VALUE`.

        Returns:
            The parsed option.

        Raises:
            UserError: Two values are for the same expert, or two are for all experts.
        """
        for_all: list[str] = []
        overrides: dict[str, str] = {}
        for text in values:
            expert, at, value = text.partition("@")
            # A path or a hub file may contain an @ itself, after a slash or a colon.
            if not at or "/" in expert or ":" in expert:
                for_all.append(text)
            elif expert in overrides:
                raise UserError(f"{option} names expert {expert!r} twice; set one value.")
            else:
                overrides[expert] = value
        if len(for_all) > 1:
            raise UserError(
                f"{option} has {len(for_all)} values for all experts ({', '.join(for_all)}); "
                "pass one, and the others as EXPERT@VALUE."
            )
        return cls(option, for_all[0] if for_all else DEFAULTS[option], tuple(overrides.items()))

    def get(self, expert: str) -> str:
        """Return the value for an expert."""
        return dict(self.overrides).get(expert, self.default)

    def check_experts(self, experts: Sequence[str]) -> None:
        """Check that every override is for one of the given experts.

        Args:
            experts: Names of the requested experts.

        Raises:
            UserError: An override is for an expert that is not among them, or sets weights of an
                expert that has none.
        """
        for expert, value in self.overrides:
            if expert not in experts:
                raise UserError(
                    f"{self.option} refers to expert {expert!r}, which is not one of "
                    f"{', '.join(experts)}; remove {expert}@{value}, or select the expert."
                )
            if self.option == "--weights" and not get_definition(expert).has_weights:
                raise UserError(f"{expert} has no weights; remove {expert}@{value} from --weights.")
