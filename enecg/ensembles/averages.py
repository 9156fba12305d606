"""Ensembles for which nothing is fitted and no label is read."""

import torch

from enecg.ensembles.base import EnsembleOutput, HeadOutputs, weighted


class Mean:
    """The plain mean of the experts."""

    name = "mean"

    def __call__(self, given: HeadOutputs, seed: int) -> EnsembleOutput:
        """See `Ensemble`."""
        return weighted(given, torch.ones_like(given.outputs[:, :, 0]).T)


class Confidence:
    """Each expert weighs by its own confidence on the record: the probability of its likeliest
    class, over the sum of all experts'.

    After the zero-shot ensemble of "Beyond Sole Strength: Customized Ensembles for Generalized
    Vision-Language Models" (arXiv 2311.17091), which adjusts the models' logits by their
    confidence; here it is probabilities that are weighed. A regression has no confidence: None.
    """

    name = "confidence"

    def __call__(self, given: HeadOutputs, seed: int) -> EnsembleOutput | None:
        """See `Ensemble`."""
        if given.kind == "regression":
            return None
        return weighted(given, given.outputs.amax(-1).T)
