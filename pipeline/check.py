"""A data set's signals, looked through record by record: how many have what wrong with them."""

import csv
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from enecg.errors import UserError
from pipeline.datasets.base import BadRecord, Dataset
from pipeline.quality import Finding, examine

EXAMPLES = 5
"""Record ids kept of each reason."""

Progress = Callable[[int, int], None]

_AT_ONCE = 256
"""Records in the threads' hands together."""

_COLUMNS = ("record_id", "patient_id", "reason", "leads", "missing_share", "detail")


@dataclass
class Check:
    """What was found so far. Memory does not grow with the number of records.

    `records` looked at; `unusable`: those that no embedding can be had of; `wrong`: those with
    any finding, these among them; by reason `counts`, the first few ids, and by lead.
    """

    records: int = 0
    unusable: int = 0
    wrong: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    leads: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, record_id: object, findings: Sequence[Finding], usable: bool) -> None:
        """Count a record."""
        self.records += 1
        self.unusable += not usable
        self.wrong += bool(findings)
        for one in findings:
            self.counts[one.reason] += 1
            self.leads.setdefault(one.reason, Counter()).update(one.leads)
            known = self.examples.setdefault(one.reason, [])
            if len(known) < EXAMPLES:
                known.append(str(record_id))
