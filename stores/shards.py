"""A shard's bytes: what zarr's sharding codec writes, read and written without its detours.

By the Zarr v3 `sharding_indexed` codec with the index at the end: chunks of rows one after the
other, each followed by its CRC-32C; then for each chunk its offset and length as two
little-endian uint64, all ones where it is not there; then the index's own CRC-32C. Every chunk is
always written, so each lies at the same place for ever. zarr reads and writes the same bytes,
several times slower (`benchmarks/store.py`).
"""

from dataclasses import dataclass
from typing import Any

import google_crc32c
import numpy as np
import zarr
from jaxtyping import Bool, Float, Int, Num, UInt8, UInt64

from stores.location import Location

CHECKSUM_BYTES = 4
NOT_THERE = 2**64 - 1


class WrongChecksum(Exception):
    """Bytes that are not as they were written."""


@dataclass(frozen=True)
class ShardLayout:
    """How the rows of an array lie in its shards."""

    shard_rows: int
    chunk_rows: int
    features: int
    dtype: np.dtype

    @classmethod
    def from_array(cls, array: zarr.Array[Any]) -> "ShardLayout":
        """The layout of a sharded array of rows."""
        assert array.shards is not None
        return cls(array.shards[0], array.chunks[0], array.shape[1], np.dtype(array.dtype))

    @property
    def chunks(self) -> int:
        """Chunks in a shard."""
        return self.shard_rows // self.chunk_rows

    @property
    def index_bytes(self) -> int:
        """Of a shard's index with its checksum."""
        return 16 * self.chunks + CHECKSUM_BYTES

    @property
    def chunk_bytes(self) -> int:
        """Of a chunk with its checksum."""
        return self.chunk_rows * self.features * self.dtype.itemsize + CHECKSUM_BYTES

    def encode(self, rows: Num[np.ndarray, "row feature"]) -> memoryview:
        """A shard's bytes; rows beyond those given are NaN."""
        index_at = self.chunks * self.chunk_bytes
        shard = np.empty(index_at + self.index_bytes, np.uint8)
        for chunk in range(self.chunks):
            begin = chunk * self.chunk_bytes
            stored = shard[begin : begin + self.chunk_bytes]
            values = stored[:-CHECKSUM_BYTES].view(self.dtype)
            values = values.reshape(self.chunk_rows, self.features)
            given = rows[chunk * self.chunk_rows : (chunk + 1) * self.chunk_rows]
            values[: len(given)] = given
            values[len(given) :] = np.nan
            _set_checksum(stored)
        index = shard[index_at:-CHECKSUM_BYTES].view("<u8").reshape(self.chunks, 2)
        index[:, 0] = np.arange(self.chunks) * self.chunk_bytes
        index[:, 1] = self.chunk_bytes
        _set_checksum(shard[index_at:])
        return shard.data

    def read(
        self,
        shard: Location,
        rows: Int[np.ndarray, " pick"],
        out: Num[np.ndarray, "pick feature"],
        where: Int[np.ndarray, " pick"],
    ) -> None:
        """Rows of one shard, ascending and counted from its first, into `out[where]`.

        NaN where the shard is not there. Where few of the shard's chunks are wanted, only these
        are read; all of them from one version of it. Raises WrongChecksum.
        """
        chunk_of = rows // self.chunk_rows
        first_of = np.flatnonzero(np.diff(chunk_of, prepend=-1))
        wanted = chunk_of[first_of].tolist()
        with shard.root.open(shard.key) as parts:
            if parts is None:
                out[where] = np.nan
                return
            if parts.size < self.index_bytes:
                raise WrongChecksum
            begin = 0 if 2 * len(wanted) > self.chunks else parts.size - self.index_bytes
            tail = memoryview(parts.read(begin, parts.size))
            index = self._index(tail[-self.index_bytes :])
            for chunk, first, last in zip(
                wanted, first_of, (*first_of[1:], len(rows)), strict=True
            ):
                offset, length = index[chunk].tolist()
                if offset == NOT_THERE:
                    out[where[first:last]] = np.nan
                    continue
                held = tail[offset - begin : offset - begin + length] if begin == 0 else b""
                values = self._opened(held or parts.read(offset, offset + length))
                out[where[first:last]] = values[rows[first:last] - chunk * self.chunk_rows]

    def _index(self, stored: memoryview) -> UInt64[np.ndarray, "chunk 2"]:
        return strip_checksum(stored).view("<u8").reshape(self.chunks, 2)

    def _opened(self, stored: bytes | memoryview) -> Num[np.ndarray, "row feature"]:
        try:
            return strip_checksum(stored).view(self.dtype).reshape(self.chunk_rows, self.features)
        except ValueError as error:
            raise WrongChecksum from error


def finite_rows(rows: Float[np.ndarray, "row feature"]) -> Bool[np.ndarray, " row"]:
    """Which rows hold neither NaN nor infinity: numpy's isfinite is slow for float16."""
    bits = np.dtype(f"u{rows.dtype.itemsize}")
    exponent = np.array(np.inf, rows.dtype).view(bits)
    mask: np.ndarray = (np.ascontiguousarray(rows).view(bits) & exponent != exponent).all(1)
    return mask


def append_checksum(values: UInt8[np.ndarray, " byte"]) -> memoryview:
    """Bytes, followed by their CRC-32C."""
    stored = np.empty(len(values) + CHECKSUM_BYTES, np.uint8)
    stored[:-CHECKSUM_BYTES] = values
    _set_checksum(stored)
    return stored.data


def _set_checksum(stored: UInt8[np.ndarray, " byte"]) -> None:
    """Set the checksum that ends these bytes."""
    stored[-CHECKSUM_BYTES:] = np.frombuffer(_checksum(stored[:-CHECKSUM_BYTES]), np.uint8)


def _checksum(values: UInt8[np.ndarray, " byte"]) -> bytes:
    unwritten = values.view()
    unwritten.flags.writeable = False
    checksum: int = google_crc32c.extend(0, unwritten)
    return checksum.to_bytes(CHECKSUM_BYTES, "little")


def strip_checksum(stored: bytes | memoryview) -> np.ndarray:
    """The bytes before a CRC-32C, read-only. Raises WrongChecksum where it does not match."""
    data = np.frombuffer(stored, np.uint8)
    values, checksum = data[:-CHECKSUM_BYTES], data[-CHECKSUM_BYTES:]
    if _checksum(values) != checksum.tobytes():
        raise WrongChecksum
    return values
