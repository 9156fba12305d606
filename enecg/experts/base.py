"""What an expert is: a frozen model with a spec that says everything its numbers depend on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from enecg.errors import UserError
from enecg.experts.checkpoints import model_sha256
from enecg.experts.preprocessing import Preprocessing
from enecg.experts.weights import HubFile, Weights
from enecg.pooling import POOLINGS, pool, pooled_size
from enecg.signal import LEADS, standardize

Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True)
class ExpertSpec:
    """Everything that an expert's embedding depends on besides the record.

    - `name`, `code_version`: the adapter and its version, raised when its numbers would change.
    - `architecture`: sizes of the model, as JSON.
    - `preprocessing`: how a record becomes the model's input.
    - `pooling`: one of `pooling.POOLINGS`, or `none`.
    - `embedding_size`: features per record.
    - `weights`: `random:SEED` for untrained weights, `checkpoint` for trained ones, `none` where
      there are none; `weights_sha256` tells which.
    """

    name: str
    code_version: int
    architecture: Mapping[str, Any]
    preprocessing: Preprocessing
    pooling: str
    embedding_size: int
    weights: str
    weights_sha256: str

    @property
    def untrained(self) -> bool:
        """Whether the weights were drawn at random instead of trained."""
        return self.weights.startswith("random:")


class Expert(Protocol):
    """A frozen model that turns ECGs into embeddings, one record at a time in effect."""

    @property
    def spec(self) -> ExpertSpec:
        """What the embeddings depend on."""

    def embed(self, ecg: Float[Tensor, "batch 12 5000"]) -> Float[Tensor, "batch feature"]:
        """Embeddings, float32, of ECGs in mV (float32), leads in the order of `signal.LEADS`.

        Row i depends on record i alone.
        """


class FrozenExpert(nn.Module):
    """A torch model as an expert: its states pooled, and each lead's mean and scale beside them.

    It stays in evaluation mode, and no parameter asks for a gradient. Gradients still flow to the
    input (saliency needs them); callers that do not want them use `torch.inference_mode()`.
    """

    def __init__(self, spec: ExpertSpec, model: nn.Module) -> None:
        super().__init__()
        self.spec = spec
        self.model = model
        self.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> "FrozenExpert":
        """Stay in evaluation mode: dropout and batch statistics would break the cache."""
        return super().train(False)

    def states(
        self, ecg: Float[Tensor, "batch 12 5000"]
    ) -> Float[Tensor, "batch series token feature"]:
        """The model's states before pooling; a series is a lead, or a segment of the record."""
        raise NotImplementedError

    def embed(self, ecg: Float[Tensor, "batch 12 5000"]) -> Float[Tensor, "batch feature"]:
        """See `Expert.embed`. The models normalise each lead's mean and scale (mV) away."""
        _, mean, scale = standardize(ecg)
        pooled = pool(self.spec.pooling, self.states(ecg)).float()
        return torch.cat([pooled, mean[..., 0], scale[..., 0]], dim=-1)


@dataclass(frozen=True)
class ExpertDefinition:
    """An expert before it has weights: what the registry holds.

    - `pooling` is the default, `poolings` those it can have (all of them unless it says so).
    - `published`: the checkpoint of its authors, or None where they publish none.
    - `embedding_size`, `parameters`: of the published architecture, with the default pooling.
    - `build` takes the definition, weights and a pooling, and gives the expert on the CPU.
    """

    name: str
    code_version: int
    preprocessing: Preprocessing
    pooling: str
    license: str
    source: str
    published: HubFile | None
    embedding_size: int
    parameters: int
    build: Callable[["ExpertDefinition", Weights, str], Expert]
    poolings: tuple[str, ...] = tuple(POOLINGS)

    def resolve_pooling(self, pooling: str) -> str:
        """The pooling by its name, or `default`. Raises UserError for one it cannot have."""
        if pooling == "default":
            return self.pooling
        if pooling not in self.poolings:
            raise UserError(
                f"{self.name} has no pooling {pooling!r}; it has {', '.join(self.poolings)}."
            )
        return pooling

    def spec(
        self,
        weights: Weights,
        model: nn.Module,
        *,
        architecture: Mapping[str, Any],
        pooling: str,
        series: int,
        size: int,
    ) -> ExpertSpec:
        """The full spec, of a model whose states are `series` by tokens by `size`."""
        return ExpertSpec(
            name=self.name,
            code_version=self.code_version,
            architecture=architecture,
            preprocessing=self.preprocessing,
            pooling=pooling,
            embedding_size=pooled_size(pooling, series, size) + 2 * len(LEADS),
            weights=weights.label,
            weights_sha256=weights.sha256() or model_sha256(model),
        )


def build_seeded(make: Callable[[], Model], seed: int) -> Model:
    """A model with weights drawn from `seed` alone, whatever was drawn before and after it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()
