"""Peak memory of an extraction by the number of records.

    python benchmarks/memory.py [--records 2000 20000 200000] [--experts dlinear]

Every extraction runs in a separate process. The index repeats the files of 60 patients, so the data
set needs little disk space. Embeddings are written to a temporary folder. For each store, one shard
is in memory. The benchmark uses shards of `SHARD_ROWS` rows for all sizes; by default, stores with
few records have smaller shards, which need less memory.
"""

import argparse
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path

from benchmarks._memory import peak_bytes
from benchmarks._ratios import report_ratio
from benchmarks._repeated import RepeatedRecords
from pipeline.extract import extract
from pipeline.extraction.options import ExtractOptions
from stores.creation import SHARD_ROWS


def peak(data: Path, records: int, experts: list[str], batch: int) -> tuple[float, float]:
    """Extract all records; return the peak memory in MB and the duration in seconds."""
    options = ExtractOptions(
        weights=("random:0",),
        device="cpu",
        threads=1,
        batch_size=batch,
        shard_rows=SHARD_ROWS,
    )
    with tempfile.TemporaryDirectory(dir=data.parent) as root:
        started = time.perf_counter()
        summary = extract(RepeatedRecords(data, records), root, experts, options=options)
        seconds = time.perf_counter() - started
    assert summary.computed == (len(experts) + 1) * records
    return peak_bytes() / 1e6, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, nargs="+", default=[2_000, 20_000, 200_000])
    parser.add_argument("--experts", nargs="+", default=["dlinear"])
    parser.add_argument("--batch", type=int, default=64)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        RepeatedRecords(data, 1)
        first = 0.0
        for records in arguments.records:
            with get_context("spawn").Pool(1) as pool:
                task = (data, records, arguments.experts, arguments.batch)
                memory, seconds = pool.apply(peak, task)
            first = first or memory
            print(
                f"{records:,} records: {memory:,.0f} MB, {memory / first:.2f} times that of "
                f"{arguments.records[0]:,} records; {seconds:.0f} s",
                flush=True,
            )
            case = f"{records:,} records"
            report_ratio(case, memory / first, "peak memory", f"{arguments.records[0]:,} records")


if __name__ == "__main__":
    main()
