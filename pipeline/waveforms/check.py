"""A data set's signals, looked through record by record: how many have what wrong with them."""

import csv
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Int

from enecg.errors import UserError
from pipeline.datasets.base import Dataset
from pipeline.waveforms.errors import UnreadableRecord
from pipeline.waveforms.quality import FINDINGS, Finding, examine

EXAMPLES = 3
"""Record ids kept of each reason."""

COLUMNS = ("record_id", "patient_id", "findings", "missing_share", "detail")
"""Of the table of wrong records; `findings` separated by semicolons, each with its leads."""

_AHEAD = 64
"""Records read ahead of the one that is counted."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Examined:
    """A record's findings, and the share of its samples that are missing (NaN: not readable)."""

    record_id: object
    patient_id: object
    findings: tuple[Finding, ...]
    missing_share: float = np.nan
    detail: str = ""


@dataclass
class Check:
    """What was found so far; memory does not grow with the number of records.

    `unusable`: records that no embedding can be had of; `wrong`: those with any finding, these
    among them; `counted`: those with a finding that was asked to be counted. By reason: `counts`
    of records, the first few `examples`, and `leads`.
    """

    records: int = 0
    unusable: int = 0
    wrong: int = 0
    counted: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    leads: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, one: Examined, counted: Collection[str]) -> None:
        """Count a record; `counted`: as for `check`."""
        self.records += 1
        self.wrong += bool(one.findings)
        self.counted += any(each.reason in counted or not counted for each in one.findings)
        self.unusable += any(each.reason not in FINDINGS for each in one.findings)
        for each in one.findings:
            self.counts[each.reason] += 1
            self.leads.setdefault(each.reason, Counter()).update(each.leads)
            known = self.examples.setdefault(each.reason, [])
            if len(known) < EXAMPLES:
                known.append(str(one.record_id))

    def percent(self, count: int) -> float:
        """How much of all records these are."""
        return 100 * count / max(self.records, 1)


def check(
    dataset: Dataset,
    rows: Int[np.ndarray, " pick"],
    *,
    threads: int = 1,
    out: Path | None = None,
    counted: Collection[str] = (),
    progress: Progress | None = None,
) -> Check:
    """Examine the records at these rows of the index; into `out` a CSV row for each wrong one.

    `counted`: the findings of which `Check.counted` tells; none named: all.
    Raises UserError where `out` cannot be written.
    """
    found = Check()
    with _table(out) as write:
        for one in _examined(dataset, rows, threads):
            found.add(one, counted)
            if one.findings:
                write(one)
            if progress is not None:
                progress(found.records, len(rows))
    return found


def _examined(dataset: Dataset, rows: Int[np.ndarray, " pick"], threads: int) -> Iterator[Examined]:
    """Every record in the order of `rows`, a few read ahead by threads."""
    index = dataset.index()

    def one(row: int) -> Examined:
        ids = (index.record_id[row], index.patient_id[row])
        try:
            leads = dataset.leads(row)
        except UnreadableRecord as bad:
            return Examined(*ids, (Finding(bad.reason),), detail=bad.detail)
        share = float(np.isnan(leads.mv).mean())
        return Examined(*ids, examine(leads), share)

    pending: deque[Future[Examined]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for row in rows.tolist():
            pending.append(pool.submit(one, row))
            if len(pending) >= _AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


@contextmanager
def _table(out: Path | None) -> Iterator[Callable[[Examined], None]]:
    """What adds a record to the CSV file `out`, or to none."""
    if out is None:
        yield lambda one: None
        return
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        file = out.open("w", newline="")
    except OSError as error:
        raise UserError(
            f"{out} cannot be written ({error.strerror}); give another --out."
        ) from error
    with file:
        rows = csv.writer(file)
        rows.writerow(COLUMNS)

        def write(one: Examined) -> None:
            findings = "; ".join(map(str, one.findings))
            missing = "" if np.isnan(one.missing_share) else f"{one.missing_share:.4g}"
            rows.writerow((one.record_id, one.patient_id, findings, missing, one.detail))

        yield write
