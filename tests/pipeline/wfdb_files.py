"""Records in format 16, written without a library, which would reject invalid ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import wfdb
from jaxtyping import Float32, Int16

from enecg.ecg_format import LEADS

FILE_ORDER = ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6")


@dataclass(frozen=True)
class WfdbRecord:
    """A record to write: samples, and header fields of each signal."""

    samples: Int16[np.ndarray, "time signal"]
    gains: Sequence[str] = ("200.0(0)/mV",) * 12
    names: Sequence[str] = FILE_ORDER
    rate: str = "500"
    resolution_and_zero: str = "16 0"
    checksums: Sequence[int] | None = None

    def header(self, name: str) -> str:
        """Return the text of the header; checksums are computed by default."""
        sums = self.samples.astype(np.int64).sum(0) if self.checksums is None else self.checksums
        lines = [f"{name} {len(self.names)} {self.rate} {len(self.samples)}"]
        for n, (gain, lead) in enumerate(zip(self.gains, self.names, strict=True)):
            tail = f"{self.samples[0, n]} {sums[n] % 65536} 0 {lead}"
            lines.append(f"{name}.dat 16 {gain} {self.resolution_and_zero} {tail}")
        return "\n".join(lines) + "\n"

    def write(self, folder: Path, name: str = "ecg") -> Path:
        """Write header and samples; return the path without a suffix."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.hea").write_text(self.header(name), encoding="utf-8")
        (folder / f"{name}.dat").write_bytes(self.samples.astype("<i2").tobytes())
        return folder / name


def random_walk(
    time: int = 5000, signals: int = 12, seed: int = 0
) -> Int16[np.ndarray, "time signal"]:
    """Return samples that differ within every signal."""
    steps = np.random.default_rng(seed).integers(-9, 10, (time, signals))
    return np.clip(np.cumsum(steps, 0), -32767, 32767).astype(np.int16)


def read_with_wfdb(record: Path) -> Float32[np.ndarray, "12 time"]:
    """Read ten seconds of `LEADS` in mV with wfdb, computed in float64 and rounded to float32."""
    found = wfdb.rdrecord(str(record), sampto=None)
    names = [name.strip().lower() for name in found.sig_name]
    rows = [names.index(lead.lower()) for lead in LEADS]
    mv_per_unit = {"mv": 1.0, "uv": 1e-3, "v": 1e3}
    scale = np.array([mv_per_unit[found.units[row].lower()] for row in rows])[:, None]
    signals = found.p_signal.T[rows, : round(10 * found.fs)]
    with np.errstate(over="ignore"):
        return (signals * scale).astype(np.float32)
