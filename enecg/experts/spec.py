"""The spec of an expert: what determines its embeddings."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from enecg.experts.preprocessing import Preprocessing
from enecg.pretraining import Pretraining

PRECISIONS = ("float32", "bfloat16", "float16")
"""Number formats of matrix products and convolutions of the model, as torch names them. Signal
processing and pooling are not in a lower precision than float32."""


@dataclass(frozen=True)
class ExpertSpec:
    """Everything that an embedding depends on besides the record. Part of a store's identity.

    Attributes:
        name: Name of the expert in the registry.
        code_version: Version of the expert's code, increased whenever a change of the code changes
            the embeddings.
        architecture: Sizes of the model, as JSON values.
        preprocessing: Signal processing before the model.
        pooling: A key of `pooled_sizes.POOLED_SIZES`, or `none`.
        embedding_size: Features per record.
        weights: `random:SEED` for untrained weights, `checkpoint` for trained ones, `none` for
            experts without weights.
        weights_sha256: Hexadecimal SHA-256 of the checkpoint file or of the drawn weights; empty
            for experts without weights.
        precision: One of `PRECISIONS`, in which matrix products and convolutions are computed.
        pretraining: Patients on whose ECGs the weights were pretrained, as the checkpoint states;
            None if it states none.
    """

    name: str
    code_version: int
    architecture: Mapping[str, Any]
    preprocessing: Preprocessing
    pooling: str
    embedding_size: int
    weights: str
    weights_sha256: str
    precision: str = "float32"
    pretraining: Pretraining | None = None

    @property
    def untrained(self) -> bool:
        """Whether the weights are random."""
        return self.weights.startswith("random:")
