"""The lab table read in blocks or in parts gives the same bits, in constant memory."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from label_tables import LAB_HEADER, write

from enecg.errors import UserError
from pipeline.datasets.label_rules import LabelRules
from pipeline.datasets.mimic_tables.dask_parts import (
    connect_scheduler,
    reduce_with_dask,
    split_table,
)
from pipeline.datasets.mimic_tables.potassium import (
    EcgTimes,
    PartialResults,
    merge_potassium,
    reduce_part,
)

PATIENTS = 40
RULES = [LabelRules(), LabelRules(match="nearest", window_hours=30, abnormal="range")]


@pytest.fixture(scope="module")
def ecgs() -> EcgTimes:
    rng = np.random.default_rng(0)
    # Before 1970, seconds since the epoch are negative.
    times = pd.Timestamp("1960-01-01") + pd.to_timedelta(rng.integers(0, 400, 300), "h")
    return EcgTimes.of(
        pd.DataFrame(
            {
                "record_id": np.arange(300),
                "patient_id": rng.integers(0, PATIENTS, 300),
                "ecg_time": times.astype("datetime64[s]"),
            }
        )
    )


@pytest.fixture(scope="module")
def text() -> str:
    """Return 4,000 rows whose comments contain line ends, quotes and text that resembles a row."""
    rng = np.random.default_rng(1)
    comments = ('"two\nlines"', '"5,6,,\n50971,50971 more"', '"a ""word"", twice\n\n"', "___", "")
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


def bits(ecgs: EcgTimes, parts: tuple[PartialResults, ...]) -> bytes:
    labels, _ = merge_potassium(ecgs, parts)
    numbers = labels[["potassium", "potassium_mmol_l"]].to_numpy().tobytes()
    return numbers + labels["potassium_absent"].cat.codes.to_numpy().tobytes()


@pytest.mark.parametrize("rules", RULES, ids=["first", "nearest"])
@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_dask_parts_match_one_pass(
    ecgs: EcgTimes, text: str, tmp_path: Path, rules: LabelRules, scheduler: str
) -> None:
    path = write(tmp_path / "labevents.csv", text)
    whole = reduce_part(path, ecgs, rules)
    parts = reduce_with_dask(path, ecgs, rules, scheduler, part_bytes=150_000)
    assert len(parts) > 2
    assert sum(part.rows for part in parts) == whole.rows == 4000
    assert bits(ecgs, parts) == bits(ecgs, (whole,))
    assert bits(ecgs, parts[::-1]) == bits(ecgs, (whole,)), "order of parts"
    assert np.isfinite(merge_potassium(ecgs, (whole,))[0]["potassium"]).any()


def test_parts_start_at_rows(text: str, tmp_path: Path) -> None:
    path = write(tmp_path / "labevents.csv", text)
    whole = path.read_bytes()
    for part_bytes in (40, 1_000, 50_000):
        parts = split_table(path, part_bytes)
        assert b"".join(whole[part.start : part.end] for part in parts) == whole[len(LAB_HEADER) :]
        ids = [int(whole[part.start :].split(b",", 1)[0]) for part in parts]
        assert ids == sorted(set(ids))
        # A part that starts inside a comment has an odd number of quotes.
        assert all(whole[part.start : part.end].count(b'"') % 2 == 0 for part in parts)


@pytest.mark.parametrize("name", ["labevents.csv", "labevents.csv.gz"])
@pytest.mark.parametrize("row", [5, 3995, 3999])
@pytest.mark.parametrize("block_bytes", [1 << 14, 4 << 20])
def test_unclosed_quote_is_reported(
    ecgs: EcgTimes,
    tmp_path: Path,
    name: str,
    row: int,
    block_bytes: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pipeline.datasets.mimic_tables.csv_blocks.BLOCK_BYTES", block_bytes)
    rows = [
        f"{n},{n % PATIENTS},,{n},50971,,1960-01-01 12:00:00,,4,4,mEq/L,3.3,5.1,,STAT,ok\n"
        for n in range(4000)
    ]
    rows[row] = rows[row].replace("ok", '"ok')
    path = write(tmp_path / name, LAB_HEADER + "".join(rows))
    message = rf"{name} has a quote that is not closed[^\n]+\.$"
    with pytest.raises(UserError, match=message):
        reduce_part(path, ecgs, LabelRules())
    with pytest.raises(UserError, match=message):
        reduce_with_dask(path, ecgs, LabelRules(), "synchronous", part_bytes=20_000)


@pytest.mark.parametrize("rules", RULES, ids=["first", "nearest"])
def test_block_size_does_not_matter(
    ecgs: EcgTimes, text: str, tmp_path: Path, rules: LabelRules, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "labevents.csv", text)
    found = set()
    for block_bytes in (1 << 12, 1 << 15, 4 << 20):
        monkeypatch.setattr("pipeline.datasets.mimic_tables.csv_blocks.BLOCK_BYTES", block_bytes)
        found.add(bits(ecgs, (reduce_part(path, ecgs, rules),)))
    assert len(found) == 1


def test_best_result_matches_exhaustive_search(ecgs: EcgTimes, text: str, tmp_path: Path) -> None:
    path = write(tmp_path / "labevents.csv", text)
    rows = pd.read_csv(path, parse_dates=["charttime"])
    rows = rows[rows["itemid"].isin([50971, 50822])]
    patient = ecgs.patients[ecgs.at >> 40]
    for rules in RULES:
        labels, _ = merge_potassium(ecgs, [reduce_part(path, ecgs, rules)])
        for place in range(len(ecgs.at)):
            time = pd.Timestamp(int(ecgs.at[place] & (2**40 - 1)) - 2**38, unit="s")
            delay = (rows["charttime"] - time)[rows["subject_id"] == patient[place]]
            delay = delay.dt.total_seconds() / 3600
            low = -rules.window_hours if rules.match == "nearest" else 0
            delay = delay[(delay >= low) & (delay <= rules.window_hours)].abs()
            got = labels["potassium_mmol_l"].iloc[ecgs.row[place]]
            if delay.empty:
                assert np.isnan(got)
            else:
                assert got == rows["valuenum"][delay[delay == delay.min()].index[0]]


def test_gzipped_table_is_one_task(ecgs: EcgTimes, text: str, tmp_path: Path) -> None:
    path = write(tmp_path / "labevents.csv.gz", text)
    assert split_table(path, 1_000) == ()
    parts = reduce_with_dask(path, ecgs, LabelRules(), "synchronous", part_bytes=1_000)
    assert [part.rows for part in parts] == [4000]


def test_table_with_unrecognizable_rows_is_one_task(tmp_path: Path) -> None:
    header = "comments,subject_id,itemid,charttime,valuenum\n"
    path = write(tmp_path / "labevents.csv", header + "1,2,3,4,5\n" * 1000)
    assert split_table(path, 1_000) == ()


def test_scheduler_address_needs_distributed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(UserError, match=r"pip install distributed[^\n]+\.$"),
        connect_scheduler("tcp://10.0.0.1:8786"),
    ):
        pass


# Not getrusage's peak: a process inherits its parent's.
PEAK = """
import sys
from pathlib import Path
import pandas as pd
from pipeline.datasets.mimic_tables.potassium import EcgTimes, reduce_part
from pipeline.datasets.label_rules import LabelRules
ecgs = EcgTimes.of(pd.DataFrame({"record_id": [1], "patient_id": [1],
    "ecg_time": pd.to_datetime(["2150-01-01"]).astype("datetime64[s]")}))
print(reduce_part(Path(sys.argv[1]), ecgs, LabelRules(window_hours=1000)).rows,
      int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) // 1024)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_table(tmp_path: Path) -> None:
    """All rows are potassium of one patient in the window, the worst case."""
    row = "7,1,,1,50971,,2150-01-01 10:00:00,,4.0,4.0,mEq/L,3.3,5.1,,STAT,a comment\n"
    peaks = []
    for rows in (2_000_000, 6_000_000):  # all buffers are full
        path = tmp_path / f"{rows}.csv"
        path.write_text(LAB_HEADER + row * rows)
        done = subprocess.run(
            [sys.executable, "-c", PEAK, str(path)], capture_output=True, text=True, check=True
        )
        read, peak = map(int, done.stdout.split())
        assert read == rows
        peaks.append(peak)
    assert peaks[1] < peaks[0] + 60, f"MiB {peaks}"
