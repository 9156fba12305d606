"""Options of an extraction, without importing torch, which would slow down the command line."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from enecg.checked_fields import Count, NotNegative, check_fields
from enecg.errors import UserError
from pipeline.waveforms.options import DEFAULT_OPTIONS, DecodeOptions

DEFAULT_EXPERTS = ("dlinear", "timesnet", "moment", "tempo", "ecg-fm")
"""The five experts of EnECG (arXiv 2511.22935)."""

Dtype = Literal["float16", "float32"]
"""Supported data types of stored embeddings."""


@dataclass(frozen=True)
class ExtractOptions:
    """Options of an extraction.

    ``weights``, ``pooling``, ``precision``, ``dtype``, ``decoding`` and ``expert_settings`` are
    part of a store's identity; the others are not.

    Attributes:
        weights: Weights of all experts (``published``, ``random:SEED``, ``hub:...`` or a path), or
            ``EXPERT@WEIGHTS`` for one.
        pooling: Pooling of all experts, or ``EXPERT@POOLING`` for one.
        precision: Precision of the computation of all experts (``float32``, ``bfloat16`` or
            ``float16``), or ``EXPERT@PRECISION`` for one.
        expert_settings: Hyperparameters that the weights do not determine, each in the form
            ``EXPERT.NAME=VALUE``.
        dtype: Data type of the stored embeddings, ``float16`` or ``float32``.
        decoding: Options for short records and missing leads.
        device: Torch device; ``auto`` selects a GPU if there is one.
        workers: Number of worker processes on this machine; None starts one per device. If the
            number is 1, no process is started: this process is the worker.
        devices: Torch devices of the workers, such as ``("cuda:0", "cuda:1")``; empty uses
            `device`, or all GPUs if `device` is ``auto``.
        threads: Number of torch threads per worker, 1 or more. None uses the cores that other
            processes leave free or, with `scheduler`, keeps the setting of the workers.
        scheduler: Address of a Dask scheduler whose workers compute the rows; None uses this
            machine.
        batch_size: Records per forward pass, at least 1. None adapts it so that a batch takes
            about 2 s and fits into the device's memory.
        limit: Extract only the first `limit` records, in index order; None extracts all.
        records: File with ids of records to extract, applied before `limit`; None extracts all.
        retry_failed: Whether to retry records that failed in earlier runs.
        wait_minutes: Maximum minutes to wait for stores that another extraction is writing.
        flush_seconds: Seconds between flushes of a partially filled shard, checked after each
            batch. A killed process loses the rows since the last flush.
        shard_rows: Rows per shard of the first stores of a data set. None selects it by the number
            of records. If the store of the gate's leads exists, new stores have its value.

    Raises:
        UserError: A value is invalid, or `scheduler` is combined with `workers` or `devices`.
    """

    weights: tuple[str, ...] = ("published",)
    pooling: tuple[str, ...] = ("default",)
    precision: tuple[str, ...] = ("float32",)
    expert_settings: tuple[str, ...] = ()
    dtype: Dtype = "float16"
    decoding: DecodeOptions = DEFAULT_OPTIONS
    device: str = "auto"
    workers: Count | None = None
    devices: tuple[str, ...] = ()
    threads: Count | None = None
    scheduler: str | None = None
    batch_size: Count | None = None
    limit: Count | None = None
    records: Path | None = None
    retry_failed: bool = False
    wait_minutes: NotNegative = 0.0
    flush_seconds: NotNegative = 60.0
    shard_rows: Count | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.scheduler is not None and (self.workers is not None or self.devices):
            raise UserError(
                "--workers and --devices start processes on this machine, but --scheduler uses "
                "those of a Dask cluster; omit --scheduler or the other options."
            )
