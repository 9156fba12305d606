"""Figure 1 of the paper: the same ECG with the attributions of each expert, side by side."""

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from enecg.attribution.explanation import Explanation
from enecg.attribution.windows import WINDOWS, WaveWindows
from enecg.ecg_format import SAMPLE_RATE_HZ
from pipeline.explanation.results import ExplainedRecord, ExplanationResult
from pipeline.report.ecg_plot import draw_ecg, paper_size
from pipeline.report.explanation_tables import label

START_S, STOP_S = 2.0, 5.0
"""Start and end of the part of the record that is shown, in seconds."""

_GAP_MM, _TITLE_MM = 4.0, 15.0


def plot_explanation(result: ExplanationResult, record: ExplainedRecord) -> Figure:
    """Plot a record's twelve leads for each expert and the mixture, colored by contribution.

    Args:
        result: The explanation.
        record: A record of the explanation; its integrated gradients must include `values`.

    Returns:
        The figure, at the scale of ECG paper.
    """
    part = slice(int(START_S * SAMPLE_RATE_HZ), int(STOP_S * SAMPLE_RATE_HZ))
    signal = record.ecg.signal[:, part]
    spans = {
        name: [(start - START_S, stop - START_S) for start, stop in times]
        for name, times in record.ecg.windows.spans().items()
    }
    width, height = paper_size(signal, "rows")
    panels = len(record.methods)
    total_width = panels * width + (panels - 1) * _GAP_MM
    total_height = height + _TITLE_MM
    figure = Figure(figsize=(total_width / 25.4, total_height / 25.4), facecolor="white")
    for panel, (name, explanation) in enumerate(record.methods.items()):
        left = panel * (width + _GAP_MM) / total_width
        axes = figure.add_axes((left, 0, width / total_width, height / total_height))
        values = contributions(explanation, record.ecg.windows)[:, part]
        draw_ecg(axes, signal, attribution=values, windows=spans)
        figure.text(
            left + 2 / total_width,
            1 - 2 / total_height,
            _title(result, record, name),
            fontsize=9,
            va="top",
            parse_math=False,
        )
    return figure


def contributions(explanation: Explanation, windows: WaveWindows) -> Float[np.ndarray, "12 time"]:
    """Return the contribution of each sample, in the unit of the output.

    Args:
        explanation: The explanation of an expert or of the mixture.
        windows: The windows of the ECG.

    Returns:
        The integrated gradients. If there are none, the effect of occluding all windows with the
        same name, divided evenly among the samples of these windows in all leads.
    """
    attribution = explanation.attribution
    if attribution is not None and attribution.values is not None:
        values: np.ndarray = attribution.values.cpu().numpy()
        return values
    counts = np.bincount(windows.index, minlength=len(WINDOWS))
    effects = np.array([explanation.effects[name] for name in WINDOWS])
    by_sample = (effects / np.maximum(counts, 1))[windows.index] / 12
    return np.tile(by_sample, (12, 1))


def _title(result: ExplanationResult, record: ExplainedRecord, method: str) -> str:
    explanation = record.methods[method]
    value = (
        f"{100 * explanation.output:.1f} % {record.class_name}"
        if record.class_name
        else f"{explanation.output:.4g} {result.unit}".rstrip()
    )
    kind = "integrated gradients" if explanation.attribution else "occlusion of each window"
    name = label(result, method).replace(" (", "\n(", 1)
    return f"{name}{'' if '(' in name else chr(10)}\n{value}; {kind}"
