"""What a run cost, as the paper's figure 3 compares it: memory and throughput."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.evaluation.predictions import ENSEMBLE
from pipeline.report.table import NOT_FOR_THIS, PARAMETERS, Table, label, parameters
from pipeline.runs.results import RunResults

NOT_RECORDED = "not recorded"
TITLE = "Figure 3: memory and throughput"


def resource_table(run: RunResults) -> Table:
    """Rates and sizes of every store that was read, and of the training over all of them."""
    config = run.config
    rows = [_row(run, store) for store in config["stores"]]
    records, seconds = config["records"], config["seconds"]
    peak = config["peak_memory_bytes"]
    memory = f"{peak['process'] / 1e9:.2f} GB" + (
        f", {peak['gpu'] / 1e9:.2f} GB of GPU" if "gpu" in peak else ""
    )
    rows.append(
        (
            f"training, all of it, on {config['device']}",
            f"{records * len(config['seeds']) / seconds:,.0f}",
            "",
            memory,
            parameters(run, ENSEMBLE),
        )
    )
    heading = ("", "ECGs/s", "kB an ECG in the store", "peak memory", PARAMETERS)
    return Table(TITLE, heading, tuple(rows), notes=_notes(run))


def _row(run: RunResults, store: Mapping[str, Any]) -> tuple[str, ...]:
    expert = store["expert"]
    size = np.dtype(run.provenance[store["identity"]]["dtype"]).itemsize
    known = expert in run.weights
    return (
        f"extraction: {label(expert, run)}" if known else f"extraction: {expert} (the gate's)",
        _rates(store["extractions"]),
        f"{store['features'] * size / 1e3:.1f}",
        NOT_RECORDED,
        NOT_FOR_THIS,
    )


def _rates(extractions: Sequence[Mapping[str, Any]]) -> str:
    """ECGs a second of the expert alone, over all extractions on each device."""
    devices = dict.fromkeys(one["device"] for one in extractions if one.get("embedding_seconds"))
    told = []
    for device in devices:
        here = [one for one in extractions if one["device"] == device]
        embedded = sum(one.get("embedded") or 0 for one in here)
        seconds = sum(one.get("embedding_seconds") or 0 for one in here)
        told.append(f"{embedded / seconds:,.1f} on {device}")
    return "; ".join(told) or NOT_RECORDED


def _notes(run: RunResults) -> tuple[str, ...]:
    config = run.config
    return (
        "Extraction: each expert alone, over all that was ever extracted into its store, as the "
        "store's run objects have it; decoding and writing not counted.",
        f"Training: {config['seconds']:,.0f} s for {len(config['seeds'])} repeats of "
        f"{len(run.tasks)} tasks on {len(run.weights)} experts' embeddings of "
        f"{config['records']:,} ECGs, all heads, the gate and their tests; ECGs/s: ECGs times "
        "repeats in that time. Peak memory: of the whole process since it began.",
        "Not recorded: the peak memory of extractions, and what training the experts themselves "
        "would cost, which the paper compares with: here they stay frozen.",
        "Parameters: of all heads and the gate; the frozen experts' own are not counted.",
        "The paper's figure 3 is not at hand.",
    )
