"""Parameters of the verification of stores."""

from typing import Annotated

from cyclopts import Parameter

from flows.parameters import RECOMPUTATION, number

DEFAULT_SAMPLE = 16
"""Default of the maximum number of rows to recompute per store."""

Sample = Annotated[
    int | None,
    *number(
        f"Maximum rows to recompute per store, drawn at random; by default {DEFAULT_SAMPLE}.",
        RECOMPUTATION,
        ge=1,
    ),
]
RecomputedDataset = Annotated[
    str | None,
    Parameter(group=RECOMPUTATION, help="Data set to recompute from, as SOURCE:FOLDER."),
]
RecomputedWeights = Annotated[
    tuple[str, ...],
    Parameter(
        group=RECOMPUTATION,
        help="Weights to recompute with, as for extract; by default the random weights in the "
        "store's provenance, or otherwise the published weights.",
    ),
]
DailySeed = Annotated[
    int | None,
    *number(
        "Seed of the sample; by default the date, so that other rows are recomputed each day.",
        RECOMPUTATION,
        ge=0,
    ),
]
