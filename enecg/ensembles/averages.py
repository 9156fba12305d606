"""Ensembles without fitted parameters, which use no labels."""

import torch

from enecg.ensembles.base import EnsembleOutput, HeadOutputs, combine


class Mean:
    """The unweighted mean of the experts."""

    name = "mean"

    def __call__(self, heads: HeadOutputs, seed: int) -> EnsembleOutput:
        """Combine the heads; see `Ensemble.__call__`."""
        return combine(heads, torch.ones_like(heads.outputs[:, :, 0]).T)


class Confidence:
    """Mean of the experts, weighted by confidence: the probability of the expert's predicted class.

    For a multilabel task, this is the mean over labels of the probability of the predicted state
    (present or absent).

    Based on the zero-shot ensemble of "Beyond Sole Strength: Customized Ensembles for Generalized
    Vision-Language Models" (arXiv 2311.17091). That ensemble scales logits by confidence, whereas
    this one averages probabilities. Regression tasks are not supported.
    """

    name = "confidence"

    def __call__(self, heads: HeadOutputs, seed: int) -> EnsembleOutput | None:
        """Combine the heads; see `Ensemble.__call__`."""
        if heads.kind == "regression":
            return None
        if heads.kind == "multilabel":
            likelier = torch.maximum(heads.outputs, 1 - heads.outputs)
            return combine(heads, likelier.mean(-1).T)
        return combine(heads, heads.outputs.amax(-1).T)
