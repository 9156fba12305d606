"""One output of a task as a function of the ECG, differentiable if the experts are."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from enecg.experts import Expert
from enecg.gate import Mixture, mix
from enecg.leads import LeadsSample
from enecg.tasks import Kind

Ecg = Float[Tensor, "batch 12 5000"]
Values = Float[Tensor, " batch"]
Head = Callable[[Float[Tensor, "batch feature"]], Float[Tensor, "batch output"]]
Gate = Callable[[Float[Tensor, "batch sample"]], Float[Tensor, "batch output_or_1 expert"]]


@dataclass(frozen=True)
class TaskOutput:
    """One output of a task, computed by each expert's head and by their gated mixture.

    Attributes:
        experts: Experts by name, in the order of the gate's weights.
        heads: For each expert, the function from its embeddings to standardized values
            (regression) or probabilities.
        gate: Function from the sampled leads to the experts' weights.
        kind: Kind of the task.
        index: Index of the class or label to explain; 0 for a regression.
        scale: Standard deviation of the training labels of a regression, in the task's unit; 1 for
            other kinds.
        mean: Mean of the training labels of a regression, in the task's unit; 0 for other kinds.
        mixture: What the gate averages for classes and labels; see `enecg.gate.Mixture`.
    """

    experts: Mapping[str, Expert]
    heads: Mapping[str, Head]
    gate: Gate
    kind: Kind
    index: int = 0
    scale: float = 1.0
    mean: float = 0.0
    mixture: Mixture = "probabilities"

    def is_differentiable(self, name: str) -> bool:
        """Return whether gradients flow through an expert, which requires a torch module."""
        return isinstance(self.experts[name], nn.Module)

    def expert(self, name: str, ecg: Ecg) -> Values:
        """Compute the output of one expert's head.

        Args:
            name: Name of the expert.
            ecg: ECGs in mV at 500 Hz.

        Returns:
            The value in the task's unit, or the probability of the explained class or label.
        """
        return self._select(self._predict(name, ecg))

    def ensemble(self, ecg: Ecg, held: Mapping[str, Float[Tensor, "1 output"]] = {}) -> Values:
        """Compute the output of the gated mixture.

        Args:
            ecg: ECGs in mV at 500 Hz.
            held: Constant predictions, by expert, that replace those of the heads; see `hold`.

        Returns:
            The value in the task's unit, or the probability of the explained class or label.
        """
        predictions = [
            held[name].expand(len(ecg), -1) if name in held else self._predict(name, ecg)
            for name in self.experts
        ]
        weights = self.gate(LeadsSample().embed(ecg))
        return self._select(
            mix(weights, torch.stack(predictions), kind=self.kind, mixture=self.mixture)
        )

    def hold(self, ecg: Float[Tensor, "1 12 5000"]) -> dict[str, Float[Tensor, "1 output"]]:
        """Return the predictions of the experts that are not differentiable.

        Args:
            ecg: ECG to explain, in mV at 500 Hz.

        Returns:
            Their predictions for this ECG, by name.
        """
        with torch.no_grad():
            return {
                name: self._predict(name, ecg)
                for name in self.experts
                if not self.is_differentiable(name)
            }

    def _predict(self, name: str, ecg: Ecg) -> Float[Tensor, "batch output"]:
        return self.heads[name](self.experts[name].embed(ecg))

    def _select(self, outputs: Float[Tensor, "batch output"]) -> Values:
        selected: Tensor = outputs[:, self.index] * self.scale + self.mean
        return selected
