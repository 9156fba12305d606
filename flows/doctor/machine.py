"""Checks of the GPU, the CPU and the memory."""

import os
import shutil
from collections.abc import Iterator

import psutil
import torch

from flows.doctor.finding import Finding
from flows.tables import format_bytes

MIN_MEMORY_BYTES = 4e9
"""Minimum free memory of a GPU and of the machine; with less, large experts may not fit."""


def check_torch() -> Iterator[Finding]:
    """Report the build of torch, and the GPUs with their free memory."""
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU build"
    yield Finding("torch", "ok", f"{torch.__version__}, {build}")
    if not torch.cuda.is_available():
        if shutil.which("nvidia-smi"):
            yield Finding(
                "GPU",
                "warning",
                "nvidia-smi is installed, but torch finds no GPU",
                "install a CUDA build of torch that the driver supports, see nvidia-smi",
            )
        else:
            yield Finding("GPU", "ok", "none; experts run on the CPU")
        return
    for number in range(torch.cuda.device_count()):
        name = f"GPU cuda:{number}"
        free, total = torch.cuda.mem_get_info(number)
        text = (
            f"{torch.cuda.get_device_name(number)}, {format_bytes(free)} of {format_bytes(total)} "
            "free"
        )
        if free < MIN_MEMORY_BYTES:
            remedy = "stop the other processes on this GPU, see nvidia-smi"
            yield Finding(name, "warning", text, remedy)
        else:
            yield Finding(name, "ok", text)


def check_cpu() -> Iterator[Finding]:
    """Report cores, threads, load and memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = os.getloadavg()[0]
    text = f"{cores} cores, torch threads: {torch.get_num_threads()}, load: {load:.1f}"
    if cores is not None and load >= cores:
        remedy = "wait for other processes to finish; until then, extractions are slower"
        yield Finding("CPU", "warning", text, remedy)
    else:
        yield Finding("CPU", "ok", text)
    memory = psutil.virtual_memory()
    text = f"{format_bytes(memory.available)} of {format_bytes(memory.total)} available"
    if memory.available < MIN_MEMORY_BYTES:
        remedy = "stop other processes, use smaller experts, or lower --memory-limit of enecg train"
        yield Finding("memory", "warning", text, remedy)
    else:
        yield Finding("memory", "ok", text)
