"""One weight an expert, the same for every record, found by greedy search on validation records."""

from dataclasses import dataclass

import torch

from enecg.ensembles.base import EnsembleOutput, HeadOutputs, labeled_rows, loss, weighted


@dataclass(frozen=True)
class Greedy:
    """Ensemble selection with replacement. From an empty bag, `rounds` times the expert is added
    with which the mean of the bag has the least validation loss; the best of all these bags stays,
    the smallest of equals. An expert's weight is its share of that bag.

    The algorithm is that of Caruana et al., "Ensemble Selection from Libraries of Models" (ICML
    2004), without its bags of random experts. It stands here for the training-free ensemble of
    arXiv 2311.17091, a greedy search too, of weights on logits by a few labelled samples.
    """

    rounds: int = 100
    name = "greedy"

    def __call__(self, given: HeadOutputs, seed: int) -> EnsembleOutput:
        """See `Ensemble`."""
        rows = labeled_rows(given, "validation")
        answers = given.outputs[:, rows].double()
        truth = given.encoded[rows]
        sum_of_bag = torch.zeros_like(answers[0])
        copies = torch.zeros(len(answers), device=answers.device)
        best, least = copies, float("inf")
        for size in range(1, self.rounds + 1):
            losses = [float(loss(given.kind, (sum_of_bag + one) / size, truth)) for one in answers]
            added = losses.index(min(losses))
            sum_of_bag = sum_of_bag + answers[added]
            copies[added] += 1
            if losses[added] < least:
                best, least = copies.clone(), losses[added]
        return weighted(given, best.to(given.outputs).expand(given.outputs.shape[1], -1))
