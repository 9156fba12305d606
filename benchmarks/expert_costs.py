"""Operations, bytes and time per record of each expert, and the share of the matmul peak.

    python benchmarks/expert_costs.py [--experts dlinear timesnet moment tempo ecg-fm]
    python benchmarks/expert_costs.py --device cuda --precision bfloat16 --batch 64

The inputs are synthetic ECGs instead of noise, because the time of TimesNet depends on the periods
that it finds.
Floating-point operations are those of matrix products, convolutions and attention, as counted by
`torch.utils.flop_counter`; a multiply-add counts as two. The peak is the rate of a large matrix
product, measured alternately with the expert on the same device. On a CPU, the benchmark measures
the CPU time of one thread, because wall-clock time depends more on other processes. Weights are
random, with the published architecture. The profile lists the operators with the largest shares of
the time.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from benchmarks._ratios import report_ratio
from enecg.experts import Expert, load_expert
from pipeline.datasets.mimic_iv_ecg import MimicIvEcg
from pipeline.extraction.options import DEFAULT_EXPERTS
from pipeline.extraction.request import resolve_device
from pipeline.synthetic.synthesize import synthesize

RECORDS = 800_035
"""Number of records of MIMIC-IV-ECG."""
SHOWN = 4
"""Number of operators shown from the profile."""


def synthetic_ecgs(count: int, device: str) -> torch.Tensor:
    """Return synthetic ECGs in mV, of shape (count, 12, 5000)."""
    with tempfile.TemporaryDirectory() as folder:
        synthesize(Path(folder) / "data", patients=count, seed=0, spoiled_fraction=0)
        dataset = MimicIvEcg(Path(folder) / "data")
        return torch.from_numpy(np.stack([dataset.read(row) for row in range(count)])).to(device)


def seconds_of(work: Callable[[], object], device: str) -> float:
    """Return the seconds that a call takes: wall-clock time for a GPU, CPU time for a CPU."""
    if torch.device(device).type != "cuda":
        started = time.process_time()
        work()
        return time.process_time() - started
    started = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - started


def profile_shares(expert: Expert, ecg: torch.Tensor) -> str:
    """Return the operators with the largest shares of the time, and these shares in percent."""
    is_gpu = ecg.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if is_gpu else [])]
    with profile(activities=activities) as profiled:
        expert.embed(ecg)
    field = "self_device_time_total" if is_gpu else "self_cpu_time_total"
    events = sorted(profiled.key_averages(), key=lambda event: -getattr(event, field))
    total = sum(getattr(event, field) for event in events) or 1
    return ", ".join(
        f"{event.key.removeprefix('aten::')} {100 * getattr(event, field) / total:.0f} %"
        for event in events[:SHOWN]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--experts", nargs="+", default=[*DEFAULT_EXPERTS])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument(
        "--records", type=int, default=16, help="number of ECGs; at least --batch are used"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="float32")
    parser.add_argument(
        "--matmul",
        type=int,
        default=0,
        help="rows and columns of the matrices for the peak; 0: 8192 on a GPU, else 1536",
    )
    arguments = parser.parse_args()
    device = resolve_device(arguments.device)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    is_gpu = torch.device(device).type == "cuda"
    torch.set_num_threads(1)
    size = arguments.matmul or (8192 if is_gpu else 1536)
    dtype = getattr(torch, arguments.precision)
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    print(
        f"{device}, batches of {arguments.batch}, {arguments.precision}"
        + ("" if is_gpu else ", per CPU second of one thread")
        + ("" if is_gpu or torch.cuda.is_available() else "; no GPU available")
    )
    print(
        "| expert | parameters | GFLOP per record | kB stored per record | records/s | GFLOP/s "
        "| share of the matmul peak | hours for 800,035 records | profile |"
        "\n|---|--:|--:|--:|--:|--:|--:|--:|---|"
    )
    ecg = synthetic_ecgs(max(arguments.records, arguments.batch), device)
    for name in arguments.experts:
        expert = load_expert(name, "random:0", precision=arguments.precision)
        parameters = 0
        if isinstance(expert, torch.nn.Module):
            expert.to(device)
            parameters = sum(parameter.numel() for parameter in expert.parameters())

        def embed(ecg: torch.Tensor, expert: Expert = expert) -> None:
            for part in ecg.split(arguments.batch):
                expert.embed(part)

        with torch.inference_mode():
            with FlopCounterMode(display=False) as counter:
                embed(ecg)
            flops = counter.get_total_flops() / len(ecg)
            peaks, rates = [], []
            for _ in range(arguments.rounds):
                peaks.append(2 * size**3 / seconds_of(lambda: left @ right, device))
                rates.append(len(ecg) / seconds_of(lambda: embed(ecg), device))
            operators = profile_shares(expert, ecg[: arguments.batch])
        rate, peak = statistics.median(rates), statistics.median(peaks)
        share = flops * rate / peak
        print(
            f"| {name} | {parameters:,} | {flops / 1e9:.3g} "
            f"| {2 * expert.spec.embedding_size / 1e3:.1f} | {rate:.3g} "
            f"| {flops * rate / 1e9:.3g} | {share:.2f} | {RECORDS / rate / 3600:.3g} "
            f"| {operators} |",
            flush=True,
        )
        report_ratio(name, share, "floating-point operations/s", "matrix product")


if __name__ == "__main__":
    main()
