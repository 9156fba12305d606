"""Effects of killing an extraction: rows lost, rows that differ, and rows computed again.

    python benchmarks/kills.py [--kills 100] [--root URL] [--seconds-per-row 0.002]

A child process extracts with two fast experts whose embeddings are known, and is killed (SIGKILL)
at a random time. Then the stores are compared with the known embeddings, and the next child
resumes. When an extraction is complete, the next child extracts another data set. Children are
forked to avoid repeated imports, so the parent must use neither obstore nor threads.
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

from benchmarks._ratios import report_ratio
from enecg.experts import ExpertSpec, Preprocessing
from pipeline.datasets.base import RecordIndex
from pipeline.extract import extract
from pipeline.extraction.options import ExtractOptions
from stores.opening import open_stores
from stores.status import WHOLE

RECORDS = 256
SHARD_ROWS = 32
BATCH = 8
MAX_SECONDS = 1.0
"""Maximum time in seconds until a child is killed."""


class ConstantDataset:
    """A data set in which every sample of a record equals the record's id."""

    def __init__(self, name: str) -> None:
        self.namespace = f"{name}/1"

    def index(self) -> RecordIndex:
        ids = np.arange(100, 100 + RECORDS)
        return RecordIndex(ids, ids)

    def read(self, row: int) -> np.ndarray:
        return np.full((12, 5000), 100 + row, np.float32)

    def read_leads(self, row: int) -> Any:
        raise AssertionError("extraction must not read leads as stored")

    def labels(self) -> Any:
        raise AssertionError("extraction must not read labels")


class MeanExpert:
    """An expert that returns the mean of each lead and writes a byte to a pipe per embedding."""

    def __init__(self, name: str, seconds_per_row: float, pipe: int) -> None:
        self.spec = ExpertSpec(name, 1, {}, Preprocessing(), "mean", 12, "none", "")
        self.seconds_per_row = seconds_per_row
        self.pipe = pipe

    def embed(self, ecg: torch.Tensor) -> torch.Tensor:
        time.sleep(len(ecg) * self.seconds_per_row)
        os.write(self.pipe, b"." * len(ecg))
        return ecg.mean(-1)


def extract_slowly(name: str, root: str, seconds_per_row: float, pipe: int) -> None:
    """Extract in small shards with two experts that wait `seconds_per_row` per record."""
    experts = [MeanExpert(expert, seconds_per_row, pipe) for expert in ("one", "two")]
    settings = ExtractOptions(
        device="cpu", batch_size=BATCH, flush_seconds=0.05, shard_rows=SHARD_ROWS
    )
    extract(ConstantDataset(name), root, experts, options=settings)


@dataclass
class Tally:
    """Counts over all child processes.

    Attributes:
        kills: Killed processes.
        finished: Completed extractions.
        computed: Rows computed, including repeated ones, without the gate's leads.
        needed: Rows of the completed extractions, without the gate's leads.
        lost: Whole rows that are no longer whole after a later child process.
        differing: Whole rows that differ from the known embedding, or from their earlier value.
    """

    kills: int = 0
    finished: int = 0
    computed: int = 0
    needed: int = 0
    lost: int = 0
    differing: int = 0


Rows = dict[tuple[str, int], bytes]
"""Whole rows by expert and record id."""


def whole_rows(name: str, root: str) -> tuple[Rows, int]:
    """Return the whole rows, and the number of them that differ from the known embedding."""
    found = open_stores(root, f"{name}/1")
    if found.errors:
        raise SystemExit(f"A store cannot be opened after a kill: {found.errors[0]}")
    whole: Rows = {}
    wrong = 0
    for store in found.stores:
        rows = np.flatnonzero(store.status() == WHOLE)
        ids = store.record_id[rows]
        values = store.read(rows)
        wrong += int((values != ids[:, None].astype(values.dtype)).any(1).sum())
        expert = store.location.parent.name
        whole |= {
            (expert, record): row.tobytes()
            for record, row in zip(ids.tolist(), values, strict=True)
        }
    return whole, wrong


def fork(work: Callable[[int], None]) -> tuple[int, int]:
    """Call a function in a child process with the write end of a pipe.

    Returns:
        The process id of the child, and the read end of the pipe.
    """
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work(write_end)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(write_end)
    return child, read_end


def wait_for(child: int, pipe: int) -> tuple[int, bytes]:
    """Wait for a child; return the signal that killed it (0 if none) and the written bytes."""
    with os.fdopen(pipe, "rb") as file:
        written = file.read()
    _, outcome = os.waitpid(child, 0)
    if os.WIFEXITED(outcome) and os.WEXITSTATUS(outcome):
        raise SystemExit("A child process failed; see the traceback above.")
    return (os.WTERMSIG(outcome) if os.WIFSIGNALED(outcome) else 0), written


def compare(name: str, root: str, before: Rows, tally: Tally) -> Rows:
    """Count lost rows and differing rows in `tally`, and return the rows that are whole now."""

    def send(pipe: int) -> None:
        with os.fdopen(pipe, "wb") as file:
            pickle.dump(whole_rows(name, root), file)

    _, written = wait_for(*fork(send))
    now, wrong = pickle.loads(written)
    tally.lost += len(before.keys() - now.keys())
    tally.differing += wrong + sum(now.get(key, row) != row for key, row in before.items())
    return now


def run(root: str, kills: int, seconds_per_row: float) -> Tally:
    """Extract data sets in turn, kill extractions at random times, and return the counts."""
    random = np.random.default_rng(0)
    tally = Tally()
    for number in count(1):
        name = f"set{number}"
        rows: Rows = {}
        killed = True
        while killed:
            child, pipe = fork(partial(extract_slowly, name, root, seconds_per_row))
            if tally.kills < kills:
                time.sleep(random.uniform(0.0, MAX_SECONDS))
                os.kill(child, signal.SIGKILL)
            by_signal, computed = wait_for(child, pipe)
            killed = by_signal == signal.SIGKILL
            tally.kills += killed
            tally.computed += len(computed)
            rows = compare(name, root, rows, tally)
        if missing := 3 * RECORDS - len(rows):
            raise SystemExit(f"{name}: the extraction completed, but {missing} rows are missing.")
        tally.finished += 1
        tally.needed += sum(expert != "leads" for expert, _ in rows)
        if tally.kills >= kills:
            break
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100, help="number of kills")
    parser.add_argument("--root", help="store root; default: a temporary folder")
    parser.add_argument(
        "--seconds-per-row",
        type=float,
        default=0.002,
        help="seconds that an expert takes per record",
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        began = time.monotonic()
        tally = run(options.root or temporary, options.kills, options.seconds_per_row)
    repeated = tally.computed - tally.needed
    print(f"kills                  {tally.kills}, in {time.monotonic() - began:.0f} s")
    print(f"extractions completed  {tally.finished}")
    print(f"whole rows lost        {tally.lost}")
    print(f"rows that differ       {tally.differing}")
    print(f"rows computed          {tally.computed}, of which {tally.needed} were needed")
    report_ratio(
        f"{tally.kills} kills", tally.computed / tally.needed, "rows computed", "rows needed"
    )
    if tally.kills:
        per_kill = repeated / tally.kills
        print(f"rows repeated per kill {per_kill:.1f}")
        print(f"seconds lost per kill  {per_kill * options.seconds_per_row:.3f}")


if __name__ == "__main__":
    main()
