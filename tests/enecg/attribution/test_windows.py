"""Wave windows and occlusion, on ECGs with known waves and on LUDB."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import wfdb

from enecg.attribution.occlusion import draw_lines, occlude_windows
from enecg.attribution.windows import REST, WINDOWS, WaveWindows, find_windows
from enecg.ecg_format import LEADS
from enecg.experts.measurements.analysis import analyze
from enecg.experts.measurements.average_beat import BEFORE
from pipeline.datasets.ludb import Ludb

SECONDS = np.arange(5000) / 500
QRS = ((-0.02, 0.006, -0.12), (0.0, 0.010, 1.0), (0.025, 0.008, -0.3))
P, T = (-0.16, 0.022, 0.12), (0.27, 0.045, 0.3)
BEATS = np.arange(0.4, 9.9, 0.8)


def make_ecg(*parts: Sequence[tuple[float, float, float]]) -> np.ndarray:
    """Return an ECG with noise and Gaussian waves in all leads, (12, 5000) in mV.

    Args:
        parts: Time from the beat (s), width (s) and height (mV) of the waves.
    """
    time = SECONDS[:, None] - BEATS
    wave = sum(
        (height * np.exp(-0.5 * ((time - at) / width) ** 2)).sum(1) for at, width, height in parts
    )
    gains = np.array([0.7, 1.0, 0.3, -0.85, 0.2, 0.65, -0.8, -0.5, 0.3, 0.9, 1.2, 1.0])
    noise = np.random.default_rng(0).normal(0, 0.01, (12, 5000))
    return (gains[:, None] * wave + noise).astype(np.float32)


def test_each_beat_has_its_windows_in_order():
    windows = find_windows(make_ecg(P, *QRS, T))
    assert windows is not None
    assert (windows.beats, windows.other_beats) == (len(BEATS), 0)
    spans = windows.spans()
    for beat in BEATS[1:-1]:
        by_beat = [
            next(span for span in spans[name] if abs(sum(span) / 2 - beat - center) < 0.06)
            for name, center in (("P", -0.16), ("PR", -0.08), ("QRS", 0), ("ST", 0.1), ("T", 0.27))
        ]
        starts = [span[0] for span in by_beat]
        assert starts == sorted(starts)
        # Consecutive windows touch.
        assert [span[1] for span in by_beat[:-1]] == starts[1:]
        assert by_beat[0][0] < beat - 0.16 < by_beat[0][1]
        assert by_beat[2][0] < beat < by_beat[2][1]
        assert by_beat[4][0] < beat + 0.27 < by_beat[4][1]
    assert sum(windows.seconds().values()) == pytest.approx(10)


def test_without_p_waves_there_are_no_p_and_pr_windows():
    windows = find_windows(make_ecg(*QRS, T))
    assert windows is not None
    assert not windows.has_p
    assert windows.spans()["P"] == windows.spans()["PR"] == []
    assert len(windows.spans()["QRS"]) == len(BEATS)


def test_noise_has_no_windows():
    noise = np.random.default_rng(1).normal(0, 0.1, (12, 5000)).astype(np.float32)
    assert find_windows(noise) is None


def test_t_onsets_of_ludb_are_near_the_cardiologists_marks(ludb: Path):
    """The method was selected on odd record numbers; this test uses every fourth even one."""
    dataset = Ludb(ludb)
    ids = dataset.index().record_id.tolist()
    rows = [row for row, record in enumerate(ids) if record % 2 == 0][::4]
    analysis = analyze(np.stack([dataset.read(row) for row in rows]))
    found = analysis.waves.t.onset - BEFORE
    errors = []
    for number, row in enumerate(rows):
        beats = analysis.beats.position[analysis.beats.record == number]
        marks = [
            median_marked_t_onset(ludb / "data" / str(ids[row]), lead, beats) for lead in LEADS
        ]
        errors.append(2 * (found[number] - np.nanmedian(marks)))
    assert abs(np.mean(errors)) < 10
    assert np.mean(np.abs(errors)) < 20


def median_marked_t_onset(path: Path, lead: str, beats: np.ndarray) -> float:
    """Return the median number of samples from a beat to its annotated T onset, NaN without one."""
    annotation = wfdb.rdann(str(path), lead.lower())
    symbols = np.array(annotation.symbol)
    onsets = annotation.sample[:-1][(symbols[:-1] == "(") & (symbols[1:] == "t")]
    after = onsets[:, None] - beats
    distances = np.where(after > 0, after, np.inf).min(1) if len(onsets) else np.array([])
    distances = distances[np.isfinite(distances)]
    return float(np.median(distances)) if len(distances) else float("nan")


def test_lines_connect_the_samples_around_each_window():
    ecg = np.tile(np.array([0, 1, 9, 9, 4, 7, 7], np.float32), (12, 1))
    index = np.array([0, 0, 1, 1, 0, 2, 2])
    np.testing.assert_allclose(draw_lines(ecg, index)[0], [9, 9, 2, 3, 8, 4, 4])


def test_only_occlusion_of_the_qrs_changes_an_output_that_depends_on_the_qrs():
    ecg = np.zeros((12, 5000), np.float32)
    ecg[:, 1000:1020] = 1.0
    index = np.full(5000, WINDOWS.index(REST))
    index[990:1030], index[1100:1200] = WINDOWS.index("QRS"), WINDOWS.index("T")
    windows = WaveWindows(index, 1, 0, has_p=False, has_t=True)
    effects = occlude_windows(lambda batch: batch[:, 1].sum(-1), torch.from_numpy(ecg), windows)
    assert effects == {"P": 0, "PR": 0, "QRS": 20, "ST": 0, "T": 0, REST: 0}
