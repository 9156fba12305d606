"""Time and memory of the label step as the lab table grows, compared with pandas.

    python benchmarks/labels.py --folder /tmp/bench-labels          # 5, 10 and 20 million rows

The benchmark writes tables of MIMIC-IV's size (800,035 ECGs, 161,352 patients) and a lab table that
grows by appending rows. The lab table has all of MIMIC-IV's columns; 2 % of its rows are potassium
results, at times near those of the ECGs. EnECG and pandas compute the record index and the labels,
each in a separate process. pandas reads only the required columns of the lab table, in chunks of a
million rows, and parses the times after filtering. The benchmark fails if the numbers of labels
differ. It prints a Markdown table and, without `--keep`, removes the folder.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks._ratios import report_ratio
from pipeline.mimic_codes import (
    POTASSIUM_ITEMS,
    POTASSIUM_REFERENCE_MMOL_L,
    REPORT_LINES,
    UNMEASURED,
)

RECORDS, PATIENTS = 800_035, 161_352
BLOCK = 1_000_000
"""Rows of the lab table that are written at a time."""
POTASSIUM_FRACTION = 0.02
"""Fraction of lab rows with a potassium result."""
CHUNK = 1_000_000
"""Rows of the lab table that pandas reads at a time."""
START = np.datetime64("2130-01-01T00:00:00", "s")
"""Time of the earliest ECG."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--millions", type=int, nargs="+", default=[5, 10, 20])
    parser.add_argument("--keep", action="store_true", help="keep the tables")
    parser.add_argument("--step", choices=STEPS, help="run one step on existing tables")
    arguments = parser.parse_args()
    if arguments.step:
        # Import before the timer starts.
        import pipeline.labels  # noqa: F401

        began = time.perf_counter()
        found = STEPS[arguments.step](arguments.folder)
        seconds = time.perf_counter() - began
        # Do not use getrusage, whose peak is at least that of the parent process.
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        peak = 1024 * int(status.partition("VmHWM:")[2].split()[0])
        print(json.dumps({"seconds": seconds, "peak": peak, "found": found}))
        return
    if arguments.folder.exists():
        parser.error(f"{arguments.folder} exists; pass a new folder, which is removed at the end.")
    arguments.folder.mkdir(parents=True)
    try:
        measure(arguments.folder, sorted(arguments.millions))
    finally:
        if not arguments.keep:
            shutil.rmtree(arguments.folder)


def measure(folder: Path, millions: list[int]) -> None:
    """Print a table of time and memory for growing lab tables."""
    began = time.perf_counter()
    ecgs = write_small_tables(folder)
    print(f"Small tables written in {time.perf_counter() - began:.0f} s.\n", flush=True)
    print("| step | lab rows | method | seconds | lab rows/s | peak MB | relative to pandas |")
    print("|---|--:|---|--:|--:|--:|--:|")
    compare("index", folder, 0)
    rows = 0
    for wanted in millions:
        while rows < wanted * 1_000_000:
            append_labs(folder / "hosp" / "labevents.csv", ecgs, rows)
            rows += BLOCK
        compare("labels", folder, rows)
    size = (folder / "hosp" / "labevents.csv").stat().st_size
    print(f"\nThe largest lab table has {size / 1e9:.1f} GB.")


def compare(step: str, folder: Path, rows: int) -> None:
    """Run a step with pandas and with EnECG, and print a row for each."""
    results = {method: run(f"{step}-{method}", folder) for method in ("pandas", "enecg")}
    assert results["enecg"]["found"] == results["pandas"]["found"], results
    for method, result in results.items():
        rate = f"{rows / result['seconds']:,.0f}" if rows else ""
        times = results["pandas"]["seconds"] / result["seconds"]
        memory = result["peak"] / results["pandas"]["peak"]
        print(
            f"| {step} | {rows:,} | {method} | {result['seconds']:.1f} | {rate} "
            f"| {result['peak'] / 1e6:,.0f} "
            f"| {times:.1f} x as fast, {memory:.2f} x the memory |",
            flush=True,
        )
    case = f"{step}, {rows:,} lab rows"
    report_ratio(case, times, "speed", "pandas")
    report_ratio(case, memory, "peak memory", "pandas")


def run(step: str, folder: Path) -> dict[str, float]:
    """Run a step in a new process; return its seconds, peak memory in bytes, and counts."""
    command = [sys.executable, __file__, "--folder", str(folder), "--step", step]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def index_enecg(folder: Path) -> int:
    from pipeline.datasets.mimic_iv_ecg import MimicIvEcg

    return len(MimicIvEcg(folder).index())


def index_pandas(folder: Path) -> int:
    return len(pd.read_csv(folder / "record_list.csv", parse_dates=["ecg_time"]))


def labels_enecg(folder: Path) -> list[int]:
    from pipeline.datasets.mimic_iv_ecg import MimicIvEcg
    from pipeline.labels import make_labels

    made = make_labels(MimicIvEcg(folder), folder / "labels-enecg.parquet")
    return count(made.labels.table)


def labels_pandas(folder: Path) -> list[int]:
    """Compute the same labels with plain pandas."""
    records = pd.read_csv(
        folder / "record_list.csv",
        usecols=["subject_id", "study_id", "ecg_time"],
        parse_dates=["ecg_time"],
    )
    reports = [f"report_{number}" for number in range(REPORT_LINES)]
    machine = pd.read_csv(
        folder / "machine_measurements.csv",
        usecols=["study_id", "rr_interval", *reports],
        dtype=dict.fromkeys(reports, "string"),
    ).drop_duplicates("study_id")
    machine["diagnosis"] = machine["report_0"]
    for name in reports[1:]:
        machine["diagnosis"] = machine["diagnosis"].fillna(machine[name])
    machine["rr_interval"] = machine["rr_interval"].where(machine["rr_interval"].between(200, 3000))
    patients = pd.read_csv(
        folder / "hosp" / "patients.csv",
        usecols=["subject_id", "gender", "anchor_age", "anchor_year"],
    ).drop_duplicates("subject_id")
    kept = []
    for chunk in pd.read_csv(
        folder / "hosp" / "labevents.csv",
        usecols=["subject_id", "itemid", "charttime", "valuenum", "flag"],
        dtype={"flag": "string", "charttime": "string"},
        chunksize=CHUNK,
    ):
        kept.append(chunk[chunk["itemid"].isin(POTASSIUM_ITEMS) & chunk["valuenum"].notna()])
    labs = pd.concat(kept)
    labs["charttime"] = pd.to_datetime(labs["charttime"]).astype(records["ecg_time"].dtype)
    labs["potassium"] = labs["flag"].notna().astype(float)
    labs = labs.sort_values("charttime", kind="stable")
    labs = labs.drop_duplicates(["subject_id", "charttime"])
    table = records.merge(machine[["study_id", "rr_interval", "diagnosis"]], "left", "study_id")
    table = table.merge(patients, "left", "subject_id")
    table["age"] = table["anchor_age"] + table["ecg_time"].dt.year - table["anchor_year"]
    table["sex"] = table["gender"].map({"M": 1.0, "F": 0.0})
    table = pd.merge_asof(
        table.sort_values("ecg_time", kind="stable"),
        labs[["subject_id", "charttime", "potassium", "valuenum"]],
        left_on="ecg_time",
        right_on="charttime",
        by="subject_id",
        direction="forward",
        tolerance=pd.Timedelta(hours=1),
    )
    columns = ["study_id", "subject_id", "rr_interval", "age", "sex", "potassium", "valuenum"]
    table[[*columns, "diagnosis"]].to_parquet(folder / "labels-pandas.parquet")
    return count(table)


def count(table: pd.DataFrame) -> list[int]:
    """Return the number of records with each label, and of those with abnormal potassium."""
    names = ("rr_interval", "age", "sex", "potassium", "diagnosis")
    return [*(int(table[name].notna().sum()) for name in names), int(table["potassium"].sum())]


STEPS: dict[str, Callable[[Path], object]] = {
    "index-enecg": index_enecg,
    "index-pandas": index_pandas,
    "labels-enecg": labels_enecg,
    "labels-pandas": labels_pandas,
}


def write_small_tables(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Write record list, machine measurements and patients; return subject and time per ECG."""
    random = np.random.default_rng(0)
    (folder / "hosp").mkdir()
    subjects = 10_000_000 + np.arange(PATIENTS) * 60
    subject = np.sort(np.concatenate([subjects, random.choice(subjects, RECORDS - PATIENTS)]))
    study = 40_000_000 + random.permutation(RECORDS)
    when = START + random.integers(0, 20 * 365 * 86_400, RECORDS)
    times, studies = format_times(when), pa.array(study).cast(pa.string())
    people = pa.array(subject).cast(pa.string())
    group = pc.utf8_slice_codeunits(people, 0, 4)
    path = pc.binary_join_element_wise("files/p", group, "/p", people, "/s", studies, "/", "")
    path = pc.binary_join_element_wise(path, studies, "")
    write(
        folder / "record_list.csv",
        {"subject_id": subject, "study_id": study, "file_name": study, "ecg_time": times},
        {"path": path},
    )
    lines = np.array([f"Sinus rhythm of the kind {kind}" for kind in range(120)])
    kinds = np.minimum(random.geometric(0.08, RECORDS), 120) - 1
    reports: dict[str, object] = {"report_0": lines[kinds], "report_1": lines[kinds[::-1]]}
    reports |= dict.fromkeys((f"report_{number}" for number in range(2, REPORT_LINES)), "")
    rr = random.integers(350, 1500, RECORDS)
    rr[random.random(RECORDS) < 0.01] = UNMEASURED
    write(
        folder / "machine_measurements.csv",
        {"subject_id": subject, "study_id": study, "cart_id": study, "ecg_time": times},
        reports,
        {"bandwidth": "0.005-150 Hz", "filtering": "60 Hz notch Baseline filter"},
        {"rr_interval": rr, "p_onset": 40, "p_end": 128, "qrs_onset": 170, "qrs_end": 258},
        {"t_end": 518, "p_axis": 81, "qrs_axis": 77, "t_axis": 79},
    )
    write(
        folder / "hosp" / "patients.csv",
        {"subject_id": subjects, "gender": np.array(["F", "M"])[random.integers(0, 2, PATIENTS)]},
        {"anchor_age": random.integers(18, 90, PATIENTS), "anchor_year": 2130},
        {"anchor_year_group": "2011 - 2013", "dod": ""},
    )
    return subject, when


def append_labs(path: Path, ecgs: tuple[np.ndarray, np.ndarray], first: int) -> None:
    """Append `BLOCK` lab rows, numbered from `first`, within six hours of random ECGs."""
    random = np.random.default_rng([1, first])
    subject, when = ecgs
    ecg = random.integers(0, RECORDS, BLOCK)
    charted = format_times(when[ecg] + random.integers(-6 * 3600, 6 * 3600, BLOCK) // 60 * 60)
    items = random.integers(50_800, 50_821, BLOCK)
    wanted = random.random(BLOCK) < POTASSIUM_FRACTION
    items[wanted] = random.choice(POTASSIUM_ITEMS, int(wanted.sum()))
    value = random.normal(4.2, 0.6, BLOCK).round(1)
    low, high = POTASSIUM_REFERENCE_MMOL_L
    abnormal = (value < low) | (value > high)
    comments = np.array(["", "___", '"HEMOLYZED, MODERATELY.\nMAY BE AFFECTED."', "IMMEDIATE."])
    number = np.arange(first, first + BLOCK)
    write(
        path,
        {"labevent_id": number, "subject_id": subject[ecg], "hadm_id": 20_000_000 + ecg},
        {"specimen_id": 30_000_000 + number, "itemid": items, "order_provider_id": "P12ABC"},
        {"charttime": charted, "storetime": charted, "value": value, "valuenum": value},
        {"valueuom": "mEq/L", "ref_range_lower": low, "ref_range_upper": high},
        {"flag": np.where(abnormal, "abnormal", ""), "priority": "ROUTINE"},
        {"comments": comments[random.choice(4, BLOCK, p=[0.6, 0.2, 0.1, 0.1])]},
    )


def format_times(times: np.ndarray) -> pa.Array:
    return pc.strftime(pa.array(times.astype("datetime64[s]")), "%Y-%m-%d %H:%M:%S")


def write(path: Path, *columns: dict[str, object]) -> None:
    """Append rows to a CSV table; values that need quotes must contain them."""
    by_name = {name: value for group in columns for name, value in group.items()}
    size = max(len(value) for value in by_name.values() if isinstance(value, np.ndarray))
    fields = [as_text(value, size) for value in by_name.values()]
    comma, end = (pa.scalar(mark, pa.large_string()) for mark in (",", "\n"))
    rows = pc.binary_join_element_wise(*fields, comma)
    rows = pc.binary_join_element_wise(rows, end, pa.scalar("", pa.large_string()))
    with path.open("ab") as file:
        if file.tell() == 0:
            file.write((",".join(by_name) + "\n").encode())
        for chunk in rows.chunks if isinstance(rows, pa.ChunkedArray) else [rows]:
            file.write(chunk.buffers()[2])


def as_text(value: object, size: int) -> pa.Array:
    """Convert a column to text; repeat a single value `size` times."""
    if not isinstance(value, np.ndarray | pa.Array):
        return pa.repeat(str(value), size).cast(pa.large_string())
    array = pa.array(value)
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    return array.cast(pa.large_string())


if __name__ == "__main__":
    main()
