"""Accuracy and speed of the expert `measurements` on LUDB, compared with two beat detectors.

    python benchmarks/measurements.py --ludb data/ludb [--ptb-xl data/ptb-xl]

The cardiologists' marks are the reference. A mark in lead II counts as detected if a detected beat
is within 150 ms (ANSI/AAMI EC57). Only the time between the first and the last mark is evaluated,
because LUDB's first and last beats are often not annotated. Detection is also evaluated on records
with added artifacts. A wave has one error per record: its offset from the beat in the average beat,
minus the reference offset. The reference offset is the median distance of the marks from the
nearest detected beats, in lead II or as the median over leads. Settings were tuned on records with
odd numbers; errors of waves are reported for records with even numbers. Rates are per second of CPU
time.

With `--ptb-xl`, the heart rates of its first 500 records are compared with their rhythm statements
and with the heart rates of the other detectors.
"""

import argparse
import ast
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import wfdb
import wfdb.processing
from scipy.signal import butter, find_peaks, sosfiltfilt

from enecg.ecg_format import LEADS
from enecg.experts.measurements.analysis import Analysis, analyze
from enecg.experts.measurements.average_beat import BEFORE
from enecg.experts.measurements.measure import FEATURES, measure
from pipeline.datasets.ludb import Ludb
from pipeline.datasets.ptb_xl import PtbXl

TOLERANCE = 75
"""Maximum distance of a detected beat from a mark, in samples (150 ms)."""
WAVES = ("P onset", "P offset", "QRS onset", "QRS offset", "T onset", "T end")
INTERVALS = {
    "PR interval": ("P onset", "QRS onset"),
    "QRS duration": ("QRS onset", "QRS offset"),
    "QT interval": ("QRS onset", "T end"),
    "T duration": ("T onset", "T end"),
}
"""Start and end of each interval, as names from `WAVES`."""
BATCH = 64
PTB_XL_RECORDS = 500
RHYTHMS = ("SBRAD", "SR", "STACH")
"""Rhythm statements of PTB-XL: sinus bradycardia, sinus rhythm, sinus tachycardia."""


@dataclass(frozen=True)
class Marks:
    """Marks of one lead, as sample numbers at 500 Hz.

    Attributes:
        r: Peaks of the QRS complexes.
        rows: Positions of `WAVES`, one row per QRS complex; NaN if not marked.
    """

    r: np.ndarray
    rows: np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ludb", type=Path, required=True, help="folder of LUDB 1.0.1")
    parser.add_argument("--ptb-xl", type=Path, help="folder of PTB-XL 1.0.3")
    parser.add_argument(
        "--repeats", type=int, default=5, help="repetitions of the speed measurement"
    )
    arguments = parser.parse_args()
    data = Ludb(arguments.ludb)
    ids = data.index().record_id.tolist()
    ecgs = np.stack([data.read(row) for row in range(len(ids))])
    marks = [
        {lead: read_marks(arguments.ludb / "data" / str(number), lead) for lead in LEADS}
        for number in ids
    ]
    analysis = analyze(ecgs)
    report_detection(ecgs, marks, analysis)
    report_artifacts(ecgs, marks)
    tested = [row for row, number in enumerate(ids) if number % 2 == 0]
    for leads in (("II",), LEADS):
        report_waves(analysis, marks, tested, leads)
    report_p_waves(analysis, marks, tested)
    if arguments.ptb_xl:
        report_heart_rates(PtbXl(arguments.ptb_xl))
    report_rates(ecgs, arguments.repeats)


def read_marks(path: Path, lead: str) -> Marks:
    """Read the annotation of a lead: `(`, a peak (`p`, `N` or `t`) and `)` for each wave."""
    annotation = wfdb.rdann(str(path), lead.lower())
    waves: dict[str, list[tuple[float, float, float]]] = {"p": [], "N": [], "t": []}
    onset, peak = np.nan, None
    # A wave may lack its onset or its end.
    for sample, symbol in [*zip(annotation.sample, annotation.symbol, strict=True), (np.nan, "(")]:
        if symbol in waves:
            peak = (symbol, sample)
            continue
        if peak is not None:
            waves[peak[0]].append((onset, peak[1], sample if symbol == ")" else np.nan))
        onset, peak = (sample if symbol == "(" else np.nan), None
    beats = waves["N"]
    rows = []
    for number, (start, r, stop) in enumerate(beats):
        previous = beats[number - 1][1] if number else -np.inf
        following = beats[number + 1][1] if number + 1 < len(beats) else np.inf
        p = [wave for wave in waves["p"] if previous < wave[1] < r]
        t = [wave for wave in waves["t"] if r < wave[1] < following]
        p_onset, _, p_offset = p[-1] if p else (np.nan,) * 3
        t_onset, _, t_end = t[0] if t else (np.nan,) * 3
        rows.append((p_onset, p_offset, start, stop, t_onset, t_end))
    return Marks(np.array([beat[1] for beat in beats]), np.array(rows).reshape(-1, len(WAVES)))


def beats_of(analysis: Analysis, row: int) -> np.ndarray:
    """Return the positions of the beats of a record."""
    return analysis.beats.position[analysis.beats.record == row]


def report_detection(
    ecgs: np.ndarray, marks: Sequence[dict[str, Marks]], analysis: Analysis
) -> None:
    """Print the sensitivity and the errors of each beat detector."""
    print("| detector | sensitivity | positive predictive value | missed | false | RR, MAE ms |")
    print("|---|--:|--:|--:|--:|--:|")
    methods: dict[str, Callable[[int], np.ndarray]] = {
        "`measurements`": lambda row: beats_of(analysis, row),
        "`scipy.signal.find_peaks`, lead II": lambda row: detect_by_scipy(ecgs[row, 1]),
        "`wfdb.processing.xqrs_detect`, lead II": lambda row: detect_by_wfdb(ecgs[row, 1]),
    }
    for name, detect in methods.items():
        hits, missed, false, rr_errors = 0, 0, 0, []
        for row, leads in enumerate(marks):
            reference, found = leads["II"].r, detect(row)
            if len(reference) < 2:
                continue
            counts = count_beats(reference, found)
            hits, missed, false = hits + counts[0], missed + counts[1], false + counts[2]
            inside = found[
                (found >= reference[0] - TOLERANCE) & (found <= reference[-1] + TOLERANCE)
            ]
            true_rr = np.diff(reference).mean()
            rr = np.diff(inside).mean() if len(inside) > 1 else 0.0
            rr_errors.append(2 * abs(rr - true_rr))
        print(f"| {name} | {describe(hits, missed, false)} | {np.mean(rr_errors):.2f} |")
    print()


def report_artifacts(ecgs: np.ndarray, marks: Sequence[dict[str, Marks]]) -> None:
    """Print the sensitivity and the errors of the expert's beat detection with artifacts."""
    print("| artifact in each record | sensitivity | positive predictive value | missed | false |")
    print("|---|--:|--:|--:|--:|")
    for name, changed in add_artifacts(ecgs, [leads["II"].r for leads in marks]).items():
        analysis = analyze(changed.astype(np.float32))
        totals = np.sum(
            [
                count_beats(leads["II"].r, beats_of(analysis, row))
                for row, leads in enumerate(marks)
                if len(leads["II"].r) >= 2
            ],
            axis=0,
        )
        print(f"| {name} | {describe(*totals)} |")
    print()


def add_artifacts(ecgs: np.ndarray, marks: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Return copies of the records with artifacts, by description of the artifact."""
    rng = np.random.default_rng(0)
    spikes = ecgs.copy()
    for row, reference in enumerate(marks):
        positions = reference[reference >= 60] - 60
        spikes[row][:, positions] += 2
        spikes[row][:, positions + 1] += 0.6
    flat = ecgs.copy()
    flat[:, 6:9] = 0
    changed = {
        "none; voltages divided by 10": 0.1 * ecgs,
        "none; all leads inverted": -ecgs,
        "50 Hz, amplitude 0.3 mV": ecgs + 0.3 * np.sin(np.pi * np.arange(ecgs.shape[-1]) / 5),
        "pacemaker spikes of 2 mV, 120 ms before each mark": spikes,
        "flat leads V1 to V3": flat,
        "noise of 0.1 mV SD in all leads": ecgs + 0.1 * rng.standard_normal(ecgs.shape),
    }
    for deviation in (0.3, 1.0):
        bursts = ecgs.copy()
        for record in bursts:
            lead, start = rng.integers(len(LEADS)), rng.integers(500, 3500)
            record[lead, start : start + 1000] += deviation * rng.standard_normal(1000)
        changed[f"noise of {deviation:g} mV SD in one lead, for 2 s"] = bursts
    return changed


def count_beats(reference: np.ndarray, found: np.ndarray) -> tuple[int, int, int]:
    """Return the numbers of detected, missed and false beats of a record."""
    matched = match(reference, found)
    between = (found >= reference[0]) & (found <= reference[-1])
    false = int((between & ~np.isin(np.arange(len(found)), matched)).sum())
    return len(matched), len(reference) - len(matched), false


def describe(hits: int, missed: int, false: int) -> str:
    """Return table cells: sensitivity, positive predictive value, missed and false beats."""
    sensitivity, predictive = hits / (hits + missed), hits / (hits + false)
    return f"{sensitivity:.4f} | {predictive:.4f} | {missed} | {false}"


def match(reference: np.ndarray, found: np.ndarray) -> list[int]:
    """Return the indices in `found` of the beats that match a mark, each at most once."""
    matched: list[int] = []
    for mark in reference:
        if len(found):
            nearest = int(np.abs(found - mark).argmin())
            if abs(found[nearest] - mark) <= TOLERANCE and nearest not in matched:
                matched.append(nearest)
    return matched


def detect_by_scipy(lead: np.ndarray) -> np.ndarray:
    """Detect peaks of the band-passed lead above 40 % of its 99th percentile, 250 ms apart."""
    sections = butter(2, (5, 30), "bandpass", fs=500, output="sos")
    size = np.abs(sosfiltfilt(sections, lead))
    peaks, _ = find_peaks(size, height=0.4 * np.quantile(size, 0.99), distance=125)
    return peaks


def detect_by_wfdb(lead: np.ndarray) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peaks = wfdb.processing.xqrs_detect(lead.astype(float), fs=500, verbose=False)
    return np.asarray(peaks)


def reference_offsets(
    marks: dict[str, Marks], beats: np.ndarray, leads: Sequence[str]
) -> tuple[np.ndarray, float]:
    """Compute the median distance of each wave's marks from the detected beats.

    Args:
        marks: Marks of the record by lead.
        beats: Positions of the detected beats in samples.
        leads: Names of the leads to use.

    Returns:
        The distances in samples, and the share of marked QRS complexes with a marked P wave; both
        are medians over the leads.
    """
    by_lead, shares = [], []
    for lead in leads:
        mark = marks[lead]
        if not len(mark.r) or not len(beats):
            continue
        nearest = beats[np.abs(beats - mark.r[:, None]).argmin(1)]
        close = np.abs(nearest - mark.r) <= TOLERANCE
        if close.any():
            by_lead.append(nanmedian(mark.rows[close] - nearest[close, None]))
            shares.append(np.isfinite(mark.rows[close, 0]).mean())
    return nanmedian(np.array(by_lead)), float(np.median(shares))


def nanmedian(values: np.ndarray) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.nanmedian(values, axis=0)


def measured_offsets(analysis: Analysis, row: int) -> np.ndarray:
    """Return the offsets of `WAVES` from the beat in samples; NaN for missing waves."""
    waves = analysis.waves
    p, qrs, t = waves.p, waves.qrs, waves.t
    found = (waves.has_p, waves.has_p, True, True, waves.has_t, waves.has_t)
    positions = (p.onset, p.offset, qrs.onset, qrs.offset, t.onset, t.end)
    return np.array(
        [
            position[row] - BEFORE if flag is True or flag[row] else np.nan
            for position, flag in zip(positions, found, strict=True)
        ]
    )


def report_waves(
    analysis: Analysis,
    marks: Sequence[dict[str, Marks]],
    rows: Sequence[int],
    leads: Sequence[str],
) -> None:
    """Print the errors of the waves relative to the marks."""
    errors = []
    for row in rows:
        reference, p_share = reference_offsets(marks[row], beats_of(analysis, row), leads)
        error = 2 * (measured_offsets(analysis, row) - reference)
        error[:2] = np.where(p_share >= 0.5, error[:2], np.nan)
        errors.append(error)
    name = "median of the leads" if len(leads) > 1 else f"lead {leads[0]}"
    print(f"| reference: {name} | records | mean ± SD, ms | median | mean absolute |")
    print("|---|--:|--:|--:|--:|")
    table = np.array(errors)
    columns = dict(zip(WAVES, table.T, strict=True))
    for interval, (start, stop) in INTERVALS.items():
        columns[interval] = columns[stop] - columns[start]
    for wave, column in columns.items():
        known = column[np.isfinite(column)]
        print(
            f"| {wave} | {len(known)} | {known.mean():+.1f} ± {known.std():.1f} "
            f"| {np.median(known):+.0f} | {np.abs(known).mean():.1f} |"
        )
    print()


def report_p_waves(
    analysis: Analysis, marks: Sequence[dict[str, Marks]], rows: Sequence[int]
) -> None:
    """Print how many records with and without marked P waves have detected ones."""
    shares = [reference_offsets(marks[row], beats_of(analysis, row), LEADS)[1] for row in rows]
    marked = np.array(shares) >= 0.5
    found = analysis.waves.has_p[list(rows)]
    print(
        f"P waves found: {found[marked].sum()} of {marked.sum()} records with P waves, "
        f"{found[~marked].sum()} of {(~marked).sum()} records without P waves.\n"
    )


def report_heart_rates(data: PtbXl) -> None:
    """Print the heart rates by rhythm statement, and their differences from other detectors."""
    rows = range(min(PTB_XL_RECORDS, len(data.index().record_id)))
    ecgs = np.stack([data.read(row) for row in rows])
    names = [feature.name for feature in FEATURES]
    heart_rate = measure(ecgs)[:, names.index("heart_rate")]
    statements = [set(ast.literal_eval(codes)) for codes in data.labels()["scp_codes"][: len(ecgs)]]
    print("| statement | records | lowest heart rate, 1/min | median | highest |")
    print("|---|--:|--:|--:|--:|")
    for rhythm in RHYTHMS:
        own = heart_rate[[rhythm in codes for codes in statements]]
        low, median, high = np.quantile(own, (0, 0.5, 1))
        print(f"| {rhythm} | {len(own)} | {low:.1f} | {median:.1f} | {high:.1f} |")
    print("\n| detector | median difference, 1/min | records over 2/min |\n|---|--:|--:|")
    for name, detect in (
        ("`scipy.signal.find_peaks`, lead II", detect_by_scipy),
        ("`wfdb.processing.xqrs_detect`, lead II", detect_by_wfdb),
    ):
        beats = [detect(ecg[1]) for ecg in ecgs]
        # A record with fewer than two beats has no heart rate.
        rates = [30_000 / np.diff(found).mean() if len(found) > 1 else np.inf for found in beats]
        difference = np.abs(np.array(rates) - heart_rate)
        print(f"| {name} | {np.median(difference):.2f} | {(difference > 2).sum()} |")
    print()


def report_rates(ecgs: np.ndarray, repeats: int) -> None:
    """Print the records per second of CPU time of each method."""
    methods: dict[str, tuple[int, Callable[[np.ndarray], object]]] = {
        f"`measurements`, {len(FEATURES)} features, batches of {BATCH}": (BATCH, measure),
        "`measurements`, one record at a time": (1, measure),
        "beats and waves only": (BATCH, analyze),
        "`scipy.signal.find_peaks`, lead II": (1, lambda ecg: detect_by_scipy(ecg[0, 1])),
        "`wfdb.processing.xqrs_detect`, lead II": (1, lambda ecg: detect_by_wfdb(ecg[0, 1])),
    }
    rates: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(repeats):
        for name, (size, function) in methods.items():
            count = BATCH if size == BATCH else 16
            batches = [ecgs[start : start + size] for start in range(0, count, size)]
            started = time.process_time()
            for batch in batches:
                function(batch)
            rates[name].append(count / (time.process_time() - started))
    print("| method | records per s of CPU time |\n|---|--:|")
    for name, rounds in rates.items():
        print(f"| {name} | {np.median(rounds):,.0f} |")


if __name__ == "__main__":
    main()
