"""Settings of the filters of each lead before a model, which are part of an expert's spec."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Filtering:
    """Zero-phase filters of each lead: notch, band-pass, then subtraction of the running median.

    They are applied before all other processing.

    Attributes:
        notch_hz: Center of the notch filter in Hz.
        notch_quality: Quality factor of the notch filter: its center divided by its width.
        band_hz: Corner frequencies of the Butterworth band-pass filter in Hz.
        band_order: Order of each edge of the band-pass filter, which runs forward and backward.
        baseline_steps: Window of the running median that is subtracted, in samples; odd.
    """

    notch_hz: float
    notch_quality: float
    band_hz: tuple[float, float]
    band_order: int
    baseline_steps: int

    def __str__(self) -> str:
        low, high = self.band_hz
        return (
            f"notch {self.notch_hz:g} Hz, band-pass {low:g} to {high:g} Hz, baseline median of "
            f"{self.baseline_steps} samples"
        )
