"""Memory and throughput of a run, as in figure 3 of the paper."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.evaluation.predictions import ENSEMBLE
from pipeline.report.table import (
    NOT_APPLICABLE,
    PARAMETERS,
    Table,
    format_parameters,
    method_label,
)
from pipeline.runs.results import RunResults

NOT_RECORDED = "not recorded"
TITLE = "Figure 3: memory and throughput"


def resource_table(run: RunResults) -> Table:
    """Build a table with a row for the extraction of each store and one for the training.

    Args:
        run: Results of a run.

    Returns:
        Records per second, kilobytes per record, peak memory and parameters.
    """
    config = run.config
    rows = [_store_row(run, store) for store in config["stores"]]
    records, seconds = config["records"], config["seconds"]
    peak = config["peak_memory_bytes"]
    memory = f"{peak['process'] / 1e9:.2f} GB" + (
        f", {peak['gpu'] / 1e9:.2f} GB on the GPU" if "gpu" in peak else ""
    )
    rows.append(
        (
            f"training on {config['device']}",
            f"{records * len(config['seeds']) / seconds:,.0f}",
            "",
            memory,
            format_parameters(run, ENSEMBLE),
        )
    )
    heading = ("", "ECGs/s", "kB per ECG in the store", "peak memory", PARAMETERS)
    return Table(TITLE, heading, tuple(rows), notes=_notes(run))


def _store_row(run: RunResults, store: Mapping[str, Any]) -> tuple[str, ...]:
    expert = store["expert"]
    itemsize = np.dtype(run.provenance[store["identity"]]["dtype"]).itemsize
    label = method_label(expert, run) if expert in run.weights else f"{expert} (input of the gate)"
    return (
        f"extraction: {label}",
        _format_rates(store["extractions"]),
        f"{store['features'] * itemsize / 1e3:.1f}",
        NOT_RECORDED,
        NOT_APPLICABLE,
    )


def _format_rates(extractions: Sequence[Mapping[str, Any]]) -> str:
    """Format ECGs per second of the expert alone, over all extractions on each device."""
    devices = dict.fromkeys(one["device"] for one in extractions if one.get("embedding_seconds"))
    rates = []
    for device in devices:
        on_device = [one for one in extractions if one["device"] == device]
        embedded = sum(one.get("embedded") or 0 for one in on_device)
        seconds = sum(one.get("embedding_seconds") or 0 for one in on_device)
        rates.append(f"{embedded / seconds:,.1f} on {device}")
    return "; ".join(rates) or NOT_RECORDED


def _notes(run: RunResults) -> tuple[str, ...]:
    config = run.config
    return (
        "Extraction: rate of the expert alone, without decoding and writing, over all run records "
        "of its store.",
        f"Training: {config['seconds']:,.0f} s for {len(config['seeds'])} repeats of "
        f"{len(run.tasks)} tasks on the embeddings of {config['records']:,} ECGs by "
        f"{len(run.weights)} experts, including evaluation. ECGs/s: ECGs times repeats, divided "
        "by this time. Peak memory: of the whole process since its start.",
        "Not recorded: peak memory of extractions. The paper compares with training the experts, "
        "which are frozen here.",
        "Parameters: heads and gate only, without the frozen experts.",
        "The values of the paper's figure 3 are not available.",
    )
