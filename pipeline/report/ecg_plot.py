"""Plot of a 12-lead ECG on ECG paper: 25 mm/s, 10 mm/mV."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from enecg.ecg_format import LEADS, SAMPLE_RATE_HZ
from enecg.errors import UserError

MM_PER_SECOND = 25.0
MM_PER_MV = 10.0
PULSE_MM = 10.0
"""Width of the area left of each row in which the calibration pulse (1 mV, 200 ms) is drawn."""

LAYOUTS = ("rows", "compact")
RHYTHM_LEAD = "II"
"""Lead of the rhythm strip in the compact layout."""

MIN_ROW_MM, MAX_ROW_MM = 15.0, 40.0
"""Limits of the height of a row, which depends on the amplitude of the leads."""

BAR_MM = 1.2
"""Height of the bars that mark wave windows."""

WINDOW_COLORS = {
    "P": "#1f77b4",
    "PR": "#17a2b8",
    "QRS": "#c0392b",
    "ST": "#c98b2b",
    "T": "#2e8b57",
}
"""Colors of wave windows by name. Other names are gray."""

INCREASE, DECREASE = "#d6402a", "#2a62d6"
"""Colors of samples that increase or decrease the explained output."""

BIN_SAMPLES = 10
"""Samples per colored cell of an attribution: 20 ms at 500 Hz, 0.5 mm on paper."""

_PAPER, _SMALL_GRID, _LARGE_GRID, _TRACE = "#fffafa", "#f8dcdc", "#efb0b0", "#101010"

Windows = Mapping[str, Sequence[tuple[float, float]]]
"""Start and end of each window in seconds, by the name of the wave."""


@dataclass(frozen=True)
class _Strip:
    """A part of a lead at its position on the paper.

    Attributes:
        lead: Index of the lead.
        start: First sample.
        stop: Last sample plus one.
        left: Position of the first sample in mm.
        baseline: Position of the lead's median in mm.
    """

    lead: int
    start: int
    stop: int
    left: float
    baseline: float

    def x(self, sample: Any) -> Any:
        return self.left + (sample - self.start) / SAMPLE_RATE_HZ * MM_PER_SECOND


def plot_ecg(
    ecg: Float[np.ndarray, "12 time"],
    *,
    layout: str = "rows",
    attribution: Float[np.ndarray, "12 time"] | None = None,
    windows: Windows | None = None,
    title: str = "",
) -> Figure:
    """Plot a 12-lead ECG on ECG paper. Printed at the figure's size, it has the standard scale.

    Args:
        ecg: ECG in mV at 500 Hz, leads in the order of `enecg.ecg_format.LEADS`. NaN samples are
            gaps. Each lead is shifted so that its median is 0.
        layout: ``rows`` (one row per lead), or ``compact`` (four columns of three leads, each for
            a quarter of the duration, and lead II as rhythm strip).
        attribution: Contribution of each sample to an output. Red areas behind the trace increase
            the output, blue areas decrease it. The color scale ends at the 99.5th percentile of
            the absolute sums over 20 ms.
        windows: Wave windows in seconds, such as ``{"QRS": [(0.31, 0.40), ...]}``; drawn as
            colored bars below each lead.
        title: Text above the paper.

    Returns:
        The figure; `svg.encode_svg` converts it to SVG.

    Raises:
        UserError: The layout does not exist, or the shapes are wrong.
    """
    width_mm, height_mm = paper_size(ecg, layout)
    top_mm = 7.0 if title else 0.0
    figure = Figure(figsize=(width_mm / 25.4, (height_mm + top_mm) / 25.4), facecolor="white")
    axes = figure.add_axes((0, 0, 1, height_mm / (height_mm + top_mm)))
    draw_ecg(axes, ecg, layout=layout, attribution=attribution, windows=windows)
    if title:
        height = 1 - top_mm / 2 / (height_mm + top_mm)
        figure.text(5 / width_mm, height, title, fontsize=10, va="center", parse_math=False)
    return figure


def draw_ecg(
    axes: Any,
    ecg: Float[np.ndarray, "12 time"],
    *,
    layout: str = "rows",
    attribution: Float[np.ndarray, "12 time"] | None = None,
    windows: Windows | None = None,
) -> None:
    """Draw an ECG like `plot_ecg` on existing axes. Their data unit is set to one millimeter.

    Args:
        axes: Axes with the aspect ratio of `paper_size`.
        ecg: As in `plot_ecg`.
        layout: As in `plot_ecg`.
        attribution: As in `plot_ecg`.
        windows: As in `plot_ecg`.

    Raises:
        UserError: The layout does not exist, or the shapes are wrong.
    """
    width_mm, height_mm = paper_size(ecg, layout)
    if attribution is not None and attribution.shape != ecg.shape:
        raise UserError(
            f"The attribution has shape {attribution.shape}; it must have the shape of the ECG, "
            f"{ecg.shape}."
        )
    _draw_paper(axes, width_mm, height_mm, windows)
    strips = _place_strips(ecg, layout)
    if attribution is not None:
        _draw_attribution(axes, attribution, strips, _row_mm(ecg))
    shifted = ecg - np.nan_to_num(_medians(ecg))[:, None]
    row_mm = _row_mm(ecg)
    for strip in strips:
        samples = np.arange(strip.start, strip.stop)
        trace = strip.baseline + MM_PER_MV * shifted[strip.lead, strip.start : strip.stop]
        axes.plot(strip.x(samples), trace, color=_TRACE, linewidth=0.7, solid_joinstyle="round")
        axes.text(
            strip.left + 0.8,
            strip.baseline + 0.42 * row_mm,
            LEADS[strip.lead],
            fontsize=8,
            fontweight="bold",
            va="top",
        )
    for baseline in sorted({strip.baseline for strip in strips}):
        _draw_pulse(axes, baseline)
    if windows:
        _draw_windows(axes, windows, strips, row_mm)


def paper_size(ecg: Float[np.ndarray, "12 time"], layout: str) -> tuple[float, float]:
    """Return the width and height of the paper in mm.

    Args:
        ecg: As in `plot_ecg`.
        layout: As in `plot_ecg`.

    Returns:
        Width and height, multiples of 5 mm.

    Raises:
        UserError: The layout does not exist, or the shape of the ECG is wrong.
    """
    if layout not in LAYOUTS:
        raise UserError(f"Unknown layout {layout!r}; available: {', '.join(LAYOUTS)}.")
    if ecg.ndim != 2 or len(ecg) != len(LEADS) or not ecg.shape[1]:
        raise UserError(f"The ECG has shape {ecg.shape}; expected {len(LEADS)} leads by samples.")
    rows = len(LEADS) if layout == "rows" else 4
    signal_mm = ecg.shape[1] / SAMPLE_RATE_HZ * MM_PER_SECOND
    return 5 * np.ceil((PULSE_MM + signal_mm + 5) / 5), rows * _row_mm(ecg) + 10


def _medians(ecg: np.ndarray) -> np.ndarray:
    finite = np.isfinite(ecg).any(1)
    medians = np.full(len(ecg), np.nan)
    medians[finite] = np.nanmedian(ecg[finite], axis=1)
    return medians


def _row_mm(ecg: np.ndarray) -> float:
    """Return the height of a row in mm, from the 90th percentile of the leads' ranges."""
    low, high = np.nanquantile(ecg[np.isfinite(ecg).any(1)], (0.0005, 0.9995), axis=1)
    ranges = (high - low) * MM_PER_MV
    needed = float(np.quantile(ranges, 0.9)) if ranges.size else 0.0
    return float(np.clip(5 * np.ceil((needed + 3) / 5), MIN_ROW_MM, MAX_ROW_MM))


def _place_strips(ecg: np.ndarray, layout: str) -> list[_Strip]:
    time, row_mm = ecg.shape[1], _row_mm(ecg)
    _, height_mm = paper_size(ecg, layout)
    baselines = height_mm - 5 - row_mm * (np.arange(len(LEADS)) + 0.5)
    if layout == "rows":
        return [_Strip(lead, 0, time, PULSE_MM, baselines[lead]) for lead in range(len(LEADS))]
    edges = np.linspace(0, time, 5).astype(int)
    strips = []
    for column, (start, stop) in enumerate(pairwise(edges)):
        left = PULSE_MM + start / SAMPLE_RATE_HZ * MM_PER_SECOND
        for row in range(3):
            strips.append(_Strip(3 * column + row, start, stop, left, baselines[row]))
    return [*strips, _Strip(LEADS.index(RHYTHM_LEAD), 0, time, PULSE_MM, baselines[3])]


def _draw_paper(axes: Any, width: float, height: float, windows: Windows | None) -> None:
    axes.set(xlim=(0, width), ylim=(0, height), xticks=[], yticks=[], facecolor=_PAPER)
    axes.set_aspect("equal")
    axes.spines[:].set_visible(False)
    for step, color, line in ((1, _SMALL_GRID, 0.25), (5, _LARGE_GRID, 0.5)):
        # Draw all lines as one path, because one SVG element per line would make the file large.
        points = [
            point for x in np.arange(0, width + 0.5, step) for point in ((x, 0.0), (x, height))
        ] + [point for y in np.arange(0, height + 0.5, step) for point in ((0.0, y), (width, y))]
        codes = np.tile([Path.MOVETO, Path.LINETO], len(points) // 2)
        grid = PathPatch(Path(points, codes), fill=False, edgecolor=color, linewidth=line)
        axes.add_patch(grid)
    axes.text(width - 2, 1.2, "25 mm/s   10 mm/mV", fontsize=7, ha="right", color="#444444")
    for index, name in enumerate(windows or ()):
        color = WINDOW_COLORS.get(name, "grey")
        axes.text(PULSE_MM + 9 * index, 1.2, name, fontsize=7, fontweight="bold", color=color)


def _draw_pulse(axes: Any, baseline: float) -> None:
    left, right = PULSE_MM - 7, PULSE_MM - 2
    top = baseline + MM_PER_MV
    x = (left - 1, left, left, right, right, right + 1)
    axes.plot(x, (baseline, baseline, top, top, baseline, baseline), color=_TRACE, linewidth=0.7)


def _draw_attribution(
    axes: Any, attribution: np.ndarray, strips: Sequence[_Strip], row_mm: float
) -> None:
    starts = np.arange(0, attribution.shape[1], BIN_SAMPLES)
    cells = np.add.reduceat(np.nan_to_num(attribution), starts, axis=1)
    limit = float(np.quantile(np.abs(cells), 0.995)) or float(np.abs(cells).max()) or 1.0
    colors = np.empty((*cells.shape, 4))
    colors[..., :3] = np.where(cells[..., None] > 0, to_rgb(INCREASE), to_rgb(DECREASE))
    colors[..., 3] = 0.8 * np.clip(np.abs(cells) / limit, 0, 1)
    for strip in strips:
        first, last = strip.start // BIN_SAMPLES, -(-strip.stop // BIN_SAMPLES)
        axes.imshow(
            colors[strip.lead : strip.lead + 1, first:last],
            aspect="auto",
            interpolation="nearest",
            extent=(
                strip.x(strip.start),
                strip.x(strip.stop),
                strip.baseline - 0.44 * row_mm,
                strip.baseline + 0.44 * row_mm,
            ),
        )
    # `imshow` changes the aspect.
    axes.set_aspect("equal")


def _draw_windows(axes: Any, windows: Windows, strips: Sequence[_Strip], row_mm: float) -> None:
    for name, spans in windows.items():
        boxes = []
        for strip in strips:
            bottom = strip.baseline - 0.5 * row_mm + 0.2
            for start, end in np.asarray(spans, float).reshape(-1, 2) * SAMPLE_RATE_HZ:
                left, right = max(start, strip.start), min(end, strip.stop)
                if left < right:
                    x0, x1, top = strip.x(left), strip.x(right), bottom + BAR_MM
                    boxes.append([(x0, bottom), (x1, bottom), (x1, top), (x0, top)])
        color = WINDOW_COLORS.get(name, "grey")
        axes.add_collection(PolyCollection(boxes, facecolors=color, linewidths=0))
