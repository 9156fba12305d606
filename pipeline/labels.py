"""The labels of MIMIC-IV-ECG records out of MIMIC's own tables, joined by record and patient id."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

POTASSIUM_ITEMS = (50971, 50822)
"""MIMIC-IV `d_labitems`: potassium in blood by chemistry, and in whole blood by blood gas."""

NORMAL_POTASSIUM_MMOL_L = (3.5, 5.1)
"""What is normal where a table of results says nothing of its own."""

PLAUSIBLE_RR_MS = (200, 3000)
"""300 to 20 beats a minute. Outside it, and at 29999 (MIMIC-IV-ECG: unknown), there is no label."""

_BLOCK_BYTES = 16 << 20


def find_table(root: Path, name: str) -> Path | None:
    """`NAME.csv` or `NAME.csv.gz` under a directory, None where neither is there."""
    for path in (root / f"{name}.csv", root / f"{name}.csv.gz"):
        if path.is_file():
            return path
    return None


def read_records(path: Path) -> pd.DataFrame:
    """`record_list.csv` in its own order: `record_id` and `patient_id` int64, `ecg_time`, `path`.

    `record_id` is MIMIC's study_id, `patient_id` its subject_id, `path` is without a suffix.
    Raises pyarrow.ArrowInvalid or KeyError where it is no such table.
    """
    types = {"subject_id": pa.int64(), "study_id": pa.int64(), "path": pa.string()}
    types["ecg_time"] = pa.timestamp("s")
    table = pa.Table.from_batches(_read_csv(path, types), schema=pa.schema(types))
    names = {"study_id": "record_id", "subject_id": "patient_id"}
    frame: pd.DataFrame = table.to_pandas().rename(columns=names)
    return frame


def machine_labels(path: Path) -> pd.DataFrame:
    """`rr_interval` (ms) and `diagnosis` by `record_id`, out of `machine_measurements.csv`.

    The diagnosis is the first report line that is not empty, in the machine's own words.
    """
    reports = [name for name in _columns(path) if name.startswith("report_")]
    reports.sort(key=lambda name: int(name.removeprefix("report_")))
    types = {"study_id": pa.int64(), "rr_interval": pa.float64()}
    types |= dict.fromkeys(reports, pa.string())
    table = pa.Table.from_batches(_read_csv(path, types), schema=pa.schema(types))
    rr = table["rr_interval"].to_numpy()
    lowest, highest = PLAUSIBLE_RR_MS
    first = pa.nulls(len(table), pa.string())
    for name in reports:
        first = pc.coalesce(first, normalise(table[name]))
    return pd.DataFrame(
        {
            "rr_interval": np.where((rr >= lowest) & (rr <= highest), rr, np.nan),
            "diagnosis": first.to_pandas().astype("string"),
        }
    ).set_index(pd.Index(table["study_id"].to_numpy(), name="record_id"))


def normalise(lines: pa.ChunkedArray) -> pa.ChunkedArray:
    """Report lines with single spaces and no punctuation at the end; null where nothing is left."""
    tidy = pc.replace_substring_regex(lines, r"\s+", " ")
    tidy = pc.replace_substring_regex(tidy, r"[\s.,;:]+$", "")
    tidy = pc.utf8_trim_whitespace(tidy)
    return pc.if_else(pc.equal(tidy, ""), pa.scalar(None, pa.string()), tidy)


def demographics(path: Path, records: pd.DataFrame) -> pd.DataFrame:
    """`age` (years at the ECG) and `sex` (1 male, 0 female) by `record_id`, out of `patients.csv`.

    Age is `anchor_age` plus the years from `anchor_year` to the ECG's. MIMIC-IV writes 91 for
    every anchor age over 89, so ages of 90 and more are only known to be that.
    """
    types = {"subject_id": pa.int64(), "gender": pa.string()}
    types |= {"anchor_age": pa.float64(), "anchor_year": pa.float64()}
    table = pa.Table.from_batches(_read_csv(path, types), schema=pa.schema(types))
    patients = table.to_pandas().drop_duplicates("subject_id").set_index("subject_id")
    joined = patients.reindex(records["patient_id"])
    year = records["ecg_time"].dt.year.to_numpy(np.float64)
    sex = joined["gender"].str.strip().str.upper().map({"M": 1.0, "F": 0.0})
    return pd.DataFrame(
        {
            "age": joined["anchor_age"].to_numpy() + (year - joined["anchor_year"].to_numpy()),
            "sex": sex.to_numpy(np.float64, na_value=np.nan),
        },
        index=pd.Index(records["record_id"], name="record_id"),
    )


def potassium_labels(
    path: Path, records: pd.DataFrame, *, window_hours: float = 1.0
) -> pd.DataFrame:
    """`potassium` (1 abnormal, 0 normal) and `potassium_mmol_l` by `record_id`, out of `labevents`.

    The first result with a number of `POTASSIUM_ITEMS` charted within `window_hours` from the ECG
    on. Abnormal is what the laboratory flagged; where the table has no column `flag`, what is
    outside the row's own reference range, or outside `NORMAL_POTASSIUM_MMOL_L`. (mEq/L of
    potassium are mmol/L.) The table is streamed: memory is for the potassium rows of these
    patients alone.
    """
    known = set(_columns(path))
    types = {"subject_id": pa.int64(), "itemid": pa.int64()}
    types |= {"charttime": pa.timestamp("s"), "valuenum": pa.float64()}
    if "flag" in known:
        types["flag"] = pa.string()
    elif {"ref_range_lower", "ref_range_upper"} <= known:
        types |= {"ref_range_lower": pa.float64(), "ref_range_upper": pa.float64()}
    items = pa.array(POTASSIUM_ITEMS, pa.int64())
    subjects = pa.array(records["patient_id"].unique(), pa.int64())
    kept = []
    for batch in _read_csv(path, types):
        mine = pc.is_in(batch["itemid"], value_set=items)
        mine = pc.and_(mine, pc.is_in(batch["subject_id"], value_set=subjects))
        mine = pc.and_(mine, pc.is_valid(batch["valuenum"]))
        kept.append(batch.filter(pc.and_(mine, pc.is_valid(batch["charttime"]))))
    labs = pa.Table.from_batches(kept, schema=pa.schema(types)).to_pandas()
    labs["abnormal"] = _abnormal(labs).astype(np.float64)
    labs = labs.rename(columns={"subject_id": "patient_id", "charttime": "ecg_time"})
    labs = labs.sort_values("ecg_time", kind="stable")
    # Of two results at one time the one that the table has first.
    labs = labs.drop_duplicates(["patient_id", "ecg_time"])
    asked = records[["record_id", "patient_id", "ecg_time"]].dropna()
    found = pd.merge_asof(
        asked.sort_values("ecg_time", kind="stable"),
        labs[["patient_id", "ecg_time", "valuenum", "abnormal"]],
        on="ecg_time",
        by="patient_id",
        direction="forward",
        tolerance=pd.Timedelta(hours=window_hours),
    ).set_index("record_id")
    found = found.reindex(pd.Index(records["record_id"], name="record_id"))
    return found[["abnormal", "valuenum"]].set_axis(["potassium", "potassium_mmol_l"], axis=1)


def _abnormal(labs: pd.DataFrame) -> pd.Series:
    """Which potassium results are out of range, by the best that the table offers."""
    if "flag" in labs:
        return labs["flag"].fillna("").str.strip().ne("")
    low, high = (pd.Series(limit, labs.index, float) for limit in NORMAL_POTASSIUM_MMOL_L)
    if "ref_range_lower" in labs:
        low, high = labs["ref_range_lower"].fillna(low), labs["ref_range_upper"].fillna(high)
    return (labs["valuenum"] < low) | (labs["valuenum"] > high)


def _columns(path: Path) -> list[str]:
    """The names in a table's first row."""
    with pa.input_stream(str(path), compression="detect") as file:
        first = file.read(1 << 16).decode("utf-8-sig").splitlines()
    return [name.strip().strip('"') for name in first[0].split(",")] if first else []


def _read_csv(path: Path, types: dict[str, pa.DataType]) -> Iterator[pa.RecordBatch]:
    """Some columns of a table (plain or gzipped), in the given types, a block at a time."""
    convert = pacsv.ConvertOptions(
        column_types=types, include_columns=list(types), strings_can_be_null=True
    )
    read = pacsv.ReadOptions(block_size=_BLOCK_BYTES)
    parse = pacsv.ParseOptions(newlines_in_values=True)
    with (
        pa.input_stream(str(path), compression="detect") as file,
        pacsv.open_csv(
            file, read_options=read, parse_options=parse, convert_options=convert
        ) as rows,
    ):
        yield from rows
