"""Table of memory and throughput of a run, as in figure 3 of the paper."""

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


def resource_table(run: RunResults, paper: Mapping[str, str]) -> Table:
    """Build a table with a row per store for its extraction, one for training, one for the paper.

    Args:
        run: Results of the run.
        paper: The paper's ``throughput`` (ECGs/s) and ``memory``, as text.

    Returns:
        Columns for records per second, kilobytes per record, peak memory and parameters.
    """
    config = run.config
    rows = [_build_store_row(run, store) for store in config["stores"]]
    peak = config["peak_memory_bytes"]
    memory = f"{peak['process'] / 1e9:.2f} GB" + (
        f", {peak['gpu'] / 1e9:.2f} GB on the GPU" if "gpu" in peak else ""
    )
    rows.append(
        (
            f"training on {config['device']}",
            f"{sum(config['repeat_records']) / config['seconds']:,.0f}"
            if config.get("repeat_records")
            else NOT_RECORDED,
            "",
            memory,
            format_parameters(run, ENSEMBLE),
        )
    )
    rows.append(
        (
            f"{ENSEMBLE} (paper)",
            paper["throughput"],
            NOT_APPLICABLE,
            paper["memory"],
            NOT_APPLICABLE,
        )
    )
    heading = ("", "ECGs/s", "kB per ECG in the store", "peak memory", PARAMETERS)
    return Table(TITLE, heading, tuple(rows), notes=_build_notes(run))


def _build_store_row(run: RunResults, store: Mapping[str, Any]) -> tuple[str, ...]:
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
    """Format the expert's ECGs per second for each device, over all its extractions."""
    devices = dict.fromkeys(run["device"] for run in extractions if run.get("embedding_seconds"))
    rates = []
    for device in devices:
        on_device = [run for run in extractions if run["device"] == device]
        embedded = sum(run.get("embedded") or 0 for run in on_device)
        seconds = sum(run.get("embedding_seconds") or 0 for run in on_device)
        rates.append(f"{embedded / seconds:,.1f} on {device}")
    return "; ".join(rates) or NOT_RECORDED


def _build_notes(run: RunResults) -> tuple[str, ...]:
    config = run.config
    return (
        "Extraction: rate of the expert alone in one worker, without decoding and writing, over "
        "all extractions with a run record.",
        f"Training: {config['seconds']:,.0f} s for {len(config['seeds'])} repeats of "
        f"{len(run.tasks)} tasks with {len(run.weights)} experts, including evaluation. ECGs/s: "
        "number of ECGs in the cohorts of all repeats, divided by this time. Peak memory: of the "
        "whole process since its start.",
        "Not recorded: peak memory of extractions.",
        "Parameters: heads and gate only, without the frozen experts.",
        "Paper: training for the RR interval with the experts on the GPU (figure 3 of the paper).",
    )
