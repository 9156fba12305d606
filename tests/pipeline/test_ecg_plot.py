"""ECGs on ECG paper: scale, layouts, attributions, wave windows, SVG."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from enecg.ecg_format import LEADS, SAMPLES
from enecg.errors import UserError
from pipeline.report.ecg_plot import LAYOUTS, PULSE_MM, plot_ecg
from pipeline.report.svg import encode_svg


def make_ecg() -> np.ndarray:
    """Return an impulse of (lead number / 10) mV at 6 s in each lead."""
    ecg = np.zeros((len(LEADS), SAMPLES), np.float32)
    ecg[:, 3000] = np.arange(1, 13) / 10
    return ecg


def traces(figure) -> list[np.ndarray]:
    (axes,) = figure.axes
    return [line.get_xydata() for line in axes.lines if len(line.get_xdata()) > 6]


def test_paper_has_25_mm_per_second_and_10_mm_per_mv():
    figure = plot_ecg(make_ecg())
    (axes,) = figure.axes
    size_mm = figure.get_size_inches() * 25.4
    np.testing.assert_allclose(size_mm, (axes.get_xlim()[1], axes.get_ylim()[1]))
    assert len(traces(figure)) == len(LEADS)
    for lead, trace in enumerate(traces(figure)):
        peak = trace[trace[:, 1].argmax()]
        assert peak[0] == pytest.approx(PULSE_MM + 6 * 25)
        assert peak[1] - trace[0, 1] == pytest.approx(lead + 1, abs=1e-4)
    pulse = next(line.get_xydata() for line in axes.lines if len(line.get_xdata()) == 6)
    assert np.ptp(pulse[:, 1]) == 10
    assert pulse[3, 0] - pulse[2, 0] == 5


def test_compact_layout_shows_a_quarter_of_each_lead_and_a_rhythm_strip():
    ecg = make_ecg()
    found = traces(plot_ecg(ecg, layout="compact"))
    assert [len(trace) for trace in found] == [1250] * 12 + [5000]
    # 6 s is in the third column, V1 to V3.
    shows_impulse = [bool(np.ptp(trace[:, 1]) > 0) for trace in found]
    assert shows_impulse == [False] * 6 + [True] * 3 + [False] * 3 + [True]


def test_wave_windows_are_marked_below_each_lead():
    figure = plot_ecg(make_ecg(), windows={"QRS": [(5.9, 6.1)], "T": []})
    marks = [part for part in figure.axes[0].collections if isinstance(part, PolyCollection)]
    boxes = np.array([path.vertices[:4] for path in marks[0].get_paths()])
    assert len(boxes) == len(LEADS)
    assert boxes[:, :, 0].min() == pytest.approx(PULSE_MM + 5.9 * 25)
    assert boxes[:, :, 0].max() == pytest.approx(PULSE_MM + 6.1 * 25)


def test_increases_are_red_and_decreases_blue():
    attribution = np.zeros((len(LEADS), SAMPLES))
    attribution[1, 100], attribution[1, 4000] = 2, -1
    image = plot_ecg(make_ecg(), attribution=attribution).axes[0].images[1]
    red, _, blue, alpha = np.moveaxis(np.asarray(image.get_array())[0], -1, 0)
    np.testing.assert_array_equal(np.flatnonzero(alpha), [10, 400])
    assert red[10] > blue[10]
    assert blue[400] > red[400]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_svg_is_self_contained_small_and_reproducible(layout):
    rng = np.random.default_rng(0)
    ecg = rng.normal(0, 0.1, (len(LEADS), SAMPLES)).cumsum(1).clip(-1, 1)
    ecg[3] = np.nan
    drawn = [
        encode_svg(plot_ecg(ecg, layout=layout, title="<$x$> & y"), 'ECG "1"') for _ in range(2)
    ]
    assert drawn[0] == drawn[1]
    root = ElementTree.fromstring(drawn[0])
    assert root.get("aria-label") == 'ECG "1"'
    texts = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {*LEADS, "<$x$> & y"} <= texts
    assert len(drawn[0]) < 1_000_000
    links = [value for element in root.iter() for name, value in element.items() if "href" in name]
    assert all(link.startswith(("#", "data:")) for link in links)


def test_unknown_layout_or_shape_is_rejected():
    with pytest.raises(UserError, match="Unknown layout 'wide'"):
        plot_ecg(make_ecg(), layout="wide")
    with pytest.raises(UserError, match="expected 12 leads"):
        plot_ecg(make_ecg()[:8])
    with pytest.raises(UserError, match="attribution has shape"):
        plot_ecg(make_ecg(), attribution=np.zeros((12, 10)))


def test_svg_paths_are_those_of_the_figure():
    """Relative coordinates end where the absolute ones do, also after a closed line."""
    corners = [(0, 0), (0.3, 0), (0.3, 0.7), (0, 0), (0.5, 0.5), (0.9, 0.2)]
    codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY, Path.MOVETO, Path.LINETO]
    figure = Figure(figsize=(1, 1))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, 1), ylim=(0, 1), frameon=False)
    axes.set_axis_off()
    axes.add_patch(PathPatch(Path(corners, codes), fill=False))
    # One inch is 72 points, and the vertical axis points down.
    assert 'd="m0 72l21.6 0 0-50.4-21.6 50.4zm36-36l28.8 21.6"' in encode_svg(figure, "")
