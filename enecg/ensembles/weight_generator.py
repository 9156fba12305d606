"""A small network that predicts expert weights for each record from the experts' outputs."""

from copy import deepcopy
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from enecg.adamw import AdamWParameter, update
from enecg.ensembles.base import (
    EnsembleOutput,
    HeadOutputs,
    combine,
    concatenate,
    labeled_rows,
    task_loss,
)
from enecg.gate import mix
from enecg.heads import Standardize
from enecg.stacked import StackConfig, StackedFFN


@dataclass(frozen=True)
class WeightGenerator:
    """The sample-aware weight generator of the tuning ensemble of arXiv 2311.17091.

    In that paper, a small network maps the concatenated features of frozen models to one weight per
    model, and is trained with the loss of the weighted sum. This implementation differs as follows:

    - The inputs are the standardized outputs of the experts (log-probabilities for classes,
      log-odds for labels).
    - A softmax normalizes the weights. For classes and labels, probabilities are averaged instead
      of logits.
    - The network is trained on out-of-fold predictions of training records, because heads overfit
      the records that they were trained on.
    - The initial network weights all experts equally. The state with the lowest validation loss is
      used, which may be the initial one.

    The network is an `enecg.heads.FFN` with one hidden layer, trained with AdamW. Every step uses
    all training records.

    Attributes:
        hidden: Units of the hidden layer.
        dropout: Dropout probability.
        epochs: Maximum number of epochs, each with one optimizer step.
        patience: Epochs without a lower validation loss before training stops.
        learning_rate: Learning rate of AdamW.
    """

    hidden: int = 32
    dropout: float = 0.1
    epochs: int = 100
    patience: int = 10
    learning_rate: float = 1e-2
    name = "weight generator"

    def __call__(self, heads: HeadOutputs, seed: int) -> EnsembleOutput:
        """Combine the heads; see `Ensemble.__call__`."""
        train, validation = labeled_rows(heads, "training"), labeled_rows(heads, "validation")
        inputs = concatenate(heads.kind, heads.outputs)
        standardize = Standardize(inputs.shape[1])
        standardize.fit(inputs[train])
        inputs = standardize.to(inputs.device)(inputs)
        network = self._fit(heads, inputs, train, validation, seed)
        with torch.inference_mode():
            weights = network(inputs[None, :])[0, 0].softmax(-1)
        return combine(heads, weights)

    def _fit(
        self,
        heads: HeadOutputs,
        inputs: Float[Tensor, "record feature"],
        train: Int[Tensor, " train"],
        validation: Int[Tensor, " validation"],
        seed: int,
    ) -> StackedFFN:
        """Train a stack of one network."""
        network = self._build(inputs.shape[1], len(heads.outputs), seed).to(inputs.device)
        network.generator = torch.Generator(inputs.device).manual_seed(seed)
        parameters = list(network.parameters())
        states = [AdamWParameter(parameter) for parameter in parameters]

        def mixture_loss(rows: Tensor) -> Tensor:
            mixed = mix(
                network(inputs[None, rows])[0, 0].softmax(-1).unsqueeze(1), heads.outputs[:, rows]
            )
            return task_loss(heads.kind, mixed, heads.encoded[rows])

        best_loss, best_state, epochs_since_best = float("inf"), deepcopy(network.state_dict()), 0
        for epoch in range(self.epochs + 1):
            if epoch:
                network.train()
                gradients = torch.autograd.grad(mixture_loss(train), parameters)
                update(states, gradients, self.learning_rate)
            network.eval()
            with torch.inference_mode():
                loss = float(mixture_loss(validation))
            epochs_since_best += 1
            if loss < best_loss:
                best_loss, epochs_since_best = loss, 0
                best_state = deepcopy(network.state_dict())
            if epochs_since_best >= self.patience:
                break
        network.load_state_dict(best_state)
        return network

    def _build(self, features: int, experts: int, seed: int) -> StackedFFN:
        """Build the untrained network, which weights all experts equally."""
        config = StackConfig(
            features,
            self.hidden,
            experts,
            lora=False,
            zero_prediction=True,
            dropout=self.dropout,
        )
        # Restore the global generator, from which the constructors of modules draw.
        with torch.random.fork_rng():
            return StackedFFN.initialize(config, 1, [seed])
