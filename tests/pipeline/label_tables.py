"""Small tables of MIMIC's, written for a test."""

import gzip
from pathlib import Path

import pandas as pd

ECG_TIME = "2150-03-01 12:00:00"

LAB_HEADER = (
    "labevent_id,subject_id,hadm_id,specimen_id,itemid,order_provider_id,charttime,storetime,"
    "value,valuenum,valueuom,ref_range_lower,ref_range_upper,flag,priority,comments\n"
)


def records(*rows: tuple[int, int, str | None]) -> pd.DataFrame:
    """Rows of (record, patient, time), as `read_records` gives them."""
    frame = pd.DataFrame(rows, columns=["record_id", "patient_id", "ecg_time"])
    return frame.assign(ecg_time=pd.to_datetime(frame["ecg_time"]).astype("datetime64[s]"))


def labs(path: Path, *rows: tuple[object, object, object, object, object]) -> Path:
    """Rows of (subject, itemid, charttime, valuenum, flag) in all of MIMIC's columns, each with a
    comment of two lines."""
    text = LAB_HEADER
    for n, (subject, item, time, value, flag) in enumerate(rows):
        text += f"{n},{subject},,1,{item},,{time},{time},{value},{value},mEq/L,3.3,5.1,{flag},STAT,"
        text += '"a comment, with a comma\nand a second line"\n'
    return write(path, text)


def write(path: Path, text: str) -> Path:
    """A table, gzipped where its name says so."""
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path
