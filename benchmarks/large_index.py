"""Time and memory to plan and estimate a large extraction, and to count the rows of its stores.

    python benchmarks/large_index.py [--records 11000000] [--folder /tmp]

The data set has an index of millions of records, but no ECGs. Five experts and the gate's leads
have one store each. The first plan creates the stores; the second plan opens them, like a rerun.
For comparison, `numpy.sort` of the record ids is measured in the same run. Each step runs in its
own process, so that its peak memory can be measured; the peak includes imports and the index. Times
exclude imports, the construction of the index, and `resolve_request`.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks._memory import peak_bytes
from benchmarks._ratios import report_ratio
from enecg.experts import ExpertSpec, Preprocessing, get_definition
from pipeline.datasets.base import RecordIndex
from pipeline.extraction.estimate import estimate_extraction
from pipeline.extraction.options import DEFAULT_EXPERTS, ExtractOptions
from pipeline.extraction.plan import plan_extraction
from pipeline.extraction.request import ExtractionRequest, resolve_request
from stores.opening import count_rows, open_stores


class IndexOnly:
    """Data set with an index and no ECGs."""

    namespace = "index-only/1"

    def __init__(self, records: int) -> None:
        # As in MIMIC-IV-ECG, ids are not in order and a patient has several records.
        ids = 40_000_000 + np.random.default_rng(0).permutation(records)
        self._index = RecordIndex(ids, ids // 5)

    def index(self) -> RecordIndex:
        return self._index

    def read(self, row: int) -> Any:
        raise NotImplementedError

    def read_leads(self, row: int) -> Any:
        raise NotImplementedError

    def labels(self) -> Any:
        raise NotImplementedError


class NoModel:
    """Expert with a spec and no model."""

    def __init__(self, name: str, features: int) -> None:
        self.spec = ExpertSpec(name, 1, {}, Preprocessing(), "none", features, "none", "")

    def embed(self, ecg: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError


def _request(records: int, folder: str) -> ExtractionRequest:
    experts = [NoModel(name, get_definition(name).embedding_size) for name in DEFAULT_EXPERTS]
    return resolve_request(IndexOnly(records), folder, experts, ExtractOptions(device="cpu"))


def _sort(request: ExtractionRequest, folder: str) -> str:
    return f"{len(np.sort(request.record_ids)):,} ids"


def _plan(request: ExtractionRequest, folder: str) -> str:
    with plan_extraction(request) as plan:
        steps = plan.ranges(96)
        return f"{plan.total_rows:,} rows to compute in {len(steps)} steps"


def _estimate(request: ExtractionRequest, folder: str) -> str:
    estimates = estimate_extraction(request)
    return f"{sum(estimate.bytes for estimate in estimates) / 1e9:,.0f} GB to write"


def _count(request: ExtractionRequest, folder: str) -> str:
    counted = [count_rows(store) for store in open_stores(folder).stores]
    return f"{sum(counts.rows for counts in counted):,} rows in {len(counted)} stores"


STEPS: dict[str, Callable[[ExtractionRequest, str], str]] = {
    "numpy.sort of the ids": _sort,
    "plan, which creates the stores": _plan,
    "plan with existing stores": _plan,
    "estimate (--dry-run)": _estimate,
    "count rows (store ls)": _count,
}


def _measure(name: str, records: int, folder: str) -> tuple[float, float, float, str]:
    """Return wall-clock and CPU seconds of a step, the peak memory in GB, and the step's result."""
    # Warm up, because some modules are imported on first use.
    with tempfile.TemporaryDirectory() as small:
        request = _request(1000, small)
        _plan(request, small)
        STEPS[name](request, small)
    request = _request(records, folder)
    wall, cpu = time.perf_counter(), time.process_time()
    result = STEPS[name](request, folder)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return wall, cpu, peak_bytes() / 1e9, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=11_000_000)
    parser.add_argument(
        "--folder",
        type=Path,
        help="folder for the temporary stores; default: the system's temporary folder",
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        reference = None
        for name in STEPS:
            with get_context("spawn").Pool(1) as pool:
                wall, cpu, peak, result = pool.apply(_measure, (name, arguments.records, folder))
            reference = reference or cpu
            print(
                f"{name}: {wall:.1f} s, {cpu:.1f} s of CPU time ({cpu / reference:.1f} times "
                f"numpy.sort), peak memory {peak:.2f} GB; {result}",
                flush=True,
            )
            report_ratio(name, cpu / reference, "CPU time", "numpy.sort of the ids")
        files = [path for path in Path(folder).rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files)
        print(f"{len(files)} files, {size / 1e6:,.0f} MB in stores without embeddings")


if __name__ == "__main__":
    main()
