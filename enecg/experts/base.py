"""What an expert is: a frozen model with a spec that says everything its numbers depend on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from enecg.experts.weights import Weights

Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True)
class ExpertSpec:
    """Everything that an expert's embedding depends on besides the record.

    - `name`, `code_version`: the adapter and its version, raised when its numbers would change.
    - `architecture`: sizes of the model, as JSON.
    - `preprocessing`, `pooling`: in words; changed words are another embedding.
    - `embedding_size`: features per record.
    - `weights`: `random:SEED` for untrained weights, `checkpoint` for trained ones, `none` where
      there are none; `weights_sha256` tells which.
    """

    name: str
    code_version: int
    architecture: Mapping[str, Any]
    preprocessing: str
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
    """A torch model as an expert: evaluation mode, and no parameter asks for a gradient.

    Gradients still flow to the input (saliency needs them); callers that do not want them use
    `torch.inference_mode()`.
    """

    def __init__(self, spec: ExpertSpec, model: nn.Module) -> None:
        super().__init__()
        self.spec = spec
        self.model = model
        self.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> "FrozenExpert":
        """Stay in evaluation mode: dropout and batch statistics would break the cache."""
        return super().train(False)

    def embed(self, ecg: Float[Tensor, "batch 12 5000"]) -> Float[Tensor, "batch feature"]:
        """See `Expert.embed`; each expert writes its own."""
        raise NotImplementedError


@dataclass(frozen=True)
class ExpertDefinition:
    """An expert before it has weights: what the registry holds.

    `published` is the hub checkpoint as `REPO/FILE` pieces (repository, file) or None where its
    authors publish none. `build` takes weights and gives the expert on the CPU.
    """

    name: str
    code_version: int
    preprocessing: str
    pooling: str
    licence: str
    source: str
    published: tuple[str, str] | None
    build: Callable[["ExpertDefinition", Weights], Expert]

    def spec(
        self,
        weights: Weights,
        *,
        architecture: Mapping[str, Any],
        embedding_size: int,
        weights_sha256: str,
    ) -> ExpertSpec:
        """The full spec, once the weights are there."""
        return ExpertSpec(
            name=self.name,
            code_version=self.code_version,
            architecture=architecture,
            preprocessing=self.preprocessing,
            pooling=self.pooling,
            embedding_size=embedding_size,
            weights=weights.label,
            weights_sha256=weights_sha256,
        )

    @property
    def fixed(self) -> dict[str, Any]:
        """The part of the spec that is known before any weights are."""
        return {
            "name": self.name,
            "code_version": self.code_version,
            "preprocessing": self.preprocessing,
            "pooling": self.pooling,
        }


def build_seeded(make: Callable[[], Model], seed: int) -> Model:
    """A model with weights drawn from `seed` alone, whatever was drawn before and after it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()
