"""The torch device of each worker of an extraction."""

import torch

from pipeline.extraction.options import ExtractOptions


def worker_devices(options: ExtractOptions) -> tuple[str, ...]:
    """Return the device of each worker process on this machine, or of all workers of a scheduler.

    Args:
        options: ``devices`` lists the devices; if it is empty, ``device`` is used. If that is
            ``auto`` and the machine has several GPUs, all of them are used. Several workers share a
            device if there are more workers than devices. With ``scheduler``, ``device`` is used,
            because the workers may have other GPUs than this machine.

    Returns:
        ``workers`` devices, by default each device once. With at most one GPU or with
        ``scheduler``, ``auto`` remains ``auto``.
    """
    if options.devices:
        devices = options.devices
    elif options.scheduler is None and options.device == "auto" and torch.cuda.device_count() > 1:
        devices = tuple(f"cuda:{index}" for index in range(torch.cuda.device_count()))
    else:
        devices = (options.device,)
    workers = options.workers or len(devices)
    return tuple(devices[index % len(devices)] for index in range(workers))
