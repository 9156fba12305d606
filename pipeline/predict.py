"""Predict with the experts, heads and gate of a run, from waveforms."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from enecg.errors import UserError
from pipeline.datasets.base import Dataset, decoding_of
from pipeline.datasets.registry import resolve_dataset
from pipeline.prediction.inputs import DatasetRecords, DecodedEcg, EcgSource, WfdbPaths
from pipeline.prediction.live_run import LiveRun, load_run
from pipeline.prediction.predicted import EcgPrediction, RefusedEcg
from pipeline.waveforms.errors import UnreadableRecord

Progress = Callable[[int, int], None]
"""Called as ``progress(done, total)`` with record counts."""

BATCH_SIZE = 8
"""Number of records per batch on a CPU, where larger batches are not faster."""
GPU_BATCH_SIZE = 64
"""Number of records per batch on a GPU."""


def predict(
    run: str | Path | LiveRun,
    records: Iterable[str | int | Path] = (),
    *,
    dataset: str | Dataset | None = None,
    record_file: str | Path | None = None,
    limit: int | None = None,
    tasks: Sequence[str] = (),
    coverage: float = 0.9,
    progress: Progress | None = None,
) -> Iterator[EcgPrediction | RefusedEcg]:
    """Predict ECGs with the experts, heads and gate of a run.

    The experts run on the waveforms; no store is needed. Records are decoded with the options of
    the run's training records.

    Args:
        run: Run folder or loaded run.
        records: Paths of WFDB records or directories; with `dataset`, record ids.
        dataset: A data set, or its spec such as ``"ludb:/data/ludb"``. Default: `records` are
            paths.
        record_file: With `dataset` and instead of `records`, a file of record ids, as read by
            `read_record_ids`. Without both, all records of the data set are predicted.
        limit: With `dataset`, maximum number of records.
        tasks: Names of the tasks; all by default.
        coverage: Coverage of intervals and prediction sets, above 0 and below 1.
        progress: Called with record counts before the first and after every batch.

    Returns:
        An iterator over predictions, or refusals with a reason, in the order of the records. It
        raises UserError if an expert is unavailable or the device is out of memory.

    Raises:
        UserError: The run, the data set or an argument is invalid.
    """
    live = run if isinstance(run, LiveRun) else load_run(run)
    live.check(coverage, tasks)
    source = open_source(live, records, dataset, record_file, limit)
    return predict_source(live, source, progress, coverage=coverage, tasks=tasks)


def open_source(
    live: LiveRun,
    records: Iterable[str | int | Path],
    dataset: str | Dataset | None,
    record_file: str | Path | None,
    limit: int | None,
) -> EcgSource:
    """Find the ECGs to make predictions for; see `predict`.

    Args:
        live: The run, which determines the decoding options.
        records: Paths, or record ids of the data set.
        dataset: A data set or its spec; None for paths.
        record_file: File of record ids of the data set.
        limit: Maximum number of records of the data set.

    Returns:
        The ECGs.

    Raises:
        UserError: Records or the data set are missing or invalid, or the arguments conflict.
    """
    records = list(records)
    if dataset is not None:
        if records and record_file is not None:
            raise UserError("Record ids and --records are given; omit one of them.")
        source = resolve_dataset(dataset, live.decoding)
        ids = [record if isinstance(record, int) else str(record) for record in records]
        return DatasetRecords.select(
            source, decoding_of(source), ids=ids, records_file=record_file, limit=limit
        )
    if record_file is not None or limit is not None:
        raise UserError("--records and --limit select records of a data set; add --dataset.")
    if not records:
        raise UserError(
            "No record is given; pass WFDB records, a folder, - for a list on standard input, "
            "or --dataset."
        )
    paths = [Path(str(record)).expanduser() for record in records]
    return WfdbPaths.find(paths, live.decoding)


def predict_source(
    live: LiveRun, source: EcgSource, progress: Progress | None, **options: Any
) -> Iterator[EcgPrediction | RefusedEcg]:
    """Predict the ECGs of a source batch by batch.

    Args:
        live: The run.
        source: The ECGs.
        progress: Called with record counts before the first and after every batch.
        **options: `coverage` and `tasks`, as for `LiveRun.predict_batch`.

    Yields:
        Predictions and refusals in the order of the source.

    Raises:
        UserError: An expert is unavailable, an option is invalid, or the device is out of memory.
    """
    records = source.records
    total = len(records)
    size = BATCH_SIZE if live.device == "cpu" else GPU_BATCH_SIZE

    def read(position: int) -> DecodedEcg | UnreadableRecord:
        try:
            return source.read(position)
        except UnreadableRecord as error:
            return error

    if progress is not None:
        progress(0, total)
    with ThreadPoolExecutor(max_workers=source.threads) as pool:
        for start in range(0, total, size):
            positions = range(start, min(start + size, total))
            results = list(pool.map(read, positions))
            yield from _predict_batch(live, results, records[start : positions.stop], options)
            if progress is not None:
                progress(positions.stop, total)


def _predict_batch(
    live: LiveRun,
    results: Sequence[DecodedEcg | UnreadableRecord],
    records: Sequence[int | str],
    options: Mapping[str, Any],
) -> Iterator[EcgPrediction | RefusedEcg]:
    usable = [
        (record, result)
        for record, result in zip(records, results, strict=True)
        if isinstance(result, DecodedEcg)
    ]
    predictions: Iterator[EcgPrediction | RefusedEcg] = iter(())
    if usable:
        ecg = torch.from_numpy(np.stack([result.ecg for _, result in usable]))
        names = [record for record, _ in usable]
        predictions = iter(live.predict_batch(ecg, names, **options))
    for record, result in zip(records, results, strict=True):
        if isinstance(result, UnreadableRecord):
            yield RefusedEcg(record, result.reason, result.detail, live.notice)
            continue
        prediction = next(predictions)
        if isinstance(prediction, EcgPrediction):
            warnings = (*result.findings, *prediction.warnings)
            prediction = replace(prediction, warnings=warnings)
        yield prediction
