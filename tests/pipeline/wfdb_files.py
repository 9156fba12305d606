"""Records in format 16, written byte by byte, so that a test may write what no library would."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import wfdb
from jaxtyping import Float32, Int16

from enecg.signal import LEADS

FILE_ORDER = ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6")


@dataclass(frozen=True)
class Made:
    """A record to be written: (time, signal) samples, and a header's fields for each signal."""

    samples: Int16[np.ndarray, "time signal"]
    gains: Sequence[str] = ("200.0(0)/mV",) * 12
    names: Sequence[str] = FILE_ORDER
    rate: str = "500"
    numbers: str = "16 0"
    checksums: Sequence[int] | None = field(default=None)

    def header(self, name: str) -> str:
        sums = self.samples.astype(np.int64).sum(0) if self.checksums is None else self.checksums
        lines = [f"{name} {len(self.names)} {self.rate} {len(self.samples)}"]
        for n, (gain, lead) in enumerate(zip(self.gains, self.names, strict=True)):
            sums_to = f"{self.samples[0, n]} {sums[n] % 65536} 0"
            lines.append(f"{name}.dat 16 {gain} {self.numbers} {sums_to} {lead}")
        return "\n".join(lines) + "\n"

    def write(self, folder: Path, name: str = "ecg") -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.hea").write_text(self.header(name), encoding="utf-8")
        (folder / f"{name}.dat").write_bytes(self.samples.astype("<i2").tobytes())
        return folder / name


def walk(time: int = 5000, signals: int = 12, seed: int = 0) -> Int16[np.ndarray, "time signal"]:
    """Samples that are nowhere flat."""
    steps = np.random.default_rng(seed).integers(-9, 10, (time, signals))
    return np.clip(np.cumsum(steps, 0), -32767, 32767).astype(np.int16)


def by_wfdb_alone(record: Path) -> Float32[np.ndarray, "12 time"]:
    """The twelve leads in mV as wfdb reads them: float64, rounded to float32 at the end."""
    found = wfdb.rdrecord(str(record), sampto=None)
    names = [name.strip().lower() for name in found.sig_name]
    place = [names.index(lead.lower()) for lead in LEADS]
    per_unit = {"mv": 1.0, "uv": 1e-3, "v": 1e3}
    scale = np.array([per_unit[found.units[n].lower()] for n in place])[:, None]
    seconds = found.p_signal.T[place, : round(10 * found.fs)]
    with np.errstate(over="ignore"):
        return (seconds * scale).astype(np.float32)
