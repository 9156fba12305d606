"""Figures as SVG text for HTML pages."""

import io
import re
import warnings
from itertools import pairwise

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.text import Text

from pipeline.runs.escaping import replace_control

_PATH = re.compile(r' d="([^"]*)"')
_NUMBER = re.compile(r"-?\d+\.\d+")
_POLYLINE = re.compile(r"\s*M [-\d.]+ [-\d.]+\s+(?:L [-\d.]+ [-\d.]+\s+)+")
LONG_POLYLINE = 500
"""Number of lines above which the path of a polyline is abbreviated."""
_SVG_TAG = re.compile(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>')


def encode_svg(figure: Figure, label: str) -> str:
    """Render a figure as an SVG element that scales to the width of the page.

    Args:
        figure: The figure. Texts are not parsed as formulas.
        label: Description of the image for screen readers.

    Returns:
        An `<svg>` element without XML declaration, equal for equal figures. Coordinates are
        rounded to 0.01 points, and texts use the fonts of the page.
    """
    if matplotlib.rcParams["text.parse_math"]:
        for artist in figure.findobj(Text):
            artist.set_parse_math(False)
    buffer = io.StringIO()
    # A constant salt makes the ids of elements reproducible.
    settings = {"svg.fonttype": "none", "svg.hashsalt": "enecg", "path.simplify_threshold": 0.15}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # The warning repeats characters of names, which may control the terminal.
        warnings.filterwarnings("ignore", message="Glyph")
        # `savefig` would draw the figure twice.
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg ") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = _PATH.sub(_round_path, svg)
    width = figure.get_figwidth() * 25.4
    opening = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        rf'viewBox="\1" width="{width:.1f}mm" style="max-width:100%;height:auto" role="img" '
        rf'aria-label="{_escape(label)}">'
    )
    return replace_control(_SVG_TAG.sub(opening, svg, count=1))


def _round_path(found: re.Match[str]) -> str:
    if _POLYLINE.fullmatch(found[1]) and found[1].count("L") > LONG_POLYLINE:
        return f' d="{_relative_path(found[1])}"'
    rounded = _NUMBER.sub(
        lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), found[1]
    )
    return f' d="{" ".join(rounded.split())}"'


def _relative_path(polyline: str) -> str:
    """Return the path of a polyline in steps of 0.1 points, which takes a third of the bytes."""
    values = [round(10 * float(number)) for number in re.findall(r"[-\d.]+", polyline)]
    points = list(zip(values[::2], values[1::2], strict=True))
    steps = [
        (x - last_x, y - last_y)
        for (last_x, last_y), (x, y) in pairwise(points)
        if (x, y) != (last_x, last_y)
    ]
    text = f"M{points[0][0] / 10:g} {points[0][1] / 10:g}l" + " ".join(
        _tenths(step) for pair in steps for step in pair
    )
    return text.replace(" -", "-")


def _tenths(value: int) -> str:
    return f"{value / 10:g}".replace("0.", ".", 1) if abs(value) < 10 else f"{value / 10:g}"


def _escape(text: str) -> str:
    for character, entity in (("&", "&amp;"), ('"', "&quot;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(character, entity)
    return text.replace("\\", r"\\")
