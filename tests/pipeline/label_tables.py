"""Small MIMIC tables for tests."""

import gzip
from pathlib import Path

import pandas as pd

ECG_TIME = "2150-03-01 12:00:00"

LAB_HEADER = (
    "labevent_id,subject_id,hadm_id,specimen_id,itemid,order_provider_id,charttime,storetime,"
    "value,valuenum,valueuom,ref_range_lower,ref_range_upper,flag,priority,comments\n"
)


def records(*rows: tuple[int, int, str | None]) -> pd.DataFrame:
    """Return a table of (record, patient, time) rows in the form of `read_records`."""
    frame = pd.DataFrame(rows, columns=["record_id", "patient_id", "ecg_time"])
    return frame.assign(ecg_time=pd.to_datetime(frame["ecg_time"]).astype("datetime64[s]"))


def labs(path: Path, *rows: tuple[object, object, object, object, object]) -> Path:
    """Write a lab table with MIMIC's columns; each row has a comment of two lines.

    Args:
        path: Path of the table; gzipped if it ends in `.gz`.
        *rows: subject_id, itemid, charttime, valuenum and flag of each row.

    Returns:
        The path.
    """
    text = LAB_HEADER
    for n, (subject, item, time, value, flag) in enumerate(rows):
        text += f"{n},{subject},,1,{item},,{time},{time},{value},{value},mEq/L,3.3,5.1,{flag},STAT,"
        text += '"a comment, with a comma\nand a second line"\n'
    return write(path, text)


def write(path: Path, text: str) -> Path:
    """Write a table, gzipped if its name ends in `.gz`."""
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path
