"""Batched decoding of records, with prefetch of the next batch."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
from jaxtyping import Float32, Int

from pipeline.datasets.base import Dataset
from pipeline.waveforms.errors import UnreadableRecord


@dataclass(frozen=True)
class DecodedRecord:
    """A decoded ECG, or the error of an unreadable one.

    Attributes:
        row: Row of the record in the stores.
        ecg: The ECG in mV at 500 Hz, or the error that reading it raised.
    """

    row: int
    ecg: Float32[np.ndarray, "12 5000"] | UnreadableRecord


def decode_batches(
    dataset: Dataset,
    index_rows: Int[np.ndarray, " row"],
    rows: Int[np.ndarray, " pending"],
    batch_size: Callable[[], int],
) -> Iterator[list[DecodedRecord]]:
    """Decode records in batches, and prefetch the next batch while the caller processes one.

    Args:
        dataset: Source of the ECGs. Its attribute ``threads`` (default 1) is the number of records
            read concurrently.
        index_rows: For each store row, the row of the same record in the data set's index.
        rows: Store rows to decode.
        batch_size: Returns the number of records of the next batch to decode.

    Yields:
        Lists of records, in the order of `rows`.
    """
    threads = getattr(dataset, "threads", 1)
    remaining = iter(rows.tolist())

    def decode(part: list[int]) -> list[DecodedRecord]:
        records = []
        for row in part:
            try:
                records.append(DecodedRecord(row, dataset.read(int(index_rows[row]))))
            except UnreadableRecord as error:
                records.append(DecodedRecord(row, error))
        return records

    def submit_batch() -> list[Future[list[DecodedRecord]]]:
        """Start decoding a batch, split over the threads."""
        batch = list(islice(remaining, batch_size()))
        size = -(-len(batch) // threads) or 1
        parts = [batch[start : start + size] for start in range(0, len(batch), size)]
        return [pool.submit(decode, part) for part in parts]

    with ThreadPoolExecutor(max_workers=threads) as pool:
        upcoming = submit_batch()
        while current := [record for part in upcoming for record in part.result()]:
            upcoming = submit_batch()
            yield current
