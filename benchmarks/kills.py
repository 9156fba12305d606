"""What kills cost an extraction: rows lost, rows that differ, and seconds of work done again.

    python benchmarks/kills.py [--kills 100] [--root URL] [--seconds-per-row 0.002]

An extraction by two experts that are quick and known, and the gate's leads, runs in a child that
is killed (SIGKILL) at a random instant; then the stores are opened and judged by the truth, and
the next child goes on. Whenever everything is done, the next kills are of another data set. All
is done in children forked from a process that has everything imported and has used none of it.
"""

import argparse
import os
import pickle
import signal
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

import numpy as np
import torch

from enecg.experts import ExpertSpec, Preprocessing
from pipeline.datasets.base import RecordIndex
from pipeline.extract import extract
from pipeline.extraction.options import ExtractOptions
from stores.opening import open_stores
from stores.status import WHOLE

RECORDS = 256
SHARD_ROWS = 32
BATCH = 8
LONGEST = 1.0
"""Seconds after which a child is killed at the latest."""


class Constant:
    """A data set whose record `id` is the voltage `id` in every lead."""

    def __init__(self, name: str) -> None:
        self.namespace = f"{name}/1"

    def index(self) -> RecordIndex:
        ids = np.arange(100, 100 + RECORDS)
        return RecordIndex(ids, ids)

    def read(self, row: int) -> np.ndarray:
        return np.full((12, 5000), 100 + row, np.float32)

    def labels(self) -> Any:
        raise AssertionError("an extraction reads no label")


class MeanExpert:
    """Each lead's mean, at a given pace; every embedding it makes is a byte in a pipe."""

    def __init__(self, name: str, seconds_per_row: float, counted: int) -> None:
        self.spec = ExpertSpec(name, 1, {}, Preprocessing(), "mean", 12, "none", "")
        self.seconds_per_row = seconds_per_row
        self.counted = counted

    def embed(self, ecg: torch.Tensor) -> torch.Tensor:
        time.sleep(len(ecg) * self.seconds_per_row)
        os.write(self.counted, b"." * len(ecg))
        return ecg.mean(-1)


def extract_slowly(name: str, root: str, seconds_per_row: float, counted: int) -> None:
    experts = [MeanExpert(expert, seconds_per_row, counted) for expert in ("one", "two")]
    options = ExtractOptions(
        device="cpu", batch_size=BATCH, flush_seconds=0.05, shard_rows=SHARD_ROWS
    )
    extract(Constant(name), root, experts, options=options)


@dataclass
class Tally:
    """What was found after the kills so far."""

    kills: int = 0
    finished: int = 0
    computed: int = 0
    needed: int = 0
    lost: int = 0
    differing: int = 0


Rows = dict[tuple[str, int], bytes]
"""What is whole, by expert and record id."""


def whole_rows(name: str, root: str) -> tuple[Rows, int]:
    """The rows that are there, and how many of them are not the truth."""
    found = open_stores(root, f"{name}/1")
    if found.errors:
        raise SystemExit(f"A kill broke a store: {found.errors[0]}")
    there: Rows = {}
    wrong = 0
    for store in found.stores:
        rows = np.flatnonzero(store.status() == WHOLE)
        ids = store.record_id[rows]
        values = store.read(rows)
        wrong += int((values != ids[:, None].astype(values.dtype)).any(1).sum())
        expert = store.location.parent.name
        there |= {
            (expert, one): row.tobytes() for one, row in zip(ids.tolist(), values, strict=True)
        }
    return there, wrong


def fork(work: Callable[[int], None]) -> tuple[int, int]:
    """Do work in a child that is given a pipe; its process id and the pipe's other end."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work(theirs)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(theirs)
    return child, ours


def ended(child: int, pipe: int) -> tuple[int, bytes]:
    """The signal that ended a child, if any, and what it said."""
    with os.fdopen(pipe, "rb") as told:
        said = told.read()
    _, outcome = os.waitpid(child, 0)
    if os.WIFEXITED(outcome) and os.WEXITSTATUS(outcome):
        raise SystemExit("An extraction failed.")
    return (os.WTERMSIG(outcome) if os.WIFSIGNALED(outcome) else 0), said


def judge(name: str, root: str, before: Rows, tally: Tally) -> Rows:
    """Compare what is there with the truth and with what was there before."""

    def tell(pipe: int) -> None:
        with os.fdopen(pipe, "wb") as told:
            pickle.dump(whole_rows(name, root), told)

    _, said = ended(*fork(tell))
    now, wrong = pickle.loads(said)
    tally.lost += len(before.keys() - now.keys())
    tally.differing += wrong + sum(now.get(key, row) != row for key, row in before.items())
    return now


def run(root: str, kills: int, seconds_per_row: float) -> Tally:
    chance = np.random.default_rng(0)
    tally = Tally()
    for number in count(1):
        name = f"set{number}"
        there: Rows = {}
        killed = True
        while killed:
            child, pipe = fork(partial(extract_slowly, name, root, seconds_per_row))
            if tally.kills < kills:
                time.sleep(chance.uniform(0.0, LONGEST))
                os.kill(child, signal.SIGKILL)
            by, counted = ended(child, pipe)
            killed = by == signal.SIGKILL
            tally.kills += killed
            tally.computed += len(counted)
            there = judge(name, root, there, tally)
        if len(there) != 3 * RECORDS:
            raise SystemExit(f"{name} is done, and {3 * RECORDS - len(there)} rows are not there.")
        tally.finished += 1
        tally.needed += sum(expert != "leads" for expert, _ in there)
        if tally.kills >= kills:
            break
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--root", help="where the stores are made; else a temporary folder")
    parser.add_argument("--seconds-per-row", type=float, default=0.002)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        began = time.monotonic()
        tally = run(given.root or temporary, given.kills, given.seconds_per_row)
    again = tally.computed - tally.needed
    print(f"kills                  {tally.kills}, in {time.monotonic() - began:.0f} s")
    print(f"extractions completed  {tally.finished}")
    print(f"whole rows lost        {tally.lost}")
    print(f"rows differing         {tally.differing}")
    print(f"rows computed          {tally.computed}, where {tally.needed} were needed")
    print(f"rows lost per kill     {again / tally.kills:.1f} that were in work, computed again")
    print(f"seconds lost per kill  {again / tally.kills * given.seconds_per_row:.3f}")


if __name__ == "__main__":
    main()
