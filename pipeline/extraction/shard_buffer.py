"""In-memory buffer for one shard of one store."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float32, Int

from pipeline.extraction.plan import NOT_FINITE
from pipeline.extraction.store_plan import StorePlan
from pipeline.extraction.summary import ExtractionSummary, Failure
from stores.shards import finite_rows
from stores.status import WHOLE


class ShardBuffer:
    """In-memory buffer for one shard of one store.

    Row numbers are relative to the start of the shard.

    Args:
        planned: Plan of the store.
        shard: Number of the shard.
        summary: Updated in place.

    Attributes:
        missing: Mask of the rows to compute; does not change.
        computed: Mask of the rows computed since the last write, complete or failed.
        status: Status of every row.
        embedding: Embedding of every row; empty if no row is missing.
        failures: Failures since the last write, by row.
    """

    def __init__(self, planned: StorePlan, shard: int, summary: ExtractionSummary) -> None:
        self.planned = planned
        self.shard = shard
        self.summary = summary
        self.span = planned.store.shard_slice(shard)
        pending = planned.pending(self.span)
        if pending.any():
            # Track the version before reading, so that a later write replaces only the version that
            # is read here.
            planned.store.track_shard(shard)
        self.status = planned.store.status(shard)
        # An earlier attempt that was interrupted may have written some of the pending rows.
        self.missing = pending & (self.status != WHOLE)
        self.computed = np.zeros_like(self.missing)
        self.embedding: Float[np.ndarray, "row feature"] = (
            planned.store.read_shard(shard) if self.missing.any() else np.empty((0, 0))
        )
        self.failures: dict[int, Failure] = {}
        stored = pending & ~self.missing
        summary.already_complete += int(stored.sum())
        planned.written[self.span] |= stored

    def set_embeddings(
        self, rows: Int[np.ndarray, " batch"], embedding: Float32[np.ndarray, "batch feature"]
    ) -> None:
        """Set the embeddings of missing rows; non-finite embeddings are recorded as failures.

        Args:
            rows: Rows in the shard.
            embedding: Embedding of each row, before conversion to the data type of the store.
        """
        with np.errstate(over="ignore"):
            stored = embedding.astype(self.embedding.dtype)
        finite = finite_rows(stored)
        self.embedding[rows[finite]] = stored[finite]
        self.status[rows[finite]] = WHOLE
        self.computed[rows[finite]] = True
        name = self.planned.name
        for row, overflowed in zip(
            rows[~finite].tolist(), np.isfinite(embedding[~finite]).all(1), strict=True
        ):
            detail = (
                f"The {name} embedding is not finite in {stored.dtype}; try --dtype float32."
                if overflowed
                else f"{name} computed NaN or infinity; check its weights and this ECG."
            )
            self.set_failure(row, NOT_FINITE, detail, expert=name)

    def set_failure(self, row: int, reason: str, detail: str, expert: str | None = None) -> None:
        """Record a missing row as failed.

        Args:
            row: Row in the shard.
            reason: Reason code, one of the store's flags.
            detail: A message that names the file or the value.
            expert: Expert that failed; None if the record itself is unreadable.
        """
        store = self.planned.store
        record_id = store.record_id[self.span][row].item()
        self.failures[row] = Failure(record_id, expert, reason, detail)
        self.status[row] = store.flags.index(reason)
        self.computed[row] = True

    def write(self, shard_buffers: Sequence["ShardBuffer"]) -> None:
        """Write the shard and update the summary if rows were computed since the last write.

        Args:
            shard_buffers: Buffers of the same shard in all stores, including this one. They are
                needed to list an unreadable record once in the summary, not once per store.

        Raises:
            StoreError: The store cannot be written, or its lease was lost (`LeaseLost`).
        """
        if not self.computed.any():
            return
        self.planned.store.write_shard(self.shard, self.embedding, self.status)
        self.summary.computed += int((self.computed & (self.status == WHOLE)).sum())
        for row, failure in self.failures.items():
            repeated = failure.expert is None and any(
                buffer._has_written(row, failure.reason) for buffer in shard_buffers
            )
            self.summary.add_failure(failure, self.planned.name, repeated=repeated)
        self.planned.written[self.span] |= self.computed
        self.computed[:] = False
        self.failures.clear()

    def _has_written(self, row: int, reason: str) -> bool:
        """Return whether this run has written the row as failed for this reason."""
        written = self.planned.written[self.span][row]
        return bool(written) and self.planned.store.flags[self.status[row]] == reason
