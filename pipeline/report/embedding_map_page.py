"""Page with a map of each expert's embeddings and the similarity of the experts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.figure import Figure

from pipeline.report.formats import render_page
from pipeline.report.svg import encode_svg
from pipeline.report.table import Table

CLASS_COLORS = ("C0", "C1", "C2", "C3", "C4", "C5", "C6", "black", "C8", "C9")
"""Colors of the most frequent values of a label. C7 is omitted, because it is gray like `OTHER`."""
MISSING, OTHER = "not labeled", "other"


@dataclass(frozen=True)
class EmbeddingMap:
    """Embeddings of one expert in two dimensions.

    Attributes:
        name: Name of the expert, with a part of the store's identity if several stores have it.
        weights: Weights of the expert, such as ``random:0``.
        positions: Positions of the records.
        description: Description of the map, such as ``UMAP`` or ``41 % of the variance``.
    """

    name: str
    weights: str
    positions: Float[np.ndarray, "record 2"]
    description: str


def plot_maps(maps: Sequence[EmbeddingMap], color: pd.Series | None) -> Figure:
    """Plot the maps side by side.

    Args:
        maps: The maps.
        color: Label of each record; records without a label are gray. Numbers with more than two
            distinct values have a color scale. None draws all records in one color.

    Returns:
        The figure. Points are rasterized to limit the size of the file.
    """
    columns = min(3, len(maps))
    rows = math.ceil(len(maps) / columns)
    figure = Figure(figsize=(4.2 * columns, 4 * rows + 0.4), layout="constrained", dpi=110)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    drawn = None
    for axes, map_ in zip(grid, maps, strict=False):
        weights = "no weights" if map_.weights == "none" else map_.weights
        axes.set_title(f"{map_.name} ({weights})\n{map_.description}", fontsize=9)
        axes.set(xticks=[], yticks=[])
        drawn = _scatter(axes, map_.positions, color) or drawn
    for axes in grid[len(maps) :]:
        axes.set_axis_off()
    if drawn is not None and color is not None:
        figure.colorbar(drawn, ax=list(grid), label=str(color.name), shrink=0.6)
    elif color is not None:
        handles, names = grid[0].get_legend_handles_labels()
        style = {"loc": "outside lower center", "fontsize": 8, "frameon": False}
        style |= {"title": str(color.name), "title_fontsize": 8}
        figure.legend(handles, names, ncols=min(4, len(names)), markerscale=3, **style)
    return figure


def _scatter(axes: Any, positions: np.ndarray, color: pd.Series | None) -> Any:
    """Draw the points of a map; return the artist of a numeric label for the color bar."""
    style = {"s": 4 if len(positions) > 500 else 12, "linewidths": 0, "rasterized": True}
    scatter = axes.scatter
    if color is None:
        scatter(*positions.T, color="#34608c", **style)
        return None
    missing = color.isna().to_numpy()
    scatter(*positions[missing].T, color="#cccccc", label=MISSING if missing.any() else "", **style)
    known = color[~missing]
    if pd.api.types.is_numeric_dtype(color) and known.nunique() > 2:
        low, high = np.quantile(known, (0.02, 0.98))
        return scatter(
            *positions[~missing].T, c=known, vmin=low, vmax=high, cmap="viridis", **style
        )
    frequent = list(known.value_counts().index[: len(CLASS_COLORS)])
    for value, class_color in zip(frequent, CLASS_COLORS, strict=False):
        chosen = (color == value).fillna(False).to_numpy(bool)
        name = f"{value:g}" if isinstance(value, float) else str(value)[:40]
        scatter(*positions[chosen].T, color=class_color, label=name, **style)
    other = ~missing & ~color.isin(frequent).to_numpy()
    if other.any():
        scatter(*positions[other].T, color="#777777", label=OTHER, **style)
    return None


def similarity_table(names: Sequence[str], cka: Float[np.ndarray, "expert expert"]) -> Table:
    """Build the table of the similarity of each pair of experts.

    Args:
        names: Names of the experts.
        cka: Linear CKA of each pair; see `linear_cka`.

    Returns:
        The table.
    """
    rows = [
        (name, *(f"{value:.2f}" for value in row)) for name, row in zip(names, cka, strict=True)
    ]
    note = "1: equal up to rotation and scale; about 0: unrelated. Unbiased estimate."
    return Table("Linear CKA of the experts", ("", *names), tuple(rows), notes=(note,))


def render_map_page(
    dataset: str, maps: Sequence[EmbeddingMap], table: Table, summary: str, color: pd.Series | None
) -> str:
    """Return the page as self-contained HTML.

    Args:
        dataset: Namespace of the data set.
        maps: The maps.
        table: Table of similarities.
        summary: Description of the sample, one sentence.
        color: Labels; see `plot_maps`.

    Returns:
        The page.
    """
    untrained = [map_.name for map_ in maps if map_.weights.startswith("random:")]
    warning = f"Untrained experts: {', '.join(untrained)}. Their weights are random."
    svg = encode_svg(plot_maps(maps, color), f"Maps of the embeddings of {dataset}")
    return render_page(
        "embedding_map.html",
        dataset=dataset,
        warning=warning if untrained else "",
        summary=summary,
        svg=svg,
        table=table,
    )
