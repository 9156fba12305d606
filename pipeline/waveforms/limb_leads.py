"""The limb leads: any two of them determine the other four."""

from collections.abc import Collection
from fractions import Fraction
from itertools import islice
from typing import NamedTuple

LIMB_LEADS = {
    "I": (Fraction(1), Fraction(0)),
    "II": (Fraction(0), Fraction(1)),
    # III = II - I (Einthoven).
    "III": (Fraction(-1), Fraction(1)),
    # The augmented leads (Goldberger).
    "aVR": (Fraction(-1, 2), Fraction(-1, 2)),
    "aVL": (Fraction(1), Fraction(-1, 2)),
    "aVF": (Fraction(-1, 2), Fraction(1)),
}
"""Each limb lead as a combination of I and II."""


class Derivation(NamedTuple):
    """A limb lead as a combination of two other limb leads.

    Attributes:
        lead: The derived lead.
        sources: The two recorded leads.
        weights: Factor of each source in the sum.
    """

    lead: str
    sources: tuple[str, str]
    weights: tuple[float, float]


def derive_limb_leads(recorded: Collection[str]) -> tuple[Derivation, ...]:
    """Return how to compute the missing limb leads.

    Args:
        recorded: Names of the recorded leads. The first two limb leads among them, in the order of
            `LIMB_LEADS`, are the sources.

    Returns:
        One derivation per missing limb lead; none if fewer than two limb leads are recorded.
    """
    first = tuple(islice((lead for lead in LIMB_LEADS if lead in recorded), 2))
    if len(first) < 2:
        return ()
    (a, b), (c, d) = (LIMB_LEADS[lead] for lead in first)
    determinant = a * d - b * c
    return tuple(
        Derivation(
            lead,
            (first[0], first[1]),
            (float((x * d - y * c) / determinant), float((y * a - x * b) / determinant)),
        )
        for lead, (x, y) in LIMB_LEADS.items()
        if lead not in recorded
    )
