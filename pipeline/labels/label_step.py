"""The label step: read the tables of a data set and write the labels to a Parquet file."""

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enecg.errors import UserError
from pipeline.datasets.base import Dataset
from pipeline.datasets.label_rules import LabelRules
from pipeline.datasets.mimic_tables.dask_scheduler import connect_scheduler
from pipeline.datasets.mimic_tables.labels import HasMimicTables, label_mimic_records
from pipeline.datasets.record_labels import Progress, RecordLabels
from pipeline.labels.dataset_labels import read_dataset_labels
from pipeline.labels.parquet_file import prepare_folder, write_labels
from pipeline.labels.summary import DATA_USE_NOTICE, summarize


@dataclass(frozen=True)
class LabelResult:
    """The result of the label step.

    Attributes:
        path: The label file.
        labels: Contents of the file.
        digest: Label digest; see `parquet_file.content_digest`.
        lines: Markdown for the user: summary, warnings, data use notice, path and digest.
    """

    path: Path
    labels: RecordLabels
    digest: str
    lines: tuple[str, ...]


def make_labels(
    dataset: Dataset,
    out: Path,
    rules: LabelRules | None = None,
    *,
    hosp: Path | None = None,
    scheduler: str | None = None,
    progress: Progress | None = None,
) -> LabelResult:
    """Write the labels of a data set to a Parquet file.

    Args:
        dataset: The data set.
        out: The ``.parquet`` file. An existing file is replaced when the new one is complete.
        rules: Rules for deriving labels from MIMIC's tables; None uses `LabelRules()`.
        hosp: MIMIC-IV's `hosp` folder. Default: `hosp` in the data set's folder.
        scheduler: Dask scheduler for MIMIC's `labevents` table; see `connect_scheduler`. None reads
            the table in this process.
        progress: Called as ``progress(done, total)``, in bytes or records; may never be called.

    Returns:
        The labels and their summary.

    Raises:
        UserError: A table cannot be read, `hosp` is not MIMIC-IV's `hosp` folder or is given for a
            data set other than MIMIC, the scheduler is unreachable, or the file cannot be written.
    """
    rules, out = rules or LabelRules(), out.expanduser()
    warnings = prepare_folder(out)
    with connect_scheduler(scheduler) if scheduler else nullcontext() as client:
        labels = collect_labels(dataset, rules, hosp=hosp, scheduler=client, progress=progress)
    digest = write_labels(
        out,
        labels,
        rules,
        namespace=dataset.namespace,
        index_digest=dataset.index().digest,
    )
    output = (f"Labels: {out}", f"Digest: {digest}")
    return LabelResult(
        out, labels, digest, (*summarize(labels, rules), *warnings, DATA_USE_NOTICE, *output)
    )


def collect_labels(
    dataset: Dataset,
    rules: LabelRules,
    *,
    hosp: Path | None = None,
    scheduler: Any = None,
    progress: Progress | None = None,
) -> RecordLabels:
    """Derive the labels of a data set from its tables.

    Args:
        dataset: The data set.
        rules: Rules for deriving labels from MIMIC's tables; ignored for other data sets.
        hosp: MIMIC-IV's `hosp` folder. Default: `hosp` in the data set's folder.
        scheduler: Dask scheduler for MIMIC's `labevents` table; see `run_on_scheduler`. None reads
            the table in this process.
        progress: Called as ``progress(done, total)``, in bytes or records; may never be called.

    Returns:
        Labels in the order of the data set's index, with a reason for each missing label.

    Raises:
        UserError: A table cannot be read, or `hosp` is not MIMIC-IV's `hosp` folder or is given for
            a data set other than MIMIC.
    """
    if isinstance(dataset, HasMimicTables):
        tables = dataset.tables(hosp)
        return label_mimic_records(tables, rules, scheduler=scheduler, progress=progress)
    if hosp is not None:
        raise UserError(f"{dataset.namespace} has no labels in MIMIC-IV's tables; omit --hosp.")
    return read_dataset_labels(dataset, progress)
