"""The definition of an expert: what is known about it before its weights are loaded.

Definitions do not import torch, so that commands can list and check experts without waiting for it.
"""

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from enecg.ecg_format import LEADS
from enecg.errors import UserError
from enecg.experts.digests import model_sha256
from enecg.experts.preprocessing import Preprocessing
from enecg.experts.pretraining_data import PretrainingData
from enecg.experts.settings import ExpertSetting
from enecg.experts.spec import ExpertSpec
from enecg.experts.weights import HubFile, ManualFile, Weights, find_weights
from enecg.pooled_sizes import POOLED_SIZES, pooled_size

if TYPE_CHECKING:
    from torch import nn

    from enecg.experts.base import Expert
    from enecg.experts.reconstruction import Reconstruction


@dataclass(frozen=True)
class ExpertDefinition:
    """A registered expert, before its weights are loaded.

    Attributes:
        name: Name of the expert in the registry.
        code_version: Version of the expert's code, increased whenever a change of the code changes
            the embeddings.
        preprocessing: Signal processing before the model.
        pooling: Default pooling.
        license: SPDX identifier of the license of code and published weights.
        source: Paper or package of the model.
        published: Checkpoint published by the authors, on the hub or on another page, or None.
        embedding_size: Features per record with the published architecture and default pooling.
        parameters: Number of parameters of the published architecture.
        build: Function that takes the definition, the weights and a pooling, and returns the
            expert on the CPU: `build(definition, weights, pooling, **settings)`.
        poolings: Supported poolings, all of `POOLED_SIZES` by default.
        settings: Hyperparameters that the tensors of a checkpoint do not determine. Those that the
            user sets are passed to `build` as further keyword arguments.
        has_weights: Whether the expert has weights. If False, `--weights` does not apply to it.
        reconstruction: Function that returns the `Reconstruction` for `enecg pretrain`; None if
            the expert cannot be pretrained.
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
    build: Callable[..., "Expert"]
    poolings: tuple[str, ...] = tuple(POOLED_SIZES)
    settings: tuple[ExpertSetting, ...] = ()
    has_weights: bool = True
    reconstruction: Callable[[], "Reconstruction"] | None = None
    pretrained_on: tuple[PretrainingData, ...] = ()

    def find_weights(self, choice: str, *, fetch: bool = True) -> Weights:
        """Resolve the value of `--weights`; see `weights.find_weights`.

        Args:
            choice: Value of the option. An expert without weights ignores it.
            fetch: Whether to download a hub file that is not in the local cache.

        Returns:
            The weights; neither seed nor path for an expert without weights.

        Raises:
            UserError: The value is malformed, no weights are published, or the file does not exist
                or cannot be read or downloaded.
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
        model: "nn.Module",
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
            pooling: Pooling of the states; see `FrozenExpert.states`.
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


def deferred(name: str, *args: Any) -> Callable[..., Any]:
    """Return a function that, when called, imports another function and calls it.

    Args:
        name: The other function, `MODULE:NAME`.
        *args: Its first arguments.

    Returns:
        The function.
    """
    return partial(_call, name, *args)


def _call(name: str, *args: Any, **options: Any) -> Any:
    return pkgutil.resolve_name(name)(*args, **options)
