"""The torch device of each worker of an extraction."""

import torch

from pipeline.extraction.options import ExtractOptions


def worker_devices(options: ExtractOptions) -> tuple[str, ...]:
    """Return the device of each worker process on this machine.

    Args:
        options: ``devices`` lists the devices; if it is empty, ``device`` is used, where ``auto``
            selects all GPUs of the machine. Several workers share a device if there are more
            workers than devices.

    Returns:
        One device per worker: ``workers`` of them, by default one per device.
    """
    if options.devices:
        devices = options.devices
    elif options.device == "auto" and torch.cuda.device_count() > 1:
        devices = tuple(f"cuda:{index}" for index in range(torch.cuda.device_count()))
    else:
        devices = (options.device,)
    workers = options.workers or len(devices)
    return tuple(devices[index % len(devices)] for index in range(workers))
