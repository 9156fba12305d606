"""Tables of MIMIC give the same rows and labels for any file layout and any scan settings."""

import csv
import io
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from label_tables import LAB_HEADER, write

from enecg.errors import UserError
from pipeline.datasets.label_rules import Criterion, LabelRules
from pipeline.datasets.mimic_tables import csv_scan, dask_scheduler, engine
from pipeline.datasets.mimic_tables.csv_scan import SkippedRows, scan_csv
from pipeline.datasets.mimic_tables.dask_scheduler import connect_scheduler, run_on_scheduler
from pipeline.datasets.mimic_tables.engine import fetch, open_engine
from pipeline.datasets.mimic_tables.potassium import read_potassium_labels

PATIENTS = 40
FEW_ITEMS, MANY_ITEMS = (50971, 50822), tuple(range(50960, 50980))
RULES = [LabelRules(), LabelRules(match="nearest", window_hours=30, abnormal="range")]

Layout = Callable[[int, int], None]


@pytest.fixture(scope="module")
def ecgs() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    # Before 1970, seconds since the epoch are negative.
    times = pd.Timestamp("1960-01-01") + pd.to_timedelta(rng.integers(0, 400, 300), "h")
    return pd.DataFrame(
        {
            "record_id": np.arange(300),
            "patient_id": rng.integers(0, PATIENTS, 300),
            "ecg_time": times.astype("datetime64[s]"),
        }
    )


@pytest.fixture(scope="module")
def text() -> str:
    """Return a table of 4,000 rows; comments contain line ends, quotes and text like a row."""
    rng = np.random.default_rng(1)
    row = ",".join(["50971"] * 16)
    comments = (
        '"two\nlines"',
        '"5,6,,\n50971,50971 more"',
        f'"{row}\n{row}\n{row}"',
        '"a ""word"", twice\n\n"',
        "___",
        "",
    )
    rows = []
    for n in range(4000):
        item = rng.choice([50971, 50822, 50983])
        time = pd.Timestamp("1960-01-01") + pd.Timedelta(hours=int(rng.integers(0, 400)))
        value = round(float(rng.normal(4.4, 0.8)), 1)
        flag = "abnormal" if rng.random() < 0.2 else ""
        rows.append(
            f"{n},{rng.integers(0, PATIENTS)},,{n},{item},,{time},{time},{value},{value},mEq/L,"
            f"3.3,5.1,{flag},STAT,{rng.choice(comments)}\n"
        )
    return LAB_HEADER + "".join(rows)


@pytest.fixture
def layout(monkeypatch: pytest.MonkeyPatch) -> Layout:
    """Return a function that sets the number of threads and the bytes each thread reads at once."""

    def set_layout(threads: int, buffer_bytes: int) -> None:
        monkeypatch.setattr(engine, "THREADS", threads)
        monkeypatch.setattr(csv_scan, "BUFFER_BYTES", buffer_bytes)
        monkeypatch.setattr(csv_scan, "MAX_ROW_BYTES", min(buffer_bytes, csv_scan.MAX_ROW_BYTES))

    return set_layout


SEEDS = [seed if seed < 4 else pytest.param(seed, marks=pytest.mark.slow) for seed in range(12)]
LAYOUTS = [(1, 2500), (2, 2500), (4, 10_000), (2, 60_000), (4, 8 << 20)]


def bits(labels: pd.DataFrame) -> bytes:
    numbers = labels[["potassium", "potassium_mmol_l"]].to_numpy().tobytes()
    return numbers + labels["potassium_absent"].cat.codes.to_numpy().tobytes()


@pytest.mark.parametrize("rules", RULES, ids=["first", "nearest"])
def test_labels_do_not_depend_on_threads_blocks_or_compression(
    ecgs: pd.DataFrame, text: str, tmp_path: Path, rules: LabelRules, layout: Layout
) -> None:
    found = set()
    for name in ("labevents.csv", "labevents.csv.gz"):
        path = write(tmp_path / name, text)
        for threads, buffer_bytes in LAYOUTS:
            layout(threads, buffer_bytes)
            labels, skipped = read_potassium_labels(path, ecgs, rules)
            assert all("contradicts" in description for description in +skipped)
            assert labels["potassium"].notna().any()
            found.add(bits(labels))
    assert len(found) == 1


@pytest.mark.parametrize(
    ("criterion", "items"),
    [
        ("flag", FEW_ITEMS),
        ("range", MANY_ITEMS),
        pytest.param("flag", MANY_ITEMS, marks=pytest.mark.slow),
        pytest.param("range", FEW_ITEMS, marks=pytest.mark.slow),
    ],
)
def test_earlier_of_tied_rows_is_used_in_any_layout(
    tmp_path: Path, items: tuple[int, ...], criterion: Criterion, layout: Layout
) -> None:
    patients = np.arange(4_000)
    time = "1960-01-01 12:00:00"
    rows = [
        f"0,{n},,0,50971,,{time},{time},{value},{value},mEq/L,3.3,5.1,,STAT,\n"
        for value in (4.0, 4.5, 5.0)
        for n in patients
    ]
    path = write(tmp_path / "labevents.csv", LAB_HEADER + "".join(rows))
    times = np.full(len(patients), np.datetime64(time, "s"))
    ecgs = pd.DataFrame({"record_id": patients, "patient_id": patients, "ecg_time": times})
    rules = LabelRules(potassium_items=items, abnormal=criterion)
    for threads, buffer_bytes in LAYOUTS:
        layout(threads, buffer_bytes)
        labels, _ = read_potassium_labels(path, ecgs, rules)
        assert (labels["potassium_mmol_l"] == 4.0).all()


@pytest.mark.parametrize(
    ("scheduler", "rules"),
    [
        ("threads", RULES[0]),
        ("processes", RULES[1]),
        ("synchronous", RULES[0]),
        pytest.param("threads", RULES[1], marks=pytest.mark.slow),
        pytest.param("processes", RULES[0], marks=pytest.mark.slow),
        pytest.param("synchronous", RULES[1], marks=pytest.mark.slow),
    ],
)
def test_dask_gives_the_same_labels(
    ecgs: pd.DataFrame, text: str, tmp_path: Path, rules: LabelRules, scheduler: str
) -> None:
    path = write(tmp_path / "labevents.csv", text + "9,too,few\n")
    local = read_potassium_labels(path, ecgs, rules)
    distributed = run_on_scheduler(scheduler, read_potassium_labels, path, ecgs, rules)
    assert bits(distributed[0]) == bits(local[0])
    assert distributed[1] == local[1]
    assert local[1]["labevents.csv: rows whose number of fields differs, skipped"] == 1


def test_selected_result_matches_exhaustive_search(
    ecgs: pd.DataFrame, text: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "labevents.csv", text)
    rows = pd.read_csv(path, parse_dates=["charttime"])
    rows = rows[rows["itemid"].isin([50971, 50822])]
    for rules in RULES:
        labels, _ = read_potassium_labels(path, ecgs, rules)
        for ecg, got in zip(ecgs.itertuples(), labels["potassium_mmol_l"], strict=True):
            delay = (rows["charttime"] - ecg.ecg_time)[rows["subject_id"] == ecg.patient_id]
            delay = delay.dt.total_seconds() / 3600
            low = -rules.window_hours if rules.match == "nearest" else 0
            delay = delay[(delay >= low) & (delay <= rules.window_hours)].abs()
            if delay.empty:
                assert np.isnan(got)
            else:
                assert got == rows["valuenum"][delay[delay == delay.min()].index[0]]


@pytest.mark.parametrize("name", ["table.csv", "table.csv.gz"])
@pytest.mark.parametrize("seed", SEEDS)
def test_invalid_rows_are_skipped_and_counted_in_any_layout(
    tmp_path: Path, name: str, seed: int, layout: Layout
) -> None:
    rows, ragged = random_rows(seed)
    path = write(tmp_path / name, "".join(rows))
    width = len(rows[0].split(","))
    parsed = csv.reader(io.StringIO("".join(rows[1:])))
    expected = [[field or None for field in row] for row in parsed if len(row) == width]
    for threads, buffer_bytes in LAYOUTS:
        layout(threads, buffer_bytes)
        found, skipped = scan(path)
        assert found == expected
        assert sum(skipped.values()) == ragged


@pytest.mark.parametrize("name", ["table.csv", "table.csv.gz"])
@pytest.mark.parametrize("seed", SEEDS)
def test_unclosed_quote_is_reported_with_its_line_in_any_layout(
    tmp_path: Path, name: str, seed: int, layout: Layout
) -> None:
    rows, _ = random_rows(seed)
    position = random.Random(seed).choice([1, len(rows) // 2, len(rows) - 1])
    fields = rows[0].strip().split(",")
    rows[position] = ",".join([*fields[:-1], '"open']) + "\n"
    # Remove later rows whose last field starts with a line end: their quote would close the field.
    # For odd seeds, remove all later rows with quotes.
    unwanted = '"' if seed % 2 else ',"\n'
    rows[position + 1 :] = [row for row in rows[position + 1 :] if unwanted not in row]
    line = "".join(rows[:position]).count("\n") + 1
    path = write(tmp_path / name, "".join(rows))
    for threads, buffer_bytes in LAYOUTS:
        layout(threads, buffer_bytes)
        message = rf"{name} has a quote that is not closed in line {line}, [^\n]+\.$"
        with pytest.raises(UserError, match=message):
            scan(path)


def random_rows(seed: int) -> tuple[list[str], int]:
    """Return a header and its rows, and the number of rows with a wrong number of fields."""
    rng = random.Random(seed)
    width = rng.choice([2, 4, 16])
    row = ",".join(["7"] * width)
    last_fields = (
        '"HEMOLYZED, MODERATELY.\nMAY BE AFFECTED."',
        '"a ""word"", twice\n\n"',
        f'"{row}\n{row}\n{row}"',
        f'"\n{row}"',
        '""""',
        "___",
        "",
    )
    rows = [",".join(f"column{n}" for n in range(width)) + "\n"]
    for _ in range(rng.choice([20, 300, 1000])):
        numbers = [str(rng.randrange(1000)) for _ in range(width - 1)]
        rows.append(",".join([*numbers, rng.choice(last_fields)]) + "\n")
    ragged = rng.choice([0, 0, 1, 5])
    for _ in range(ragged):
        fields = ["8"] * rng.choice([width - 1, width + 1, width + 9])
        rows.insert(rng.randrange(1, len(rows) + 1), ",".join(fields) + "\n")
    return rows, ragged


def scan(path: Path) -> tuple[list[list[str | None]], SkippedRows]:
    skipped = SkippedRows()
    with open_engine() as connection:
        columns = csv_scan.read_header(path)
        found = scan_csv(
            connection, path, columns, skipped, lambda: fetch(connection, "SELECT * FROM csv")
        )
    return [list(row.values()) for row in found.to_pylist()], skipped


@pytest.mark.parametrize("ends", [("\n", "\r\n"), ("\r\n", "\n"), ("\n", "\r"), ("\r", "\n")])
def test_mixed_line_ends_are_reported(tmp_path: Path, ends: tuple[str, str]) -> None:
    path = write(tmp_path / "table.csv", f"a,b{ends[0]}1,2{ends[0]}3,4{ends[1]}5,6{ends[0]}")
    with pytest.raises(UserError, match=r"table.csv is not a valid [^\n]*line ends [^\n]+\.$"):
        scan(path)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
@pytest.mark.parametrize("last", [True, False])
def test_line_ends_byte_order_mark_and_empty_lines_do_not_change_the_rows(
    tmp_path: Path, end: str, start: str, last: bool
) -> None:
    lines = ["a,b", "1,2", "", "", '"x\ny\r\nz",4', "5,", *([""] if last else [])]
    path = write(tmp_path / "table.csv", start + end.join(lines))
    assert scan(path) == ([["1", "2"], ["x\ny\r\nz", "4"], ["5", None]], SkippedRows())


@pytest.mark.parametrize("folder", ["[a-z]*?", "flag=1", "it's", "a b%20"])
def test_name_of_a_folder_is_not_expanded_as_a_pattern(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir()
    path = write(tmp_path / folder / "table.csv", "a,flag\n1,2\n")
    assert scan(path)[0] == [["1", "2"]]


def test_gzipped_table_may_have_several_members(tmp_path: Path) -> None:
    path = write(tmp_path / "table.csv.gz", "a,b\n1,2\n")
    more = write(tmp_path / "more.csv.gz", "3,4\n")
    path.write_bytes(path.read_bytes() + more.read_bytes())
    assert scan(path)[0] == [["1", "2"], ["3", "4"]]


def test_wrong_gzip_checksum_of_a_table_with_an_invalid_row_is_a_user_error(tmp_path: Path) -> None:
    path = write(tmp_path / "table.csv.gz", "a,b\n1,2,3\n" + "1,2\n" * 100_000)
    data = bytearray(path.read_bytes())
    data[-8] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"table\.csv\.gz is not a valid MIMIC table"):
        scan(path)


def test_progress_increases_and_an_interrupt_stops_the_scan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ecgs: pd.DataFrame
) -> None:
    monkeypatch.setattr(engine, "PROGRESS_SECONDS", 0.001)
    path = write(tmp_path / "labevents.csv", LAB_HEADER + ("7," * 15 + "7\n") * 1_000_000)
    done: list[float] = []
    read_potassium_labels(path, ecgs, LabelRules(), done.append)
    assert done == sorted(done)
    assert 0 < done[0] < done[-1] <= 1

    def interrupt(fraction: float) -> None:
        done.append(fraction)
        raise KeyboardInterrupt

    done.clear()
    with pytest.raises(KeyboardInterrupt):
        read_potassium_labels(path, ecgs, LabelRules(), interrupt)
    assert len(done) == 1


def test_full_temporary_folder_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ecgs: pd.DataFrame, text: str
) -> None:
    monkeypatch.setattr(engine, "SCAN_MEMORY_MB", 1)
    path = write(tmp_path / "labevents.csv", text)
    with pytest.raises(UserError, match=r"more disk space in [^\n]+ or more memory [^\n]+\.$"):
        read_potassium_labels(path, ecgs, LabelRules())


def test_unreachable_scheduler_is_a_user_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_scheduler, "CONNECT_SECONDS", 0.2)
    with (
        pytest.raises(UserError, match=r"tcp://127.0.0.1:9 is unreachable .*start it with"),
        connect_scheduler("tcp://127.0.0.1:9"),
    ):
        pass


def test_labels_and_data_sets_import_no_model_library() -> None:
    program = (
        "import sys, pipeline.labels, pipeline.datasets.registry\n"
        "print([name for name in ('torch', 'sklearn', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


# The program reads VmHWM, because a process inherits the peak of getrusage from its parent.
PEAK_MEMORY_PROGRAM = """
import sys
from pathlib import Path
import pandas as pd
from pipeline.datasets.label_rules import Criterion, LabelRules
from pipeline.datasets.mimic_tables.potassium import read_potassium_labels
ecgs = pd.DataFrame({"record_id": [1], "patient_id": [1],
    "ecg_time": pd.to_datetime(["2150-01-01"]).astype("datetime64[s]")})
labels, _ = read_potassium_labels(Path(sys.argv[1]), ecgs, LabelRules(window_hours=1000))
print(int(labels["potassium_mmol_l"].notna().sum()),
      int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) // 1024)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_table(tmp_path: Path) -> None:
    """The worst case: all rows are potassium results of one patient within the window."""
    row = "7,1,,1,50971,,2150-01-01 10:00:00,,4.0,4.0,mEq/L,3.3,5.1,,STAT,a comment\n"
    peaks = []
    for rows in (4_000_000, 10_000_000):  # both exceed the memory of a scan
        path = tmp_path / "labevents.csv"
        with path.open("w") as file:
            file.write(LAB_HEADER)
            for _ in range(rows // 1_000_000):
                file.write(row * 1_000_000)
        done = subprocess.run(
            [sys.executable, "-c", PEAK_MEMORY_PROGRAM, str(path)],
            capture_output=True,
            text=True,
            check=True,
        )
        found, peak = map(int, done.stdout.split())
        assert found == 1
        peaks.append(peak)
    assert peaks[1] < peaks[0] + 60, f"MiB {peaks}"
