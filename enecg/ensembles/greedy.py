"""Greedy search on validation records for one weight per expert, the same for all records."""

from dataclasses import dataclass

import torch

from enecg.ensembles.base import EnsembleOutput, HeadOutputs, combine, labeled_rows, task_loss


@dataclass(frozen=True)
class Greedy:
    """Ensemble selection with replacement.

    Starting from an empty bag, each round adds the expert that minimizes the validation loss of
    the bag's mean. Of the bags after each round, the one with the lowest loss is used, or the
    smallest of several such bags. The weight of an expert is its share of this bag.

    The algorithm is that of Caruana et al., "Ensemble Selection from Libraries of Models" (ICML
    2004), without bagging of experts. It corresponds to the training-free ensemble of arXiv
    2311.17091, a greedy search over logit weights on a few labeled samples.

    Attributes:
        rounds: Number of rounds.
    """

    rounds: int = 100
    name = "greedy"

    def __call__(self, heads: HeadOutputs, seed: int) -> EnsembleOutput:
        """Combine the heads; see `Ensemble.__call__`."""
        rows = labeled_rows(heads, "validation")
        outputs = heads.outputs[:, rows].double()
        truth = heads.encoded[rows]
        bag_sum = torch.zeros_like(outputs[0])
        copies = torch.zeros(len(outputs), device=outputs.device)
        best_copies, best_loss = copies, float("inf")
        for size in range(1, self.rounds + 1):
            losses = [
                float(task_loss(heads.kind, (bag_sum + output) / size, truth)) for output in outputs
            ]
            added = losses.index(min(losses))
            bag_sum = bag_sum + outputs[added]
            copies[added] += 1
            if losses[added] < best_loss:
                best_copies, best_loss = copies.clone(), losses[added]
        weights = best_copies.to(heads.outputs).expand(heads.outputs.shape[1], -1)
        return combine(heads, weights)
