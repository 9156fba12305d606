"""The interface of experts, and the base class of experts that are torch models."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from enecg.experts.spec import ExpertSpec
from enecg.pooling import pool
from enecg.signal import mean_and_scale

Model = TypeVar("Model", bound=nn.Module)


class Expert(Protocol):
    """A frozen model that maps each ECG to an embedding."""

    @property
    def spec(self) -> ExpertSpec:
        """Everything that the embeddings depend on besides the record."""

    def embed(self, ecg: Float[Tensor, "batch 12 5000"]) -> Float[Tensor, "batch feature"]:
        """Compute the embeddings of a batch.

        Args:
            ecg: ECGs in mV at 500 Hz, float32, leads in the order of `ecg_format.LEADS`.

        Returns:
            Embeddings, float32. Row i depends only on record i.
        """


class NamedFeature(Protocol):
    """A feature of an embedding with a name and a unit, such as a measurement."""

    @property
    def name(self) -> str:
        """Name, unique among the features of the expert."""

    @property
    def unit(self) -> str:
        """Unit; `1` for numbers without a unit."""


@runtime_checkable
class HasNamedFeatures(Protocol):
    """An expert whose features have names, which are stored along with the embeddings."""

    @property
    def named_features(self) -> Sequence[NamedFeature]:
        """The features, in the order of the embedding."""


class FrozenExpert(nn.Module):
    """Base class of experts that are torch models; subclasses implement `states`.

    The embedding is the pooled states, then the mean of each lead and the scale of each lead in mV
    (`signal.mean_and_scale`), because most models normalize their input, which removes the
    amplitude. The module stays in evaluation mode and its parameters require no gradient. Gradients
    flow to the input, as saliency methods require; use `torch.inference_mode()` to disable them.

    Args:
        spec: Spec of the expert.
        model: The model, with its weights loaded.
    """

    def __init__(self, spec: ExpertSpec, model: nn.Module) -> None:
        super().__init__()
        self.spec = spec
        self.model = model
        self.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> "FrozenExpert":
        """Ignore `mode`: in training mode, dropout and batch statistics would change embeddings."""
        return super().train(False)

    def states(
        self, ecg: Float[Tensor, "batch 12 5000"]
    ) -> Float[Tensor, "batch series token feature"]:
        """Compute the model's states before pooling.

        Args:
            ecg: ECGs; see `Expert.embed`.

        Returns:
            The states; a series is a lead, a segment of the record, or the whole record.
        """
        raise NotImplementedError

    def embed(self, ecg: Float[Tensor, "batch 12 5000"]) -> Float[Tensor, "batch feature"]:
        """Compute the embeddings of a batch; see `Expert.embed`."""
        mean, scale = mean_and_scale(ecg)
        precision: torch.dtype = getattr(torch, self.spec.precision)
        is_lower = precision != torch.float32
        with torch.autocast(ecg.device.type, precision if is_lower else None, enabled=is_lower):
            states = self.states(ecg)
        pooled = pool(self.spec.pooling, states.float())
        return torch.cat([pooled, mean[..., 0], scale[..., 0]], dim=-1)


def build_seeded(make: Callable[[], Model], seed: int) -> Model:
    """Build a model whose random weights depend only on the seed.

    Args:
        make: Builds the model, drawing weights from torch's global generator.
        seed: Seed of the weights.

    Returns:
        The model. The global random state of the CPU does not change; other devices are seeded.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()
