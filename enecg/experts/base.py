"""The interface of experts: frozen models whose spec determines their embeddings."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from enecg.ecg_format import LEADS
from enecg.errors import UserError
from enecg.experts.digests import model_sha256
from enecg.experts.preprocessing import Preprocessing
from enecg.experts.pretraining_data import PretrainingData
from enecg.experts.reconstruction import Reconstruction
from enecg.experts.settings import ExpertSetting
from enecg.experts.weights import HubFile, ManualFile, Weights, find_weights
from enecg.pooling import POOLINGS, pool, pooled_size
from enecg.pretraining import Pretraining
from enecg.signal import mean_and_scale

Model = TypeVar("Model", bound=nn.Module)

PRECISIONS = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
"""Number formats of the model's computation. Signal processing and pooling are always float32."""


@dataclass(frozen=True)
class ExpertSpec:
    """Everything that an embedding depends on besides the record. Part of a store's identity.

    Attributes:
        name: Name of the expert in the registry.
        code_version: Version of the expert's code, raised whenever its numbers change.
        architecture: Sizes of the model, as JSON values.
        preprocessing: Signal processing before the model.
        pooling: A key of `pooling.POOLINGS`, or `none`.
        embedding_size: Features per record.
        weights: `random:SEED` for untrained weights, `checkpoint` for trained ones, `none` for
            experts without weights.
        weights_sha256: SHA-256 of the checkpoint file or of the drawn weights, hexadecimal; empty
            for experts without weights.
        precision: A key of `PRECISIONS`, in which matrix products and convolutions are computed.
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
    """A feature of an embedding that has a meaning of its own."""

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
    """A torch model as an expert: its pooled states, and each lead's mean and scale in mV.

    The mean and scale are appended because the models normalize amplitude away. The module stays
    in evaluation mode and its parameters require no gradient. Gradients flow to the input, as
    saliency methods require; use `torch.inference_mode()` to disable them.

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
        """Stay in evaluation mode: dropout and batch statistics would change the embeddings."""
        return super().train(False)

    def states(
        self, ecg: Float[Tensor, "batch 12 5000"]
    ) -> Float[Tensor, "batch series token feature"]:
        """Compute the model's states before pooling.

        Args:
            ecg: ECGs as `Expert.embed` takes them.

        Returns:
            The states; a series is a lead, or a segment of the record.
        """
        raise NotImplementedError

    def embed(self, ecg: Float[Tensor, "batch 12 5000"]) -> Float[Tensor, "batch feature"]:
        """Compute the embeddings of a batch; see `Expert.embed`."""
        mean, scale = mean_and_scale(ecg)
        precision = PRECISIONS[self.spec.precision]
        is_lower = precision != torch.float32
        with torch.autocast(ecg.device.type, precision if is_lower else None, enabled=is_lower):
            states = self.states(ecg)
        pooled = pool(self.spec.pooling, states.float())
        return torch.cat([pooled, mean[..., 0], scale[..., 0]], dim=-1)


@dataclass(frozen=True)
class ExpertDefinition:
    """An expert without weights, as registered.

    Attributes:
        name: Name of the expert in the registry.
        code_version: Version of the expert's code, raised whenever its numbers change.
        preprocessing: Signal processing before the model.
        pooling: Default pooling.
        license: SPDX identifier of the license of code and published weights.
        source: Paper or package of the model.
        published: Checkpoint published by the authors, on the hub or on another page, or None.
        embedding_size: Features per record with the published architecture and default pooling.
        parameters: Number of parameters of the published architecture.
        build: Function of the definition, the weights and a pooling that returns the expert on
            the CPU: `build(definition, weights, pooling, **settings)`.
        poolings: Supported poolings, all of `POOLINGS` by default.
        settings: Hyperparameters that tensors do not determine. `build` takes those that are set
            as further keyword arguments.
        has_weights: Whether the expert has weights. If False, `--weights` does not apply to it.
        reconstruction: How `enecg pretrain` trains the model; None if it cannot.
        pretrained_on: Data sets that the published weights were trained on. Not part of the spec.
    """

    name: str
    code_version: int
    preprocessing: Preprocessing
    pooling: str
    license: str
    source: str
    published: HubFile | ManualFile | None
    embedding_size: int
    parameters: int
    build: Callable[..., Expert]
    poolings: tuple[str, ...] = tuple(POOLINGS)
    settings: tuple[ExpertSetting, ...] = ()
    has_weights: bool = True
    reconstruction: Reconstruction | None = None
    pretrained_on: tuple[PretrainingData, ...] = ()

    def find_weights(self, choice: str, *, fetch: bool = True) -> Weights:
        """Resolve the value of `--weights`; see `weights.find_weights`.

        Args:
            choice: Value of the option. An expert without weights ignores it.
            fetch: Whether to download a hub file that is not in the local cache.

        Returns:
            The weights; neither seed nor path for an expert without weights.

        Raises:
            UserError: The value is malformed, or the file does not exist or cannot be downloaded.
        """
        if not self.has_weights:
            return Weights()
        return find_weights(self.name, choice, self.published, fetch=fetch)

    def resolve_pooling(self, pooling: str) -> str:
        """Resolve the value of `--pooling`.

        Args:
            pooling: Name of a pooling, or `default`.

        Returns:
            The name of the pooling.

        Raises:
            UserError: The expert does not support the pooling.
        """
        if pooling == "default":
            return self.pooling
        if pooling not in self.poolings:
            raise UserError(
                f"{self.name} does not support pooling {pooling!r}; available: "
                f"{', '.join(self.poolings)}."
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
        """Create the spec of a loaded model.

        Args:
            weights: Source of the weights.
            model: The model with its weights.
            architecture: Sizes of the model, as JSON values.
            pooling: Pooling of the states.
            series: Number of series of the states.
            size: Features per token of the states.

        Returns:
            The spec of an expert whose embedding is the pooled states and each lead's mean and
            scale.
        """
        return ExpertSpec(
            name=self.name,
            code_version=self.code_version,
            architecture=architecture,
            preprocessing=self.preprocessing,
            pooling=pooling,
            embedding_size=pooled_size(pooling, series, size) + 2 * len(LEADS),
            weights=weights.label,
            weights_sha256=weights.sha256() or model_sha256(model),
            pretraining=weights.pretraining(),
        )


def build_seeded(make: Callable[[], Model], seed: int) -> Model:
    """Build a model whose random weights depend only on the seed.

    Args:
        make: Builds the model, drawing weights from torch's global generator.
        seed: Seed of the weights.

    Returns:
        The model. The global random state does not change.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()
