"""Peaks of the detection envelope that may be beats."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int


@dataclass(frozen=True)
class Candidates:
    """Peaks of the envelope, one element per peak, sorted by record and position.

    Attributes:
        record: Row of the record in the batch.
        position: Position in samples at 250 Hz, aligned with the template.
        height: Height of the envelope, relative to `Envelope.level`.
        correlation: Correlation with the template.
    """

    record: Int[np.ndarray, " peak"]
    position: Float64[np.ndarray, " peak"]
    height: Float32[np.ndarray, " peak"]
    correlation: Float32[np.ndarray, " peak"]
