"""Extract the missing rows in a range of shards."""

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float32, Int
from torch import Tensor

from pipeline.extraction.batch_size import BatchSize
from pipeline.extraction.decoding import DecodedRecord, decode_batches
from pipeline.extraction.memory import keep_freed_memory
from pipeline.extraction.plan import ExtractionPlan, ShardRange
from pipeline.extraction.shard_buffer import ShardBuffer
from pipeline.extraction.summary import ExtractionSummary
from pipeline.waveforms.errors import UnreadableRecord
from stores.errors import StoreError

Progress = Callable[[int, int], None]
"""Called as ``progress(done, total)`` with record counts."""


def extract_range(
    plan: ExtractionPlan,
    shards: ShardRange,
    summary: ExtractionSummary,
    progress: Progress | None = None,
) -> None:
    """Compute and write the missing rows in a range of shards.

    A repeated call computes only the rows that are still missing. One shard of each store and two
    decoded batches of ECGs are in memory at a time.

    Args:
        plan: Plan of the extraction.
        shards: Range of shards.
        summary: Updated in place.
        progress: Called after each batch with the record counts of this range.

    Raises:
        UserError: The device is out of memory even with a single ECG.
        StoreError: A store cannot be read or written, or its lease was lost (`LeaseLost`).
    """
    # Disable TF32, because it would make embeddings differ between GPU models, and between GPU and
    # CPU.
    torch.backends.cudnn.allow_tf32 = False
    keep_freed_memory()
    for planned in plan.stores:
        if isinstance(planned.expert, torch.nn.Module):
            planned.expert.to(plan.request.device)
    summary.devices.add(plan.request.device)
    span = plan.rows_of(shards)
    total = plan.count_records(shards)
    pending = np.logical_or.reduce([store.pending(span) for store in plan.stores])
    done = total - int(pending.sum())
    options = plan.request.options
    batch_size = BatchSize(options.batch_size, plan.request.device)
    for shard in range(shards.first, shards.last):
        buffers = [ShardBuffer(planned, shard, summary) for planned in plan.stores]
        missing = np.logical_or.reduce([buffer.missing for buffer in buffers])
        if not missing.any():
            continue
        rows = np.flatnonzero(missing) + shard * plan.shard_rows
        flushed = time.monotonic()
        try:
            for batch in decode_batches(
                plan.request.dataset, plan.index_rows, rows, lambda: batch_size.size
            ):
                started = time.monotonic()
                _embed_batch(buffers, batch, plan.request.device, batch_size)
                batch_size.update(len(batch), time.monotonic() - started)
                done += len(batch)
                if progress is not None:
                    progress(done, total)
                if time.monotonic() - flushed > options.flush_seconds:
                    _write(buffers)
                    flushed = time.monotonic()
        except StoreError:
            # Do not try to write the buffers: the store may be unreachable, and each further write
            # would wait for a timeout.
            raise
        except BaseException:
            # After Ctrl-C, or an error in an expert or a data set, write the rows computed so far.
            _write(buffers)
            raise
        _write(buffers)
        del buffers  # frees the memory before the next shard is read


def _write(buffers: Sequence[ShardBuffer]) -> None:
    for buffer in buffers:
        buffer.write(buffers)


def _embed_batch(
    buffers: Sequence[ShardBuffer],
    batch: Sequence[DecodedRecord],
    device: str,
    batch_size: BatchSize,
) -> None:
    """Embed with each expert the records of a batch that are missing in its store."""
    first_row = buffers[0].span.start
    rows, signals = [], []
    for record in batch:
        row = record.row - first_row
        if not isinstance(record.ecg, UnreadableRecord):
            rows.append(row)
            signals.append(record.ecg)
            continue
        for buffer in buffers:
            if buffer.missing[row]:
                buffer.set_failure(row, record.ecg.reason, record.ecg.detail)
    if rows:
        ecg = torch.from_numpy(np.stack(signals)).to(device)
        for buffer in buffers:
            _embed(buffer, np.array(rows), ecg, batch_size)


def _embed(
    buffer: ShardBuffer,
    rows: Int[np.ndarray, " batch"],
    ecg: Float32[Tensor, "batch 12 5000"],
    batch_size: BatchSize,
) -> None:
    missing = buffer.missing[rows]
    if not missing.any():
        return
    name = buffer.planned.name
    started = time.monotonic()
    if not missing.all():
        ecg = ecg[torch.from_numpy(missing).to(ecg.device)]
    result = batch_size.embed(buffer.planned.expert, ecg)
    buffer.summary.embedding_seconds[name] += time.monotonic() - started
    buffer.summary.embedded[name] += len(result)
    buffer.set_embeddings(rows[missing], result)
