"""The label step: the tables read once, the labels in one file, and what came of it."""

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from pipeline.datasets.base import Dataset
from pipeline.labels.label_table import prepare, write_labels
from pipeline.labels.labelled import Labels, Progress, label
from pipeline.labels.rules import LabelRules
from pipeline.labels.spread import scheduler_at
from pipeline.labels.summary import AGREEMENT, summary


@dataclass(frozen=True)
class Made:
    """A file of labels, what is in it, its digest, and the `lines` to tell of it."""

    path: Path
    labels: Labels
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
) -> Made:
    """Label a data set's records into the Parquet file `out`.

    `hosp`: MIMIC-IV's folder of tables where it is not linked into the data set; `scheduler`: of
    Dask, as `scheduler_at` takes it. Raises UserError for a table that cannot be read and a file
    that cannot be written; an earlier file is then as it was.
    """
    rules, out = rules or LabelRules(), out.expanduser()
    warnings = prepare(out)
    with scheduler_at(scheduler) if scheduler else nullcontext() as at:
        labels = label(dataset, rules, hosp=hosp, scheduler=at, progress=progress)
    digest = write_labels(
        out,
        labels,
        rules,
        namespace=dataset.namespace,
        index_digest=dataset.index().digest,
    )
    ends = (f"Labels: {out}", f"Digest: {digest}")
    return Made(out, labels, digest, (*summary(labels, rules), *warnings, AGREEMENT, *ends))
