"""Gate weights and learning curves of a run, as files."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pipeline.evaluation.predictions import ENSEMBLE
from pipeline.runs.results_document import replace_nonfinite

if TYPE_CHECKING:
    # Not imported at run time, because plots of finished runs use this module without torch.
    from pipeline.training.repeat import Repeat

GATE_WEIGHTS = "gate_weights.parquet"
LEARNING_CURVES = "learning_curves.json"

Curves = dict[str, dict[str, list[float]]]
"""Validation loss before training and after every epoch, by method and task."""


def gate_weights_table(repeats: "Sequence[Repeat]") -> pa.Table:
    """Build the table of `gate_weights.parquet`.

    Args:
        repeats: The trained repeats.

    Returns:
        One row per task, repeat and test record, with columns task, repeat, record_id and weights
        (list of float32: one weight per expert, in the order of the experts in `config.json`).
        Weights that differ between the outputs of a task are averaged over the outputs.
    """
    return pa.concat_tables(
        pa.table(
            {
                "task": pa.repeat(task, len(weights)),
                "repeat": np.full(len(weights), number),
                "record_id": pa.array(repeat.cohort.test),
                "weights": pa.FixedSizeListArray.from_arrays(
                    pa.array(weights.mean(1).astype(np.float32).ravel()), weights.shape[2]
                ).cast(pa.list_(pa.float32())),
            }
        )
        for number, repeat in enumerate(repeats)
        for task, weights in repeat.gate_weights.items()
    )


def learning_curves_document(repeats: "Sequence[Repeat]") -> list[Curves]:
    """Build the contents of `learning_curves.json`.

    Args:
        repeats: The trained repeats.

    Returns:
        The curves of each repeat: those of each expert's heads, and of the gate as ``"EnECG"``;
        see `FittedModel.validation_loss`. Curves end where training stopped. Losses are rounded to
        six decimals, with None in place of NaN and infinity.
    """
    documents = []
    for repeat in repeats:
        fits = {**repeat.heads, ENSEMBLE: repeat.gate}
        curves = {
            method: {task: _trim(losses) for task, losses in fit.validation_loss.items()}
            for method, fit in fits.items()
            if fit.validation_loss
        }
        document: Any = replace_nonfinite(curves)
        documents.append(document)
    return documents


def _trim(losses: Sequence[float]) -> list[float]:
    """Remove trailing NaN, the losses of epochs after a task has stopped, and round the others."""
    last = max((epoch for epoch, loss in enumerate(losses) if not math.isnan(loss)), default=-1)
    return [round(loss, 6) for loss in losses[: last + 1]]
