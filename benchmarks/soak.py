"""Many small flow runs against one Prefect server: lost runs, lock errors, and memory.

Runs of the flow `extract` are executed in this process, and runs of `verify` by a worker. With
`--postgres URL`, the server uses this database instead of SQLite.
"""

import argparse
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LOCKED = re.compile("database is locked|deadlock|could not serialize", re.I)
SAMPLES = 5
"""Number of memory measurements during the runs."""
RETRIED: list[str] = []
"""Paths of the requests that were retried, because the database was busy (status 503)."""


def memory_of_tree_mb(process: int) -> float:
    """Return the resident memory of a process and its descendants in MB."""
    total = 0
    pending = [process]
    for pid in pending:
        try:
            total += int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1])
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                pending += map(int, children.read_text(encoding="utf-8").split())
        except OSError:
            continue
    return total * os.sysconf("SC_PAGE_SIZE") / 1e6


def request(api: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """Send a request to the Prefect server; retry it while the database is busy."""
    data = None if body is None else json.dumps(body).encode()
    call = urllib.request.Request(f"{api}/{path}", data, {"Content-Type": "application/json"})
    while True:
        try:
            with urllib.request.urlopen(call, timeout=60) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            # Prefect's clients also retry if the database is busy.
            if error.code != 503:
                raise
            RETRIED.append(path)
            time.sleep(1)


def count_states(api: str, name: str) -> Counter[str]:
    """Return the number of runs of a flow by state."""
    states: Counter[str] = Counter()
    while True:
        page = request(
            api,
            "flow_runs/filter",
            {"flows": {"name": {"any_": [name]}}, "limit": 200, "offset": states.total()},
        )
        states.update(run["state"]["type"] for run in page)
        if not page:
            return states


def run_in_process(
    api: str, server: int, parameters: dict[str, Any], runs: int, at_once: int
) -> None:
    """Run `extract` in this process, `at_once` at a time, and print memory and states."""
    from flows.extract import extract

    def run_once(_: int) -> str:
        return extract(**parameters, return_state=True).type.value

    run_once(0)  # warm-up
    started, outcomes = time.monotonic(), Counter[str]()
    for _ in range(SAMPLES):
        count = runs // SAMPLES
        with ThreadPoolExecutor(at_once) as pool:
            outcomes.update(pool.map(run_once, range(count)))
        print(
            f"  after {outcomes.total():4d} runs: server {memory_of_tree_mb(server):5.0f} MB, "
            f"this process {memory_of_tree_mb(os.getpid()):5.0f} MB",
            flush=True,
        )
    seconds = time.monotonic() - started
    print(f"  {outcomes.total()} runs in {seconds:.0f} s; outcomes here: {dict(outcomes)}")
    print(f"  states on the server: {dict(count_states(api, 'extract'))} (with the warm-up run)")


def run_by_worker(
    api: str, server: int, parameters: dict[str, Any], runs: int, folder: Path
) -> None:
    """Run the deployment `verify` with a worker, and print memory, states and lock errors."""
    quiet = {"cwd": ROOT, "stdout": subprocess.DEVNULL, "check": True}
    subprocess.run(["prefect", "work-pool", "create", "lab", "--type", "process"], **quiet)
    subprocess.run(["prefect", "--no-prompt", "deploy", "--name", "verify"], **quiet)
    (deployment,) = request(api, "deployments/filter", {})
    with (folder / "worker.log").open("wb") as log:
        worker = subprocess.Popen(
            ["prefect", "worker", "start", "--pool", "lab"], cwd=ROOT, stdout=log, stderr=log
        )
    body = {"parameters": {"store": parameters["store"], "dataset": None}}
    try:
        for _ in range(runs):
            request(api, f"deployments/{deployment['id']}/create_flow_run", body)
        ended = 0
        for part in range(1, SAMPLES + 1):
            while ended < runs * part // SAMPLES:
                time.sleep(2)
                states = count_states(api, "verify")
                ended = states["COMPLETED"] + states["FAILED"] + states["CRASHED"]
            print(
                f"  after {ended:4d} runs: server {memory_of_tree_mb(server):5.0f} MB, "
                f"worker without its child processes {memory_of_process_mb(worker.pid):5.0f} MB",
                flush=True,
            )
        print(f"  {runs} runs by the worker; states on the server: {dict(states)}")
    finally:
        worker.terminate()
        worker.wait()
    log_text = (folder / "worker.log").read_text(errors="replace", encoding="utf-8")
    print(f"  lock errors in the worker's log: {len(LOCKED.findall(log_text))}")


def memory_of_process_mb(process: int) -> float:
    pages = int(Path(f"/proc/{process}/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=500, help="runs in this process")
    parser.add_argument("--worker-runs", type=int, default=50, help="runs by a worker")
    parser.add_argument("--at-once", type=int, default=4, help="simultaneous runs of this process")
    parser.add_argument("--postgres", help="database URL: postgresql+asyncpg://USER:...@HOST/NAME")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="enecg-soak-") as name:
        folder = Path(name)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        api = f"http://127.0.0.1:{port}/api"
        os.environ |= {
            "PREFECT_HOME": str(folder / "home"),
            "PREFECT_API_URL": api,
            "PREFECT_LOGGING_LEVEL": "WARNING",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        if options.postgres:
            os.environ["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = options.postgres
        with (folder / "server.log").open("wb") as log:
            server = subprocess.Popen(
                ["prefect", "server", "start", "--port", str(port), "--no-ui"],
                stdout=log,
                stderr=log,
            )
        try:
            for _ in range(240):
                try:
                    request(api, "health")
                    break
                except OSError:
                    time.sleep(0.5)
            else:
                raise SystemExit("The Prefect server did not start within two minutes.")
            import enecg

            enecg.synthesize(folder / "data", patients=2, seed=0)
            parameters = {
                "dataset": f"mimic-iv-ecg:{folder / 'data'}",
                "store": str(folder / "stores"),
                "experts": ("measurements",),
                "device": "cpu",
                "wait_minutes": 5.0,
            }
            # Compute all rows first, so that the runs are short.
            settings = enecg.ExtractOptions(device="cpu")
            enecg.extract(
                parameters["dataset"], parameters["store"], ("measurements",), options=settings
            )
            database = "Postgres" if options.postgres else "SQLite"
            print(f"{database}, {options.at_once} simultaneous runs")
            if options.runs:
                run_in_process(api, server.pid, parameters, options.runs, options.at_once)
            if options.worker_runs:
                run_by_worker(api, server.pid, parameters, options.worker_runs, folder)
        finally:
            server.terminate()
            server.wait()
        text = (folder / "server.log").read_text(errors="replace", encoding="utf-8")
        print(f"  retried requests of this benchmark: {len(RETRIED)}")
        print(f"  lock errors in the server's log: {len(LOCKED.findall(text))}")


if __name__ == "__main__":
    main()
