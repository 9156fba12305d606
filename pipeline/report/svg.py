"""Figures as SVG text for HTML pages."""

import io
import re
import warnings

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.text import Text

from pipeline.runs.escaping import replace_control

_PATH = re.compile(r' d="([^"]*)"')
_PART = re.compile(r"[A-Za-z]|-?\d+(?:\.\d+)?(?:e-?\d+)?")
_COMMENT = re.compile(r"<metadata>.*?</metadata>|<!--.*?-->", re.DOTALL)
_INDENT = re.compile(r">\s+<")
_SVG_TAG = re.compile(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>')


def encode_svg(figure: Figure, label: str) -> str:
    """Render a figure as an SVG element that scales to the width of the page.

    Args:
        figure: The figure. Texts are not parsed as formulas.
        label: Description of the image for screen readers.

    Returns:
        An `<svg>` element without XML declaration; the result is reproducible. Coordinates of
        paths are rounded to 0.01 points, and texts are `<text>` elements.
    """
    if matplotlib.rcParams["text.parse_math"]:
        for artist in figure.findobj(Text):
            artist.set_parse_math(False)
    buffer = io.StringIO()
    # A constant salt makes the ids of elements reproducible.
    settings = {"svg.fonttype": "none", "svg.hashsalt": "enecg", "path.simplify_threshold": 0.3}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # The warning about a missing glyph contains the character, which may control the terminal.
        warnings.filterwarnings("ignore", message="Glyph")
        # `savefig` would draw the figure twice.
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg ") :]
    svg = _INDENT.sub("><", _COMMENT.sub("", svg))
    svg = _PATH.sub(_compact_path, svg)
    width = figure.get_figwidth() * 25.4
    opening = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        rf'viewBox="\1" width="{width:.1f}mm" style="max-width:100%;height:auto" role="img" '
        rf'aria-label="{_escape(label)}">'
    )
    return replace_control(_SVG_TAG.sub(opening, svg, count=1))


def _compact_path(match: re.Match[str]) -> str:
    """Round the coordinates of a path; convert them to relative ones if all lines are straight."""
    parts = _PART.findall(match[1])
    if {part for part in parts if part.isalpha()} - {"M", "L", "z"}:
        text = " ".join(part if part.isalpha() else _format(float(part)) for part in parts)
        return f' d="{text}"'
    text, command, numbers = "", "", iter(parts)
    start = previous = (0, 0)
    for part in numbers:
        if part == "z":
            # The next point is relative to the first one of the closed line.
            text, command, previous = text + part, part, start
            continue
        # Compute in hundredths, so that rounding errors do not accumulate.
        point = (round(100 * float(next(numbers))), round(100 * float(next(numbers))))
        x, y = (_format((new - old) / 100) for new, old in zip(point, previous, strict=True))
        separator = "" if x.startswith("-") else " "
        text += separator if part == command == "L" else part.lower()
        text += f"{x}{'' if y.startswith('-') else ' '}{y}"
        start = point if part == "M" else start
        command, previous = part, point
    return f' d="{text}"'


def _format(number: float) -> str:
    return f"{number:.2f}".rstrip("0").rstrip(".").replace("-0.", "-.").removeprefix("0") or "0"


def _escape(text: str) -> str:
    for character, entity in (("&", "&amp;"), ('"', "&quot;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(character, entity)
    return text.replace("\\", r"\\")
