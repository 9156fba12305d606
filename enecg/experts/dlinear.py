"""DLinear (Zeng et al., AAAI 2023, arXiv 2205.13504): a series split in trend and season, each
sent through one linear layer.

Parameter names are those of thuml/Time-Series-Library, `models/DLinear.py`, so its checkpoints
load: those with one linear layer a branch for all leads, and those with one for each lead
(`individual=True`).
"""

import re
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from enecg.errors import UserError
from enecg.experts.base import ExpertDefinition, FrozenExpert, build_seeded
from enecg.experts.checkpoints import load_strict, read_checkpoint
from enecg.experts.preprocessing import Preprocessing
from enecg.experts.weights import Weights
from enecg.signal import LEADS, moving_average, resample, standardize

STEPS = 500
FORECAST_STEPS = 96
"""The Time-Series-Library's shortest long-term forecast."""
MOVING_AVERAGE = 25
"""The Time-Series-Library's default kernel, half a second at 50 Hz."""


class DLinear(nn.Module):
    """Both branches of DLinear, kept apart: their sum is the published model's forecast."""

    def __init__(self, forecast_steps: int = FORECAST_STEPS, individual: bool = False) -> None:
        super().__init__()
        self.architecture = {
            "forecast_steps": forecast_steps,
            "individual": individual,
            "moving_average": MOVING_AVERAGE,
        }

        # torch's own draw, not the published start (every weight 1/steps), under which both
        # branches would give the mean of their input and nothing else.
        def branch() -> nn.Module:
            if not individual:
                return nn.Linear(STEPS, forecast_steps)
            return nn.ModuleList(nn.Linear(STEPS, forecast_steps) for _ in LEADS)

        self.Linear_Seasonal = branch()
        self.Linear_Trend = branch()

    def forward(
        self, series: Float[Tensor, "batch 12 time"]
    ) -> tuple[Float[Tensor, "batch 12 forecast"], Float[Tensor, "batch 12 forecast"]]:
        """The seasonal and the trend branch of each lead."""
        trend = moving_average(series, MOVING_AVERAGE)
        seasonal = series - trend
        return _apply(self.Linear_Seasonal, seasonal), _apply(self.Linear_Trend, trend)


def _apply(
    branch: nn.Module, series: Float[Tensor, "batch 12 time"]
) -> Float[Tensor, "batch 12 forecast"]:
    if isinstance(branch, nn.ModuleList):
        leads = zip(branch, series.unbind(1), strict=True)
        return torch.stack([layer(lead) for layer, lead in leads], dim=1)
    out: Tensor = branch(series)
    return out


class DLinearExpert(FrozenExpert):
    """Both branches' outputs of each lead, as one token: the forecast is no sequence of states."""

    model: DLinear

    def states(self, ecg: Float[Tensor, "batch 12 5000"]) -> Float[Tensor, "batch 12 1 feature"]:
        """See `FrozenExpert.states`."""
        series, _, _ = standardize(resample(ecg, STEPS))
        return torch.cat(self.model(series), dim=-1)[:, :, None]


def _sizes(tensors: dict[str, Tensor], path: Path) -> tuple[int, bool]:
    """Steps and `individual` as the layers tell them; what is missing is told by `load_strict`."""
    shared = tensors.get("Linear_Trend.weight")
    if shared is not None and shared.ndim:
        return len(shared), False
    own = [t for key, t in tensors.items() if re.match(r"Linear_Trend\.\d+\.weight$", key)]
    if len(own) not in (0, len(LEADS)):
        raise UserError(
            f"{path} has linear layers for {len(own)} series, and an ECG has {len(LEADS)} leads; "
            "give one with a layer for each lead, or one for all of them."
        )
    return (len(own[0]), True) if own else (FORECAST_STEPS, False)


def _build(definition: ExpertDefinition, weights: Weights, pooling: str) -> DLinearExpert:
    if weights.path is None:
        assert weights.seed is not None
        model = build_seeded(DLinear, weights.seed)
    else:
        tensors = read_checkpoint(weights.path)
        model = DLinear(*_sizes(tensors, weights.path))
        load_strict(model, tensors, weights.path)
    spec = definition.spec(
        weights,
        model,
        architecture=model.architecture,
        pooling=pooling,
        series=len(LEADS),
        size=2 * model.architecture["forecast_steps"],
    )
    return DLinearExpert(spec, model)


DLINEAR = ExpertDefinition(
    name="dlinear",
    code_version=1,
    preprocessing=Preprocessing.resampled(STEPS, normalization="zscore"),
    pooling="per-series",
    poolings=("per-series", "mean"),
    license="Apache-2.0",
    source="arXiv 2205.13504",
    published=None,
    embedding_size=2328,
    parameters=96_192,
    build=_build,
)
