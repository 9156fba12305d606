"""Predictions by the heads of one expert."""

import torch
from jaxtyping import Float
from torch import Tensor

from enecg.heads import FFN, TaskHeads
from enecg.tasks import Kind
from pipeline.labels.targets import Targets
from pipeline.training.labeled_repeat import LabeledRepeat
from pipeline.training.stack_data import prediction_batch_size


def predict_heads(
    heads: TaskHeads, embedding: Float[Tensor, "record feature"], targets: dict[str, Targets]
) -> dict[str, Float[Tensor, "record output"]]:
    """Predict all tasks with the heads of one expert.

    Args:
        heads: The heads of one expert.
        embedding: Embeddings by that expert, in the data type of the store.
        targets: Fitted targets, by task.

    Returns:
        Standardized values of regression tasks, and probabilities of classes or labels, by task.
    """
    heads.eval()
    size = prediction_batch_size(heads.encode)
    with torch.no_grad():
        parts = [heads(part) for part in embedding.split(size)]
    outputs = {name: torch.cat([part[name] for part in parts]) for name in targets}
    return {
        name: to_predictions(targets[name].task.kind, output) for name, output in outputs.items()
    }


def predict_left_out(
    heads: TaskHeads,
    features: Float[Tensor, "record feature"],
    repeat: LabeledRepeat,
    left_out: Float[Tensor, "task record output"],
) -> dict[str, Float[Tensor, "validation output"]]:
    """Predict the validation records, each with linear paths that are fitted without its patient.

    Args:
        heads: The heads of one expert, which have linear paths.
        features: Embeddings by that expert of the records of the repeat.
        repeat: Records and targets.
        left_out: Outputs of these linear paths; see `FittedPaths.refit_left_out`.

    Returns:
        Standardized values or probabilities by task, in the order of `repeat.validation`; those of
        unlabeled records lack the linear paths.
    """
    predictions: dict[str, list[Tensor]] = {task: [] for task in repeat.targets}
    with torch.no_grad():
        for rows in repeat.validation.split(prediction_batch_size(heads.encode)):
            standardized = heads.standardise(features[rows])
            encoded = standardized if heads.encode is None else heads.encode(standardized)
            for number, (task, target) in enumerate(repeat.targets.items()):
                ffn = heads.ffn[task]
                assert isinstance(ffn, FFN)
                assert ffn.linear is not None
                correction = ffn(standardized, encoded) - ffn.linear(encoded)
                output = correction + left_out[number, rows, : target.outputs]
                predictions[task].append(to_predictions(target.task.kind, output))
    return {task: torch.cat(parts) for task, parts in predictions.items()}


def to_predictions(
    kind: Kind, output: Float[Tensor, "record output"]
) -> Float[Tensor, "record output"]:
    """Convert the outputs of a head to predictions.

    Args:
        kind: Kind of the task.
        output: Standardized values of a regression task, otherwise logits.

    Returns:
        The values of a regression task unchanged; otherwise probabilities of classes or labels.
    """
    if kind == "regression":
        return output
    return output.sigmoid() if kind == "multilabel" else output.softmax(-1)
