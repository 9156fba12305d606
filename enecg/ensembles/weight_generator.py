"""Weights over the experts for every record, by a small network that sees the experts' outputs."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from enecg.ensembles.base import EnsembleOutput, HeadOutputs, features, labeled_rows, loss, weighted
from enecg.gate import mix
from enecg.heads import FFN, Standardize


@dataclass(frozen=True)
class WeightGenerator:
    """The sample-aware weight generator, from the tuning ensemble of arXiv 2311.17091.

    Taken from there: a small network maps the models' concatenated features to a weight for each
    model, and is trained through the weighted sum while the models stay as they are. Adapted: it
    sees the experts' concatenated outputs (classes as log-probabilities), standardised; a softmax
    makes its weights sum to 1, and they mix probabilities, not logits; it learns by the
    `out_of_fold` answers of training records, since heads know their own too well; it starts as the
    plain mean, and the epoch of least validation loss stays, the start among them.

    One FFN of `hidden` units; AdamW at `learning_rate`; at most `epochs`, stopped when the
    validation loss has not improved for `patience` of them.
    """

    hidden: int = 32
    dropout: float = 0.1
    batch_size: int = 64
    epochs: int = 100
    patience: int = 10
    learning_rate: float = 1e-3
    name = "weight generator"

    def __call__(self, given: HeadOutputs, seed: int) -> EnsembleOutput:
        """See `Ensemble`."""
        with _seeded(seed):
            network = self._fit(given, seed)
        with torch.inference_mode():
            weights = network(features(given.kind, given.outputs)).softmax(-1)
        return weighted(given, weights)

    def _fit(self, given: HeadOutputs, seed: int) -> nn.Module:
        train, validation = labeled_rows(given, "training"), labeled_rows(given, "validation")
        seen = features(given.kind, given.out_of_fold)
        network = self._start(seen[train], len(given.out_of_fold)).to(seen.device)
        optimiser = torch.optim.AdamW(network.parameters(), lr=self.learning_rate)

        def mixture_loss(rows: Tensor) -> Tensor:
            mixed = mix(network(seen[rows]).softmax(-1).unsqueeze(1), given.out_of_fold[:, rows])
            return loss(given.kind, mixed, given.encoded[rows])

        order = np.random.default_rng(seed)
        least, kept, stale = float("inf"), network.state_dict(), 0
        for epoch in range(self.epochs + 1):
            if epoch:
                network.train()
                shuffled = train[torch.from_numpy(order.permutation(len(train))).to(train.device)]
                for rows in shuffled.split(self.batch_size):
                    optimiser.zero_grad()
                    mixture_loss(rows).backward()
                    optimiser.step()
            network.eval()
            with torch.inference_mode():
                now = float(mixture_loss(validation))
            stale += 1
            if now < least:
                least, stale = now, 0
                kept = {name: value.clone() for name, value in network.state_dict().items()}
            if stale >= self.patience:
                break
        network.load_state_dict(kept)
        return network

    def _start(self, seen: Tensor, experts: int) -> nn.Module:
        """The network before training: it gives all experts the same weight."""
        standardise = Standardize(seen.shape[1])
        standardise.fit(seen)
        ffn = FFN(seen.shape[1], self.hidden, experts, self.dropout)
        nn.init.zeros_(ffn.prediction.weight)
        nn.init.zeros_(ffn.prediction.bias)
        return nn.Sequential(standardise, ffn)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Draw from `seed` inside, and leave the caller's random state as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
