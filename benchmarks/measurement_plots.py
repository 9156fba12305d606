"""Plots of the LUDB records whose beats and RR intervals differ most from the cardiologists' marks.

    python -m benchmarks measurement_plots --ludb data/ludb --out plots

Records are ordered by missed and false beats, then by the error of the mean RR interval, as
`benchmarks/measurements.py` computes them. A plot shows the 12 leads on ECG paper, and vertical
lines at the marks in lead II (green) and at the detected beats (red, dashed). The plots contain
real ECGs, so the license of LUDB applies to them.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.measurements import TOLERANCE, Marks, beats_of, count_beats, match, read_marks
from enecg.ecg_format import SAMPLE_RATE_HZ
from enecg.experts.measurements.analysis import analyze
from pipeline.datasets.ludb import Ludb
from pipeline.report.ecg_plot import MM_PER_SECOND, PULSE_MM, plot_ecg

MILLISECONDS = 1000 / SAMPLE_RATE_HZ


@dataclass(frozen=True)
class RecordErrors:
    """Errors of the beats of one record.

    Attributes:
        row: Row of the record in the index.
        missed: Marks without a detected beat.
        false: Detected beats without a mark, between the first and the last mark.
        rr_error: Absolute error of the mean RR interval in ms, where the mean of fewer than two
            beats is 0.
        largest_distance: Largest absolute difference between a beat's distance from its mark and
            the median distance of the record, in ms; 0 if no beat matches a mark.
        found: Positions of the detected beats in samples.
    """

    row: int
    missed: int
    false: int
    rr_error: float
    largest_distance: float
    found: np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ludb", type=Path, required=True, help="folder of LUDB 1.0.1")
    parser.add_argument("--out", type=Path, required=True, help="folder for the plots")
    parser.add_argument("--records", type=int, default=10, help="number of records")
    arguments = parser.parse_args()
    data = Ludb(arguments.ludb)
    ids = data.index().record_id.tolist()
    diagnoses = data.labels()["diagnosis"].tolist()
    ecgs = np.stack([data.read(row) for row in range(len(ids))])
    marks = [read_marks(arguments.ludb / "data" / str(number), "II") for number in ids]
    analysis = analyze(ecgs)
    errors = [compare(row, mark, beats_of(analysis, row)) for row, mark in enumerate(marks)]
    errors.sort(key=lambda record: (record.missed + record.false, record.rr_error), reverse=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    print(
        "| record | diagnosis | beats | missed | false | RR error, ms "
        "| largest deviation from the median distance, ms |"
    )
    print("|--:|---|--:|--:|--:|--:|--:|")
    for record in errors[: arguments.records]:
        row, number = record.row, ids[record.row]
        print(
            f"| {number} | {diagnoses[row]} | {len(record.found)} | {record.missed} "
            f"| {record.false} | {record.rr_error:.2f} | {record.largest_distance:.0f} |"
        )
        plot(ecgs[row], marks[row].r, record, arguments.out / f"{number}.png")


def compare(row: int, marks: Marks, found: np.ndarray) -> RecordErrors:
    """Return the errors of the detected beats of a record."""
    reference = marks.r
    matched = match(reference, found)
    _, missed, false = count_beats(reference, found)
    inside = found[(found >= reference[0] - TOLERANCE) & (found <= reference[-1] + TOLERANCE)]
    rr = np.diff(inside).mean() if len(inside) > 1 else 0.0
    nearest = np.abs(found[matched] - reference[:, None]).argmin(0)
    distances = found[matched] - reference[nearest]
    return RecordErrors(
        row,
        missed,
        false,
        MILLISECONDS * abs(rr - np.diff(reference).mean()),
        MILLISECONDS * float(np.abs(distances - np.median(distances)).max()) if matched else 0.0,
        found,
    )


def plot(ecg: np.ndarray, marks: np.ndarray, errors: RecordErrors, path: Path) -> None:
    """Plot a record with its marks and detected beats."""
    error = (
        f"RR error {errors.rr_error:.2f} ms, largest deviation from the median distance "
        f"{errors.largest_distance:.0f} ms"
    )
    figure = plot_ecg(ecg, title=f"{path.stem}: {error}")
    (axes,) = figure.axes
    lines = ((marks, "#2e8b57", "-"), (errors.found, "#c0392b", (0, (2, 3))))
    for positions, color, style in lines:
        for position in positions:
            x = PULSE_MM + position / SAMPLE_RATE_HZ * MM_PER_SECOND
            axes.axvline(x, color=color, linestyle=style, linewidth=0.8)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
