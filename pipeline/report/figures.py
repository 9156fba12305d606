"""A plot on a page."""

from dataclasses import dataclass

from markupsafe import Markup


@dataclass(frozen=True)
class PageFigure:
    """A plot with its title and caption.

    Attributes:
        title: Title.
        svg: The SVG element.
        caption: Caption; may be empty.
        wide: Whether the plot spans two columns of a wide screen.
    """

    title: str
    svg: Markup
    caption: str = ""
    wide: bool = False
