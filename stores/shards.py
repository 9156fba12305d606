"""Encode and decode shards, in the format of the Zarr v3 codec `sharding_indexed`.

A shard consists of its chunks, each followed by its CRC-32C; then the index, which contains the
offset and length of each chunk as little-endian uint64 (all bits set for a missing chunk); then the
CRC-32C of the index. This module writes all chunks of a shard, so each has a fixed offset. It is
used because zarr-python reads and writes the same bytes more slowly (``benchmarks/store.py``).
"""

from dataclasses import dataclass
from typing import Any

import google_crc32c
import numpy as np
import zarr
from jaxtyping import Bool, Float, Int, Num, UInt8, UInt64

from stores.location import Location

CHECKSUM_BYTES = 4
MISSING_CHUNK = 2**64 - 1
FINITE_BLOCK_ROWS = 128
"""Rows that `finite_rows` checks at a time, which bounds the size of temporary arrays."""


class WrongChecksum(Exception):
    """Stored bytes have the wrong size or do not match their checksum."""


@dataclass(frozen=True)
class ShardLayout:
    """The shape and data type of the shards of a 2-D array.

    Attributes:
        shard_rows: Rows per shard.
        chunk_rows: Rows per chunk.
        features: Columns of the array.
        dtype: Data type of the values.
    """

    shard_rows: int
    chunk_rows: int
    features: int
    dtype: np.dtype

    @classmethod
    def from_array(cls, array: zarr.Array[Any]) -> "ShardLayout":
        """Return the layout of a sharded Zarr array."""
        assert array.shards is not None
        return cls(array.shards[0], array.chunks[0], array.shape[1], np.dtype(array.dtype))

    @property
    def chunks(self) -> int:
        """Chunks per shard."""
        return self.shard_rows // self.chunk_rows

    @property
    def index_bytes(self) -> int:
        """Size of the index in bytes, including its checksum."""
        return 16 * self.chunks + CHECKSUM_BYTES

    @property
    def chunk_bytes(self) -> int:
        """Size of a chunk in bytes, including its checksum."""
        return self.chunk_rows * self.features * self.dtype.itemsize + CHECKSUM_BYTES

    def encode(self, rows: Num[np.ndarray, "row feature"]) -> memoryview:
        """Encode a shard whose first rows are `rows` and whose remaining rows are NaN."""
        index_offset = self.chunks * self.chunk_bytes
        shard = np.empty(index_offset + self.index_bytes, np.uint8)
        for chunk in range(self.chunks):
            begin = chunk * self.chunk_bytes
            stored = shard[begin : begin + self.chunk_bytes]
            values = stored[:-CHECKSUM_BYTES].view(self.dtype)
            values = values.reshape(self.chunk_rows, self.features)
            chunk_rows = rows[chunk * self.chunk_rows : (chunk + 1) * self.chunk_rows]
            values[: len(chunk_rows)] = chunk_rows
            values[len(chunk_rows) :] = np.nan
            _set_checksum(stored)
        index = shard[index_offset:-CHECKSUM_BYTES].view("<u8").reshape(self.chunks, 2)
        index[:, 0] = np.arange(self.chunks) * self.chunk_bytes
        index[:, 1] = self.chunk_bytes
        _set_checksum(shard[index_offset:])
        return shard.data

    def read(
        self,
        shard: Location,
        rows: Int[np.ndarray, " pick"],
        out: Num[np.ndarray, "all feature"],
        positions: Int[np.ndarray, " pick"],
    ) -> None:
        """Read rows of one version of a shard into ``out[positions]``.

        If at most half of the shard's chunks are needed, read only these; otherwise read the whole
        shard at once.

        Args:
            shard: Location of the shard.
            rows: Rows to read, relative to the shard's first row, in ascending order.
            out: Array to write to; rows of a missing shard or chunk become NaN.
            positions: Row of `out` for each element of `rows`.

        Raises:
            WrongChecksum: A chunk or the index is damaged.
            VersionConflict: The shard was replaced while it was read.
        """
        chunk_of = rows // self.chunk_rows
        firsts = np.flatnonzero(np.diff(chunk_of, prepend=-1))
        needed = chunk_of[firsts].tolist()
        with shard.root.open(shard.key) as reader:
            if reader is None:
                out[positions] = np.nan
                return
            if reader.size < self.index_bytes:
                raise WrongChecksum
            begin = 0 if 2 * len(needed) > self.chunks else reader.size - self.index_bytes
            tail = memoryview(reader.read(begin, reader.size))
            index = self._decode_index(tail[-self.index_bytes :])
            for chunk, first, last in zip(needed, firsts, (*firsts[1:], len(rows)), strict=True):
                offset, length = index[chunk].tolist()
                if offset == MISSING_CHUNK:
                    out[positions[first:last]] = np.nan
                    continue
                if length != self.chunk_bytes or offset + length > reader.size:
                    raise WrongChecksum
                stored = tail[offset - begin : offset - begin + length] if begin == 0 else b""
                values = self._decode_chunk(stored or reader.read(offset, offset + length))
                out[positions[first:last]] = values[rows[first:last] - chunk * self.chunk_rows]

    def _decode_index(self, stored: memoryview) -> UInt64[np.ndarray, "chunk 2"]:
        return strip_checksum(stored).view("<u8").reshape(self.chunks, 2)

    def _decode_chunk(self, stored: bytes | memoryview) -> Num[np.ndarray, "row feature"]:
        try:
            return strip_checksum(stored).view(self.dtype).reshape(self.chunk_rows, self.features)
        except ValueError as error:
            raise WrongChecksum from error


def finite_rows(rows: Float[np.ndarray, "row feature"]) -> Bool[np.ndarray, " row"]:
    """Return a mask of the rows without NaN or infinity; faster than `np.isfinite` for float16."""
    bits = np.dtype(f"u{rows.dtype.itemsize}")
    exponent = np.array(np.inf, rows.dtype).view(bits)
    mask = np.empty(len(rows), bool)
    for start in range(0, len(rows), FINITE_BLOCK_ROWS):
        block = np.ascontiguousarray(rows[start : start + FINITE_BLOCK_ROWS]).view(bits)
        mask[start : start + FINITE_BLOCK_ROWS] = (block & exponent != exponent).all(1)
    return mask


def append_checksum(values: UInt8[np.ndarray, " byte"]) -> memoryview:
    """Return a copy of the bytes, followed by their CRC-32C."""
    stored = np.empty(len(values) + CHECKSUM_BYTES, np.uint8)
    stored[:-CHECKSUM_BYTES] = values
    _set_checksum(stored)
    return stored.data


def strip_checksum(stored: bytes | memoryview) -> np.ndarray:
    """Check the CRC-32C at the end of a value and return the value without it.

    Args:
        stored: The value, followed by its checksum.

    Returns:
        A view of the value as uint8.

    Raises:
        WrongChecksum: The checksum does not match.
    """
    data = np.frombuffer(stored, np.uint8)
    values, checksum = data[:-CHECKSUM_BYTES], data[-CHECKSUM_BYTES:]
    if _checksum(values) != checksum.tobytes():
        raise WrongChecksum
    return values


def _set_checksum(stored: UInt8[np.ndarray, " byte"]) -> None:
    stored[-CHECKSUM_BYTES:] = np.frombuffer(_checksum(stored[:-CHECKSUM_BYTES]), np.uint8)


def _checksum(values: UInt8[np.ndarray, " byte"]) -> bytes:
    read_only = values.view()
    read_only.flags.writeable = False
    checksum: int = google_crc32c.extend(0, read_only)
    return checksum.to_bytes(CHECKSUM_BYTES, "little")
