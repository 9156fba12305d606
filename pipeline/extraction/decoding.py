"""Decoding records in batches, ahead of the experts."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
from jaxtyping import Float32, Int

from pipeline.datasets.base import Dataset
from pipeline.waveforms.errors import UnreadableRecord


@dataclass(frozen=True)
class DecodedRecord:
    """A decoded ECG, or the reason why it is unreadable.

    Attributes:
        row: Row of the record in the stores.
        ecg: The ECG in mV, or the error.
    """

    row: int
    ecg: Float32[np.ndarray, "12 5000"] | UnreadableRecord


def decode_batches(
    dataset: Dataset,
    index_rows: Int[np.ndarray, " row"],
    rows: Int[np.ndarray, " pending"],
    batch_size: int,
) -> Iterator[list[DecodedRecord]]:
    """Yield decoded records in batches; the next batch is decoded while the caller works.

    Args:
        dataset: Source of the ECGs. Its attribute ``threads`` (default 1) is the number of records
            read concurrently.
        index_rows: Row of each record in the data set's index, by its row in the stores.
        rows: Rows in the stores to decode, in order.
        batch_size: Records per batch.

    Yields:
        The records of `rows` in order.
    """
    threads = getattr(dataset, "threads", 1)
    remaining = iter(rows.tolist())

    def decode(rows: list[int]) -> list[DecodedRecord]:
        records = []
        for row in rows:
            try:
                records.append(DecodedRecord(row, dataset.read(int(index_rows[row]))))
            except UnreadableRecord as error:
                records.append(DecodedRecord(row, error))
        return records

    def submit_batch() -> list[Future[list[DecodedRecord]]]:
        """Start decoding a batch, split over the threads."""
        batch = list(islice(remaining, batch_size))
        size = -(-len(batch) // threads) or 1
        parts = [batch[start : start + size] for start in range(0, len(batch), size)]
        return [pool.submit(decode, part) for part in parts]

    with ThreadPoolExecutor(max_workers=threads) as pool:
        upcoming = submit_batch()
        while current := [record for part in upcoming for record in part.result()]:
            upcoming = submit_batch()
            yield current
