"""Digests of recordings, to find recordings that have several record ids."""

import hashlib

import numpy as np

from pipeline.waveforms.lead_signals import LeadSignals

DIGEST_BYTES = 16


def digest_recording(signals: LeadSignals) -> bytes | None:
    """Return a digest of samples and rate; None if every lead is constant or lacks samples."""
    # If a sample is missing, the comparison with NaN is false.
    if not (signals.mv.max(1) > signals.mv.min(1)).any():
        return None
    # Adding 0 turns -0 into 0.
    samples = (signals.mv + np.float32(0)).tobytes()
    rate = f"{signals.rate_hz:g}".encode()
    return hashlib.blake2b(samples, digest_size=DIGEST_BYTES, salt=rate).digest()


class DigestTable:
    """A hash table of digests in 24 to 32 bytes per record.

    Args:
        capacity: Largest number of records.
    """

    def __init__(self, capacity: int) -> None:
        self._digests = np.zeros(capacity, f"V{DIGEST_BYTES}")
        # Open addressing: a slot contains the number of a record plus 1, or 0 if it is free. The
        # search for a digest starts at the slot given by its first bytes.
        self._slots = np.zeros(1 << (2 * capacity).bit_length(), np.int32)

    def find_or_add(self, number: int, digest: bytes) -> int | None:
        """Find an earlier record with this digest; if there is none, add the record.

        Args:
            number: Number of the record, at least 0 and less than the capacity.
            digest: Digest of the record.

        Returns:
            The number of the earlier record, or None if the record was added.
        """
        slot = int.from_bytes(digest[:8], "little") % len(self._slots)
        while other := int(self._slots[slot]):
            if self._digests[other - 1].tobytes() == digest:
                return other - 1
            slot = (slot + 1) % len(self._slots)
        self._slots[slot] = number + 1
        self._digests[number] = digest
        return None
