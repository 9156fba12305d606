"""An output of a live run as a differentiable function of the ECG."""

from copy import copy
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from enecg.attribution.task_output import Gate, Head, TaskOutput
from enecg.errors import UserError
from enecg.experts import Expert, FrozenExpert
from enecg.tasks import Kind
from pipeline.labels.targets import Targets
from pipeline.prediction.live_run import LiveRun
from pipeline.training.head_outputs import to_predictions


def explained_output(live: LiveRun, task: str) -> TaskOutput:
    """Build the differentiable output of a task: the value, or the first class or label.

    The experts compute in float32, because gradients underflow in float16.

    Args:
        live: A run with one repeat.
        task: Name of a task of the run.

    Returns:
        The output.

    Raises:
        UserError: The run has no such task, or an expert is unavailable.
    """
    (predictor,) = live.repeats
    if task not in predictor.targets:
        raise UserError(
            f"{live.saved.folder} has no task {task!r}; available: {', '.join(predictor.targets)}."
        )
    targets = predictor.targets[task]
    is_regression = targets.task.kind == "regression"
    return TaskOutput(
        experts={name: _in_float32(expert) for name, expert in live.experts.items()},
        heads={
            name: _head(predictor.heads[name], task, targets.task.kind) for name in live.experts
        },
        gate=_gate(predictor.gate, task),
        kind=targets.task.kind,
        mixture=predictor.mixture,
        scale=targets.scale if is_regression else 1.0,
        mean=targets.mean if is_regression else 0.0,
    )


def select_class(
    output: TaskOutput, targets: Targets, ecg: Float[Tensor, "12 5000"], name: str | None
) -> TaskOutput:
    """Select the explained class for an ECG.

    Args:
        output: Output of the task.
        targets: Fitted targets of the task.
        ecg: The explained ECG, in mV at 500 Hz.
        name: Name of a class or label. None selects the positive class of a binary task, otherwise
            the class or label with the highest probability in the gated mixture.

    Returns:
        The output of the selected class; `output` itself for a regression.

    Raises:
        UserError: The task has no such class.
    """
    if targets.task.kind == "regression":
        if name is not None:
            raise UserError(f"{targets.task.name} has no classes; omit --class.")
        return output
    if name is None:
        if targets.task.kind == "binary":
            return replace(output, index=1)
        with torch.no_grad():
            values = [
                float(replace(output, index=index).ensemble(ecg[None])[0])
                for index in range(len(targets.classes))
            ]
        return replace(output, index=int(np.argmax(values)))
    if name not in targets.classes:
        raise UserError(
            f"{targets.task.name} has no class {name!r}; available: {', '.join(targets.classes)}."
        )
    return replace(output, index=targets.classes.index(name))


def _in_float32(expert: Expert) -> Expert:
    """Return an expert with the same weights that computes in float32."""
    if not isinstance(expert, FrozenExpert):
        return expert
    copied = copy(expert)  # the run keeps its own precision
    copied.spec = replace(expert.spec, precision="float32")
    return copied


def _head(heads: nn.Module, task: str, kind: Kind) -> Head:
    def head(embedding: Tensor) -> Tensor:
        return to_predictions(kind, heads(embedding)[task])

    return head


def _gate(gate: nn.Module, task: str) -> Gate:
    def weights(leads: Tensor) -> Tensor:
        task_weights: Tensor = gate(leads)[task]
        return task_weights

    return weights
