"""The expert `measurements`."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from enecg.experts.definition import ExpertDefinition
from enecg.experts.measurements.feature import Feature
from enecg.experts.measurements.measure import FEATURES, measure
from enecg.experts.spec import ExpertSpec
from enecg.experts.weights import Weights


class MeasurementsExpert:
    """Standard measurements of rhythm, intervals, amplitudes, axes, spectrum and signal quality.

    They are computed with NumPy on the CPU, and no gradient flows to the input.

    Args:
        spec: Spec of the expert.
    """

    named_features: tuple[Feature, ...] = FEATURES
    """Name, unit and description of each feature of the embedding."""

    def __init__(self, spec: ExpertSpec) -> None:
        self.spec = spec

    def embed(self, ecg: Float[Tensor, "batch 12 5000"]) -> Float[Tensor, "batch feature"]:
        """Measure a batch; see `Expert.embed`."""
        values = measure(np.ascontiguousarray(ecg.detach().float().cpu().numpy()))
        return torch.from_numpy(values.astype(np.float32)).to(ecg.device)


def build(definition: ExpertDefinition, _: Weights, pooling: str) -> MeasurementsExpert:
    """Build the expert; see `ExpertDefinition.build`."""
    spec = ExpertSpec(
        name=definition.name,
        code_version=definition.code_version,
        architecture={},
        preprocessing=definition.preprocessing,
        pooling=pooling,
        embedding_size=len(FEATURES),
        weights="none",
        weights_sha256="",
    )
    return MeasurementsExpert(spec)
