"""Time until an extraction has taken over the leases of an extraction killed on another host.

    python benchmarks/takeover.py [--experts 5] [--root URL]

The killed extraction runs with another host name, in a namespace created by `unshare` of
util-linux. Its leases therefore expire only after 45 s without renewal, like those of a failed
machine or a recreated container. The time is measured from the start of the second extraction until
it has acquired the leases of all stores and planned the missing rows.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.kills import ConstantDataset, MeanExpert
from pipeline.extract import extract
from pipeline.extraction.engine import Engine
from pipeline.extraction.options import ExtractOptions
from pipeline.extraction.plan import ExtractionPlan
from pipeline.extraction.summary import ExtractionSummary

ROOT = Path(__file__).resolve().parents[1]
HOST = "killed-host"
"""Host name of the extraction that is killed."""


def acquire_leases(root: str, experts: int, then: Callable[[int], None]) -> None:
    """Start an extraction, and call a function with the number of leases instead of computing."""

    def run_plan(plan: ExtractionPlan, summary: ExtractionSummary, engine: Engine) -> None:
        then(sum(planned.lease is not None for planned in plan.stores))

    extract(
        ConstantDataset("takeover"),
        root,
        [MeanExpert(f"expert-{number}", 0.0, -1) for number in range(experts)],
        options=ExtractOptions(device="cpu", threads=1),
        log=lambda line: print(line, file=sys.stderr),
        run_plan=run_plan,
    )


def hold(leases: int) -> None:
    """Print the number of leases, and hold them for an hour or until the process is killed."""
    print(leases, flush=True)
    time.sleep(3600)


def start_on_other_host(root: str, experts: int) -> subprocess.Popen[str]:
    """Start an extraction with the host name `HOST` that acquires and holds its leases."""
    namespaces = ["--uts", *([] if os.getuid() == 0 else ["--map-root-user"])]
    own = [sys.executable, __file__, "--root", root, "--experts", str(experts), "--hold"]
    return subprocess.Popen(
        ["unshare", *namespaces, "sh", "-c", f'hostname {HOST} && exec "$@"', "sh", *own],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--experts", type=int, default=5, help="experts, with one store each")
    parser.add_argument("--root", help="store root; default: a temporary folder")
    parser.add_argument("--hold", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.hold:
        acquire_leases(options.root, options.experts, hold)
        return
    with tempfile.TemporaryDirectory() as temporary:
        root = options.root or temporary
        with start_on_other_host(root, options.experts) as other:
            assert other.stdout is not None
            held = other.stdout.readline().strip()
            other.kill()
        if not held:
            raise SystemExit("The first extraction did not start; check that unshare is permitted.")
        print(f"killed on {HOST}: {held} leases held")
        started = time.monotonic()
        acquire_leases(
            root,
            options.experts,
            lambda leases: print(
                f"{leases} leases taken over in {time.monotonic() - started:.1f} s"
            ),
        )


if __name__ == "__main__":
    main()
