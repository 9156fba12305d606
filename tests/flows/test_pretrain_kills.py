"""A pretraining run whose process is killed resumes with the same weights, bit for bit."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

pytestmark = pytest.mark.slow

SIZES = "model_size=4,feed_forward_size=4,layers=1,kernels=1,top_k=1,channels=12"
TIMEOUT_SECONDS = 120


def start(dataset: str, out: Path) -> "subprocess.Popen[bytes]":
    """Start `enecg pretrain` with a checkpoint after every batch."""
    command = Path(sys.executable).parent / "enecg"
    if not command.exists():
        pytest.skip(f"{command} does not exist; install the project in this environment")
    arguments = [
        *("pretrain", "--dataset", dataset, "--out", str(out), "--size", SIZES),
        *("--epochs", "6", "--repeats", "1", "--batch-size", "4", "--device", "cpu"),
        *("--threads", "1", "--checkpoint-minutes", "0"),
    ]
    return subprocess.Popen(
        [str(command), *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def kill_after_checkpoints(process: "subprocess.Popen[bytes]", state: Path, count: int) -> None:
    """Kill a process when the state has been replaced this many times."""
    seen = {state.stat().st_mtime_ns} if state.exists() else set()
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while len(seen) < count + 1:
        assert process.poll() is None, "the pretraining run ended before it was killed"
        assert time.monotonic() < deadline
        if state.exists():
            seen.add(state.stat().st_mtime_ns)
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def test_killed_pretraining_run_resumes_with_the_same_weights(synthetic_dir: Path, tmp_path: Path):
    dataset = f"mimic-iv-ecg:{synthetic_dir}"
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start(dataset, whole).wait(TIMEOUT_SECONDS) == 0
    for checkpoints in (3, 17, 8):
        kill_after_checkpoints(start(dataset, killed), killed / "state.pt", checkpoints)
        assert not (killed / "timesnet.safetensors").exists()
    assert start(dataset, killed).wait(TIMEOUT_SECONDS) == 0
    weights, resumed = (load_file(folder / "timesnet.safetensors") for folder in (whole, killed))
    assert weights.keys() == resumed.keys()
    assert all(torch.equal(weights[name], resumed[name]) for name in weights)
    for name in ("curve.csv", "unreadable.csv", "timesnet.patients.txt"):
        assert (whole / name).read_text() == (killed / name).read_text()
    # Unfinished files of the killed processes are replaced or removed.
    assert {file.name for file in killed.iterdir()} == {file.name for file in whole.iterdir()}
