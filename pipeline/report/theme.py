"""Figures in colors that follow the light or dark theme of a page."""

import re
from contextlib import AbstractContextManager

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure

from pipeline.report.svg import encode_svg

INK = "#1f2328"
MUTED = "#59636e"
GRID = "#d0d7de"
ENSEMBLE_COLOR = "#c0392b"
OTHER_ENSEMBLE_COLOR = "#8a6d3b"
EXPERT_COLOR = "#34608c"
EXPERT_COLORS = ("#3572b0", "#c2750a", "#3d8b4f", "#7d5ba6", "#2a8f9c", "#8c6143", "#b8578f")
"""Colors of the experts in the order of the run, repeated if there are more."""
ON_COLOR = "#fffffe"
"""Color of text on colored areas."""
FILL = "#4078b4"
"""Color of matrix cells, drawn with an opacity."""

_VARIABLES = {
    INK: "ink",
    MUTED: "muted",
    GRID: "grid",
    ENSEMBLE_COLOR: "ensemble",
    OTHER_ENSEMBLE_COLOR: "other",
    EXPERT_COLOR: "expert",
    ON_COLOR: "on-color",
    FILL: "fill",
    **{color: f"expert-{index}" for index, color in enumerate(EXPERT_COLORS)},
}
"""CSS variable of each color. `parts.html` defines their values for both themes."""
_COLOR = re.compile("|".join(_VARIABLES))
_DECIMALS = re.compile(r"(\.\d\d)\d+")
_DROPPED = re.compile(r"<style.*?</style>|<defs>\s*</defs>", re.DOTALL)
_GROUP_ID = re.compile(r' id="[a-zA-Z.]+_\d+"')
_SETTINGS = {
    "text.parse_math": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.7,
    "axes.titlesize": 9,
    "axes.labelsize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "lines.linewidth": 1.2,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "grid.color": GRID,
    "grid.linewidth": 0.5,
}
"""Matplotlib settings. `text.parse_math` is off, because names of tasks and classes can contain
"$"."""


def figure_style() -> AbstractContextManager[None]:
    """Return a context manager in which figures are made and converted with `to_svg`."""
    return matplotlib.rc_context(_SETTINGS)


def new_figure(width: float = 4.3, height: float = 3.2) -> Figure:
    """Create a figure.

    Args:
        width: Width in inches. With the default, text is readable on a phone.
        height: Height in inches.

    Returns:
        The figure.
    """
    return Figure(figsize=(width, height), layout="constrained")


def to_svg(figure: Figure, label: str) -> Markup:
    """Render a figure as an SVG element in the colors of the page's theme.

    Args:
        figure: The figure, made in the context of `figure_style`.
        label: Description of the image for screen readers.

    Returns:
        The element. CSS variables replace the colors of this module.
    """
    svg = encode_svg(figure, label)
    svg = _GROUP_ID.sub("", _DROPPED.sub("", svg))
    svg = _COLOR.sub(lambda match: f"var(--{_VARIABLES[match[0]]})", svg)
    # matplotlib and `encode_svg` escape all text.
    return Markup(_DECIMALS.sub(r"\1", svg))


def css_color(color: str) -> str:
    """Return a color of this module as the value of a CSS property."""
    return f"var(--{_VARIABLES[color]})"
