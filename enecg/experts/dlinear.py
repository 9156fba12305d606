"""DLinear (Zeng et al., AAAI 2023, arXiv 2205.13504): one linear layer each for trend and season.

Parameter names are those of thuml/Time-Series-Library, `models/DLinear.py`, so that its checkpoints
can be loaded. All leads share the layers, or each lead has its own (`individual=True`).
"""

import re
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from enecg.decimation import decimate
from enecg.ecg_format import LEADS
from enecg.errors import UserError
from enecg.experts.base import FrozenExpert, build_seeded
from enecg.experts.checkpoints import load_strict, open_checkpoint
from enecg.experts.definition import ExpertDefinition
from enecg.experts.definitions.dlinear import MOVING_AVERAGE, MOVING_AVERAGE_SETTING, STEPS
from enecg.experts.reconstruction import Reconstruction
from enecg.experts.settings import ExpertSetting
from enecg.experts.weights import Weights
from enecg.signal import moving_average, standardize

FORECAST_STEPS = 96
"""Forecast steps of a model with random weights: the default of `run.py` in the published code."""


class DLinear(nn.Module):
    """Both branches of DLinear, whose sum is the published model's forecast.

    Args:
        forecast_steps: Number of outputs of each branch.
        individual: Whether each lead has its own layers.
        kernel: Window of the moving average that defines the trend, in samples; odd.
    """

    def __init__(
        self,
        forecast_steps: int = FORECAST_STEPS,
        individual: bool = False,
        kernel: int = MOVING_AVERAGE,
    ) -> None:
        super().__init__()
        self.architecture = {
            "forecast_steps": forecast_steps,
            "individual": individual,
            "moving_average": kernel,
        }

        # Use torch's default initialization, because with the published one (all weights 1/steps)
        # both branches would output only the mean of their input.
        def branch() -> nn.Module:
            if not individual:
                return nn.Linear(STEPS, forecast_steps)
            return nn.ModuleList(nn.Linear(STEPS, forecast_steps) for _ in LEADS)

        self.Linear_Seasonal = branch()
        self.Linear_Trend = branch()

    def forward(
        self, series: Float[Tensor, "batch 12 time"]
    ) -> tuple[Float[Tensor, "batch 12 forecast"], Float[Tensor, "batch 12 forecast"]]:
        """Compute the seasonal and the trend branch of each lead."""
        trend = moving_average(series, self.architecture["moving_average"])
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


def _prepare(ecg: Float[Tensor, "batch 12 5000"]) -> Float[Tensor, "batch 12 500"]:
    return standardize(decimate(ecg, STEPS))


class DLinearExpert(FrozenExpert):
    """DLinear as an expert, with one token per lead: the concatenated outputs of both branches."""

    model: DLinear

    def states(self, ecg: Float[Tensor, "batch 12 5000"]) -> Float[Tensor, "batch 12 1 feature"]:
        """Compute the states; see `FrozenExpert.states`."""
        return torch.cat(self.model(_prepare(ecg)), dim=-1)[:, :, None]


def _infer_sizes(tensors: dict[str, Tensor], path: Path) -> tuple[int, bool]:
    """Infer `forecast_steps` and `individual`; `load_strict` reports keys that are missing."""
    shared = tensors.get("Linear_Trend.weight")
    if shared is not None and shared.ndim:
        return len(shared), False
    layers = [
        t for key, t in tensors.items() if t.ndim and re.match(r"Linear_Trend\.\d+\.weight$", key)
    ]
    if len(layers) not in (0, len(LEADS)):
        raise UserError(
            f"{path} has linear layers for {len(layers)} series, but an ECG has {len(LEADS)} "
            "leads; use a checkpoint with one layer per lead, or one layer for all."
        )
    return (len(layers[0]), True) if layers else (FORECAST_STEPS, False)


def build(
    definition: ExpertDefinition, weights: Weights, pooling: str, *, moving_avg: int | None = None
) -> DLinearExpert:
    """Build the expert; see `ExpertDefinition.build`."""
    if weights.path is None:
        assert weights.seed is not None
        kernel = moving_avg or MOVING_AVERAGE
        model = build_seeded(lambda: DLinear(kernel=kernel), weights.seed)
    else:
        checkpoint = open_checkpoint(weights.path)
        sizes = _infer_sizes(checkpoint.tensors, weights.path)
        kernel = MOVING_AVERAGE_SETTING.resolve(
            definition.name, moving_avg, checkpoint.config, weights.path
        )
        model = DLinear(*sizes, kernel)
        load_strict(model, checkpoint.tensors, weights.path)
    spec = definition.spec(
        weights,
        model,
        architecture=model.architecture,
        pooling=pooling,
        series=len(LEADS),
        size=2 * model.architecture["forecast_steps"],
    )
    return DLinearExpert(spec, model)


def _make_imputation(*, individual: int, moving_avg: int) -> DLinear:
    return DLinear(STEPS, bool(individual), moving_avg)


def _reconstruct(
    model: DLinear, series: Float[Tensor, "batch 12 time"]
) -> Float[Tensor, "batch 12 time"]:
    seasonal, trend = model(series)
    reconstructed: Tensor = seasonal + trend
    return reconstructed


RECONSTRUCTION = Reconstruction(
    sizes=(
        ExpertSetting("individual", "individual", default=0, minimum=0, maximum=1),
        MOVING_AVERAGE_SETTING,
    ),
    prepare=_prepare,
    make=_make_imputation,
    reconstruct=_reconstruct,
)
"""As in the source, the model for imputation has as many outputs as samples."""
