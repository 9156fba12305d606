"""The number of records per batch, fixed or adapted to the speed and memory of the device."""

import logging

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from enecg.errors import UserError
from enecg.experts import Expert

logger = logging.getLogger(__name__)

FIRST = 4
"""Number of records in the first batch."""
GROWTH = 4
"""Maximum ratio of the size of a batch to that of the previous one."""
SECONDS = 2.0
"""Target duration of a batch. Ctrl-C and progress reports wait for the end of the batch."""
MAXIMUM = {"cpu": 64, "cuda": 256}
"""Maximum number of records per batch by type of device; 64 for other types."""


class BatchSize:
    """The number of records per batch.

    Args:
        fixed: The number; None adapts it so that a batch takes about `SECONDS`.
        device: Torch device.

    Attributes:
        size: Number of records in the next batch.
        maximum: Largest size. If the device is out of memory, it becomes half of the failed size.
    """

    def __init__(self, fixed: int | None, device: str) -> None:
        self.maximum = fixed or MAXIMUM.get(torch.device(device).type, 64)
        self.size = fixed or min(FIRST, self.maximum)
        self._is_fixed = fixed is not None

    def update(self, records: int, seconds: float) -> None:
        """Adapt the size to the duration of a batch, unless it is fixed.

        Args:
            records: Number of records in the batch.
            seconds: Duration of the batch in s, of all experts together.
        """
        if not self._is_fixed:
            wanted = int(records * SECONDS / max(seconds, 1e-9))
            self.size = max(1, min(wanted, GROWTH * self.size, self.maximum))

    def embed(
        self, expert: Expert, ecg: Float32[Tensor, "batch 12 5000"]
    ) -> Float32[np.ndarray, "batch feature"]:
        """Compute the embeddings of a batch in parts of at most `maximum` records.

        Args:
            expert: The expert.
            ecg: ECGs on the device.

        Returns:
            The embeddings as float32. The GPU has finished when this method returns.

        Raises:
            UserError: The device is out of memory even with a single ECG.
        """
        while True:
            try:
                with torch.inference_mode():
                    parts = [expert.embed(part).float().cpu() for part in ecg.split(self.maximum)]
                return torch.cat(parts).numpy()
            except torch.OutOfMemoryError as error:
                name, records = expert.spec.name, min(len(ecg), self.maximum)
                if records == 1:
                    raise UserError(
                        f"{name} ran out of memory on {ecg.device} with a single ECG; use a device "
                        "with more memory or a smaller expert."
                    ) from error
                self.maximum = records // 2
                self.size = min(self.size, self.maximum)
                logger.info(
                    "%s ran out of memory on %s with %d ECGs per batch; continuing with %d.",
                    *(name, ecg.device, records, self.maximum),
                )
            # Not in the except block, where the traceback still holds references to the tensors.
            if ecg.device.type == "cuda":
                torch.cuda.empty_cache()
