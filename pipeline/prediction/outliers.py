"""Embeddings that are far outside the training embeddings, or not finite."""

from collections.abc import Mapping

from enecg.leads import LeadsSample
from pipeline.training.features import Features

FAR = 1.5
"""Relative distance above which an embedding is reported; see `pipeline.training.domain`."""


def describe_distances(distances: Mapping[str, float]) -> tuple[str, ...]:
    """Return a warning if an embedding is far outside the training embeddings.

    Args:
        distances: Relative distance by expert, where 1 is exceeded by 1 % of the validation
            records.

    Returns:
        One clause to append to the record's name, or none.
    """
    far = {name: distance for name, distance in distances.items() if not distance <= FAR}
    if not far:
        return ()
    described = ", ".join(f"{name} {distance:.1f}" for name, distance in far.items())
    return (
        "far outside the training ECGs (distance relative to the 99 % quantile of validation "
        f"records: {described}); do not rely on the prediction.",
    )


def find_nonfinite(features: Features) -> dict[int, str]:
    """Return a clause for each record with an embedding that is not finite.

    Args:
        features: Embeddings by all experts, and the gate's input.

    Returns:
        Clauses to append to the record's name, by row; each names the first such embedding.
    """
    found: dict[int, str] = {}
    for name, embedding in {**features.experts, LeadsSample.spec.name: features.leads}.items():
        for row in (~embedding.isfinite().all(1)).nonzero()[:, 0].tolist():
            dtype = str(embedding.dtype).removeprefix("torch.")
            found.setdefault(
                row,
                f"the embedding by {name} is not finite in {dtype}; exclude the record, or extract "
                "and train with --dtype float32.",
            )
    return found
