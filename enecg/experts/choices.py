"""An option that is chosen for all experts at once, or for one: `CHOICE` or `EXPERT@CHOICE`."""

from collections.abc import Sequence
from dataclasses import dataclass

from enecg.errors import UserError

DEFAULTS = {"--weights": "published", "--pooling": "default"}
"""What holds for an expert that nothing was chosen for."""


@dataclass(frozen=True)
class Choices:
    """One choice for all experts, and others for single ones."""

    default: str
    of_expert: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, option: str, given: Sequence[str]) -> "Choices":
        """Read what was given for an option of `DEFAULTS`.

        Raises UserError where two choices speak of the same expert, or of all.
        """
        for_all: list[str] = []
        of_expert: dict[str, str] = {}
        for one in given:
            expert, at, choice = one.partition("@")
            # A path or a file on the hub may have an @ of its own, behind a slash or a colon.
            if not at or "/" in expert or ":" in expert:
                for_all.append(one)
            elif expert in of_expert:
                raise UserError(f"{option} names {expert!r} twice; give it one choice.")
            else:
                of_expert[expert] = choice
        if len(for_all) > 1:
            raise UserError(
                f"{option} has {len(for_all)} choices for all experts ({', '.join(for_all)}); "
                "give one, and others as EXPERT@CHOICE."
            )
        return cls(for_all[0] if for_all else DEFAULTS[option], tuple(of_expert.items()))

    def of(self, expert: str) -> str:
        """The choice that holds for an expert."""
        return dict(self.of_expert).get(expert, self.default)

    def refuse_strangers(self, option: str, experts: Sequence[str]) -> None:
        """Raises UserError where a single choice is for an expert that is not among these."""
        for expert, _ in self.of_expert:
            if expert not in experts:
                raise UserError(f"{option} speaks of {expert!r}, which is not among --experts.")
