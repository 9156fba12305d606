"""DLinear (Zeng et al., AAAI 2023, arXiv 2205.13504): a series split in trend and season, each
sent through one linear layer.

Parameter names are those of thuml/Time-Series-Library, `models/DLinear.py`, with one linear layer
a branch for all leads (`individual=False`), so its checkpoints load.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from enecg.experts.base import ExpertDefinition, FrozenExpert, build_seeded
from enecg.experts.weights import Weights, digest, fill, read_checkpoint
from enecg.signal import LEADS, resample, standardise

STEPS = 500
FORECAST_STEPS = 96
"""The Time-Series-Library's shortest long-term forecast."""
MOVING_AVERAGE = 25
"""The Time-Series-Library's default kernel, half a second at 50 Hz."""


class DLinear(nn.Module):
    """Both branches of DLinear, kept apart: their sum is the published model's forecast."""

    def __init__(self, forecast_steps: int) -> None:
        super().__init__()
        # torch's own draw, not the published start (every weight 1/steps), under which both
        # branches would give the mean of their input and nothing else.
        self.Linear_Seasonal = nn.Linear(STEPS, forecast_steps)
        self.Linear_Trend = nn.Linear(STEPS, forecast_steps)

    def forward(
        self, series: Float[Tensor, "*batch time"]
    ) -> tuple[Float[Tensor, "*batch forecast"], Float[Tensor, "*batch forecast"]]:
        """The seasonal and the trend branch of each series."""
        half = (MOVING_AVERAGE - 1) // 2
        held = torch.cat(
            [
                series[..., :1].expand(*series.shape[:-1], half),
                series,
                series[..., -1:].expand(*series.shape[:-1], half),
            ],
            dim=-1,
        )
        trend = held.unfold(-1, MOVING_AVERAGE, 1).mean(-1)
        seasonal: Tensor = self.Linear_Seasonal(series - trend)
        return seasonal, self.Linear_Trend(trend)


class DLinearExpert(FrozenExpert):
    """Both branches' outputs of each lead, and each lead's mean and scale in mV."""

    model: DLinear

    def embed(self, ecg: Float[Tensor, "batch 12 5000"]) -> Float[Tensor, "batch feature"]:
        """See `Expert.embed`."""
        series, mean, scale = standardise(resample(ecg, STEPS))
        seasonal, trend = self.model(series)
        return torch.cat([seasonal, trend, mean, scale], dim=-1).flatten(1)


def _build(definition: ExpertDefinition, weights: Weights) -> DLinearExpert:
    if weights.path is None:
        assert weights.seed is not None
        model = build_seeded(lambda: DLinear(FORECAST_STEPS), weights.seed)
    else:
        tensors = read_checkpoint(weights.path)
        layer = tensors.get("Linear_Seasonal.weight")
        model = DLinear(FORECAST_STEPS if layer is None else layer.shape[0])
        fill(model, tensors, weights.path)
    forecast_steps = model.Linear_Seasonal.out_features
    spec = definition.spec(
        weights,
        architecture={"forecast_steps": forecast_steps, "moving_average": MOVING_AVERAGE},
        embedding_size=len(LEADS) * (2 * forecast_steps + 2),
        weights_sha256=weights.sha256() or digest(model),
    )
    return DLinearExpert(spec, model)


DLINEAR = ExpertDefinition(
    name="dlinear",
    code_version=1,
    preprocessing="each lead to 500 samples (50 Hz), mean 0 and variance 1",
    pooling="per lead: seasonal branch, trend branch, mean (mV), scale (mV)",
    licence="Apache-2.0",
    source="arXiv 2205.13504",
    published=None,
    build=_build,
)
