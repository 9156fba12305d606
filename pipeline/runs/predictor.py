"""A run's heads and gate, answering for any record whose embeddings are there.

```python
features = read_for("runs/first", "stores-data/lab", record_id)
years = load_run("runs/first").predict(features)["EnECG"]["age"]
```
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from enecg.errors import UserError
from enecg.gate import mix
from enecg.heads import TaskHeads
from pipeline.evaluation.evaluate import ENSEMBLE, decide
from pipeline.extraction.request import resolve_device
from pipeline.labels.targets import Targets
from pipeline.runs.saved_run import SavedRun
from pipeline.training.cache import Features, open_same, read_features
from pipeline.training.fit import predict_heads
from pipeline.training.stack_data import RECORDS_AT_ONCE

Outputs = dict[str, dict[str, Float[Tensor, "record output"]]]
Answers = dict[str, dict[str, Float[np.ndarray, " record"]]]


@dataclass(frozen=True)
class Predictor:
    """What one repeat has learned: the heads of each expert, the gate, and how to read them.

    `targets` by task; `thresholds` of binary tasks, by method and task. A method is the name of
    an expert, or `EnECG`.
    """

    targets: dict[str, Targets]
    heads: dict[str, TaskHeads]
    gate: nn.Module
    thresholds: dict[str, dict[str, float]]

    def outputs(self, features: Features) -> Outputs:
        """By method and task: a regression in standard units, or the probabilities of classes.

        Raises UserError where an expert's features are not given, or are not as wide as its heads.
        """
        for name, heads in self.heads.items():
            width = len(heads.standardise.mean)
            given = features.experts.get(name)
            if given is None or given.shape[1] != width:
                there = "none" if given is None else f"{given.shape[1]} features"
                raise UserError(
                    f"The run answers from {width} features of {name}, and {there} are given; "
                    "read them from stores made as the run's were, by read_for."
                )
        found = {
            name: predict_heads(heads, features.experts[name], self.targets)
            for name, heads in self.heads.items()
        }
        of_experts = list(found.values())
        found[ENSEMBLE] = {
            task: mix(weight, torch.stack([one[task] for one in of_experts]))
            for task, weight in self.weights(features).items()
        }
        return found

    def weights(self, features: Features) -> dict[str, Float[Tensor, "record output expert"]]:
        """The gate's weights over the experts, in the order of `heads`, by task; of each output
        or of all, as `enecg.gate.Gate` gives them.
        """
        with torch.no_grad():
            parts = [self.gate(part) for part in features.leads.split(RECORDS_AT_ONCE)]
        return {task: torch.cat([part[task] for part in parts]) for task in self.targets}

    def answers(self, outputs: Outputs) -> Answers:
        """What `outputs` say: values in the task's unit, or class numbers."""
        return {
            method: {
                task: decide(
                    self.targets[task],
                    output.cpu().numpy(),
                    self.thresholds[method].get(task, float("nan")),
                )
                for task, output in of_tasks.items()
            }
            for method, of_tasks in outputs.items()
        }

    def predict(self, features: Features) -> Answers:
        """By method and task: values in the task's unit, or numbers of `targets[task].classes`.

        Row i is of `features.record_id[i]`.
        """
        return self.answers(self.outputs(features))


def load_run(folder: str | Path, repeat: int = 0, device: str = "cpu") -> Predictor:
    """What a repeat of a saved run has learned, on a `device` or the best there is (`auto`).

    Raises UserError where `folder` is no run, has no such repeat, or is not whole, and where there
    is no such device.
    """
    run = SavedRun(Path(folder).expanduser())
    device = resolve_device(device)
    return Predictor(
        run.targets(repeat),
        {name: run.heads(repeat, name).to(device) for name in run.experts},
        run.gate(repeat).to(device),
        run.thresholds(repeat),
    )


def read_for(
    folder: str | Path,
    store: str | Path,
    record_id: Int[np.ndarray, " record"],
    *,
    namespace: str | None = None,
    device: str = "cpu",
) -> Features:
    """What a run answers from: embeddings of these records, by the run's own experts and weights.

    `namespace`: of the data set that the records are of, such as `ludb/1.0.1`; the run's own where
    none is given. Raises UserError or StoreError where they are not in the store.
    """
    run = SavedRun(Path(folder).expanduser())
    cache = open_same(store, namespace or run.config["dataset"], run.stores, "enecg extract")
    return read_features(cache, record_id, resolve_device(device))
