"""Prediction with the heads and gate of a saved run.

```python
features = read_run_features("runs/first", "stores-data/lab", record_id)
years = load_predictor("runs/first").predict(features)["EnECG"]["age"]
```
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from enecg.errors import UserError
from enecg.gate import Mixture, mix
from enecg.heads import TaskHeads
from pipeline.evaluation.predictions import ENSEMBLE, RIDGE
from pipeline.evaluation.thresholds import Threshold, decide
from pipeline.extraction.request import resolve_device
from pipeline.labels.targets import Targets
from pipeline.runs.saved_run import SavedRun
from pipeline.training.features import Features, read_features
from pipeline.training.head_outputs import predict_heads
from pipeline.training.stack_data import PREDICTION_BATCH_SIZE
from pipeline.training.store_selection import open_by_provenance
from stores.record_ids import RecordIds

Outputs = dict[str, dict[str, Float[Tensor, "record output"]]]
"""Outputs by method and task: standardized values (regression), the probability of each label
(multilabel), or class probabilities (other kinds)."""
Predictions = dict[str, dict[str, Float[np.ndarray, "record *label"]]]
"""Predictions by method and task: values in the task's unit (regression), 0 or 1 for each label
(multilabel), or class indices (other kinds)."""


@dataclass(frozen=True)
class Predictor:
    """Heads and gate of one repeat.

    A method is the name of an expert, ``"EnECG"`` (the gated mixture of all experts) or ``"ridge
    regression"`` (the baseline).

    Attributes:
        targets: Fitted targets, by task.
        heads: Heads, by expert.
        gate: The gate; see `SavedRun.gate`.
        thresholds: Decision thresholds of binary and multilabel tasks, by method and task.
        ridge: Expert and ridge regressions of each task; empty for runs of earlier versions.
        mixture: Whether the gate averages ``"probabilities"`` or ``"logits"``.
    """

    targets: dict[str, Targets]
    heads: dict[str, TaskHeads]
    gate: nn.Module
    thresholds: dict[str, dict[str, Threshold]]
    ridge: dict[str, tuple[str, TaskHeads]] = field(default_factory=dict)
    mixture: Mixture = "probabilities"

    def outputs(self, features: Features) -> Outputs:
        """Compute the outputs of every method: each expert's heads, EnECG and ridge regression.

        Args:
            features: Embeddings by all experts of the run, and the gate's input.

        Returns:
            See `Outputs`.

        Raises:
            UserError: An expert's embeddings are missing or have the wrong number of features.
        """
        for name, heads in self.heads.items():
            expected = len(heads.standardise.mean)
            embedding = features.experts.get(name)
            if embedding is None or embedding.shape[1] != expected:
                actual = "none" if embedding is None else str(embedding.shape[1])
                raise UserError(
                    f"The run expects {expected} features of {name}, but got {actual}; read the "
                    "features with read_run_features, from stores extracted with the run's "
                    "settings."
                )
        outputs = {
            name: predict_heads(heads, features.experts[name], self.targets)
            for name, heads in self.heads.items()
        }
        by_expert = list(outputs.values())
        outputs[ENSEMBLE] = {
            task: mix(
                weight,
                torch.stack([by_task[task] for by_task in by_expert]),
                kind=self.targets[task].task.kind,
                mixture=self.mixture,
            )
            for task, weight in self.gate_weights(features).items()
        }
        if self.ridge:
            outputs[RIDGE] = {
                task: predict_heads(heads, features.experts[expert], self.targets)[task]
                for task, (expert, heads) in self.ridge.items()
            }
        return outputs

    def gate_weights(self, features: Features) -> dict[str, Float[Tensor, "record output expert"]]:
        """Compute the gate's weights.

        Args:
            features: Embeddings; only the gate's input is used.

        Returns:
            Weights by task, which sum to 1 over the last axis. The experts are in the order of
            `heads`. The second axis has length 1 if all outputs of a task share the weights.
        """
        with torch.no_grad():
            parts = [self.gate(part) for part in features.leads.split(PREDICTION_BATCH_SIZE)]
        return {task: torch.cat([part[task] for part in parts]) for task in self.targets}

    def decode(self, outputs: Outputs) -> Predictions:
        """Convert outputs to predictions (see `Outputs` and `Predictions`)."""
        return {
            method: {
                task: decide(
                    self.targets[task],
                    output.cpu().numpy(),
                    self.thresholds[method].get(task, float("nan")),
                )
                for task, output in by_task.items()
            }
            for method, by_task in outputs.items()
        }

    def predict(self, features: Features) -> Predictions:
        """Predict with every method: each expert's heads, EnECG and ridge regression.

        Args:
            features: Embeddings by all experts of the run, and the gate's input.

        Returns:
            See `Predictions`. Class indices refer to `targets[task].classes`, which is also the
            order of the labels of a multilabel task. Row i is the prediction for
            `features.record_id[i]`.

        Raises:
            UserError: An expert's embeddings are missing or have the wrong number of features.
        """
        return self.decode(self.outputs(features))


def load_predictor(folder: str | Path, repeat: int = 0, device: str = "cpu") -> Predictor:
    """Load the heads and gate of one repeat of a saved run.

    Args:
        folder: Run folder.
        repeat: Index of the repeat.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ... or ``"auto"`` for a GPU if available.

    Returns:
        The models in evaluation mode.

    Raises:
        UserError: `folder` is not a run folder or is damaged, or the repeat or device does not
            exist.
    """
    run = SavedRun(Path(folder).expanduser())
    device = resolve_device(device)
    return Predictor(
        run.targets(repeat),
        {name: run.heads(repeat, name).to(device) for name in run.experts},
        run.gate(repeat).to(device),
        run.thresholds(repeat),
        {task: (expert, heads.to(device)) for task, (expert, heads) in run.ridge(repeat).items()},
        run.mixture,
    )


def read_run_features(
    folder: str | Path,
    store: str | Path,
    record_id: RecordIds,
    *,
    namespace: str | None = None,
    device: str = "cpu",
) -> Features:
    """Read the features that a run needs to predict for the given records.

    Args:
        folder: Run folder.
        store: Root folder or URL of the shared stores.
        record_id: Ids of the records.
        namespace: Data set of the records, such as ``"ludb/1.0.1"``. Default: the data set that
            the run was trained on.
        device: Torch device of the tensors; see `load_predictor`.

    Returns:
        Embeddings by the run's experts, and the gate's input, in the order of `record_id`.

    Raises:
        UserError: `folder` is not a run folder or is damaged, a record has no embedding, or the
            device does not exist.
        StoreError: The data set lacks a store with the settings of one of the run's stores, or a
            store is damaged.
    """
    run = SavedRun(Path(folder).expanduser())
    namespace = namespace or run.config["dataset"]
    cache = open_by_provenance(store, namespace, run.stores, "enecg extract")
    return read_features(cache, record_id, resolve_device(device))
