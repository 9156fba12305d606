"""The expert `measurements` and its definition."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from enecg.experts.base import ExpertDefinition, ExpertSpec
from enecg.experts.measurements.feature import Feature
from enecg.experts.measurements.measure import FEATURES, measure
from enecg.experts.preprocessing import Preprocessing
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


def _build(definition: ExpertDefinition, _: Weights, pooling: str) -> MeasurementsExpert:
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


MEASUREMENTS = ExpertDefinition(
    name="measurements",
    code_version=3,
    preprocessing=Preprocessing(),
    pooling="none",
    poolings=("none",),
    license="MIT",
    source="docs/measurements.md",
    published=None,
    embedding_size=len(FEATURES),
    parameters=0,
    build=_build,
    has_weights=False,
)
