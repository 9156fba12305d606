"""What kills cost an extraction: rows lost, rows that differ, and seconds of work done again.

    python benchmarks/kills.py [--kills 100] [--root DIRECTORY] [--seconds-per-row 0.002]

An extraction by two experts that are quick and known, and the gate's leads, runs in a child that
is killed (SIGKILL) at a random instant; then the stores are opened and judged by the truth, and
the next child goes on. Whenever everything is done, the next kills are of another data set. The
children are forked from a process that has everything imported, so the root is a directory.
"""

import argparse
import os
import signal
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from enecg.experts import ExpertSpec
from pipeline.datasets.base import RecordIndex
from pipeline.extract import extract_range
from pipeline.plan import plan_extraction, resolve
from pipeline.summary import Summary
from stores.embeddings import WHOLE
from stores.opening import find_stores

RECORDS = 256
SHARD_ROWS = 32
BATCH = 8


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

    def __init__(self, name: str, seconds_per_row: float, counted: int | None = None) -> None:
        self.spec = ExpertSpec(name, 1, {}, "none", "mean", 12, "none", "")
        self.seconds_per_row = seconds_per_row
        self.counted = counted

    def embed(self, ecg: torch.Tensor) -> torch.Tensor:
        time.sleep(len(ecg) * self.seconds_per_row)
        if self.counted is not None:
            os.write(self.counted, b"." * len(ecg))
        return ecg.mean(-1)


def extract(name: str, root: Path, seconds_per_row: float, counted: int | None = None) -> None:
    experts = [MeanExpert(expert, seconds_per_row, counted) for expert in ("one", "two")]
    with plan_extraction(
        resolve(Constant(name), root, experts, device="cpu"), shard_rows=SHARD_ROWS
    ) as plan:
        for shards in plan.ranges(4):
            extract_range(plan, shards, Summary(), batch_size=BATCH, flush_seconds=0.05)


@dataclass
class Tally:
    """What was found after the kills so far."""

    kills: int = 0
    finished: int = 0
    computed: int = 0
    needed: int = 0
    lost: int = 0
    differing: int = 0


def judge(root: Path, name: str, before: dict[tuple[str, int], bytes], tally: Tally) -> None:
    """Open what is there, and compare it with the truth and with what was there `before`."""
    found = find_stores(root, f"{name}/1")
    if found.wrong:
        raise SystemExit(f"A kill broke a store: {found.wrong[0]}")
    now: dict[tuple[str, int], bytes] = {}
    for store in found.stores:
        rows = np.flatnonzero(store.status() == WHOLE)
        ids = store.record_id[rows]
        values = store.read(rows)
        right = ids[:, None].astype(values.dtype)
        tally.differing += int((values != right).any(1).sum())
        expert = store.location.parent.name
        now |= {(expert, one): row.tobytes() for one, row in zip(ids.tolist(), values, strict=True)}
    tally.lost += len(before.keys() - now.keys())
    tally.differing += sum(now[key] != row for key, row in before.items() if key in now)
    before.clear()
    before.update(now)


def embedded(there: dict[tuple[str, int], bytes]) -> int:
    """Rows of the counted experts."""
    return sum(expert != "leads" for expert, _ in there)


def run(root: Path, kills: int, seconds_per_row: float) -> Tally:
    chance = np.random.default_rng(0)
    tally = Tally()
    sets = 0
    while tally.kills < kills:
        sets += 1
        name = f"set{sets}"
        there: dict[tuple[str, int], bytes] = {}
        done = False
        while not done:
            counter, counted = os.pipe()
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    extract(name, root, seconds_per_row, counted)
                    status = 0
                finally:
                    os._exit(status)
            os.close(counted)
            if tally.kills < kills:
                time.sleep(chance.uniform(0.0, 0.5))
                os.kill(child, signal.SIGKILL)
            _, outcome = os.waitpid(child, 0)
            with os.fdopen(counter, "rb") as told:
                tally.computed += len(told.read())
            if os.WIFEXITED(outcome):
                if os.WEXITSTATUS(outcome):
                    raise SystemExit("An extraction failed.")
                done = True
                tally.finished += 1
            else:
                tally.kills += 1
            judge(root, name, there, tally)
        if len(there) != 3 * RECORDS:
            raise SystemExit(f"{name} is done, and {3 * RECORDS - len(there)} rows are not there.")
        tally.needed += embedded(there)
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--root", type=Path, help="where the stores are made; a temporary one")
    parser.add_argument("--seconds-per-row", type=float, default=0.002)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        began = time.monotonic()
        tally = run(given.root or Path(temporary), given.kills, given.seconds_per_row)
    again = tally.computed - tally.needed
    print(f"kills                  {tally.kills}, in {time.monotonic() - began:.0f} s")
    print(f"extractions completed  {tally.finished}")
    print(f"rows lost              {tally.lost}")
    print(f"rows differing         {tally.differing}")
    print(f"rows computed again    {again} of {tally.needed}: {again / tally.kills:.1f} a kill")
    print(f"seconds lost per kill  {again / tally.kills * given.seconds_per_row:.3f}")


if __name__ == "__main__":
    main()
