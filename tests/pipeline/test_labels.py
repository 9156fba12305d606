import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.labels import demographics, machine_labels, potassium_labels

ECG_TIME = "2150-03-01 12:00:00"


def records(*rows: tuple[int, int, str]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["record_id", "patient_id", "ecg_time"])
    return frame.assign(ecg_time=pd.to_datetime(frame["ecg_time"]).astype("datetime64[s]"))


def labs(path: Path, *rows: tuple[int, int, str, float | str, str]) -> Path:
    """Rows of (subject, itemid, charttime, valuenum, flag) in all of MIMIC's columns."""
    lines = ["labevent_id,subject_id,hadm_id,specimen_id,itemid,order_provider_id,charttime"]
    lines[0] += ",storetime,value,valuenum,valueuom,ref_range_lower,ref_range_upper,flag"
    lines[0] += ",priority,comments"
    for n, (subject, item, time, value, flag) in enumerate(rows):
        row = f"{n},{subject},,1,{item},,{time},{time},{value},{value},mEq/L,3.3,5.1,{flag}"
        lines.append(f'{row},STAT,"a comment, with a comma\nand a second line"')
    text = "\n".join(lines) + "\n"
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def one(path: Path, **options: float) -> tuple[float, float]:
    found = potassium_labels(path, records((7, 1, ECG_TIME)), **options)
    assert list(found.index) == [7]
    return float(found["potassium"].iloc[0]), float(found["potassium_mmol_l"].iloc[0])


@pytest.mark.parametrize("name", ["labevents.csv", "labevents.csv.gz"])
def test_potassium_is_the_first_result_from_the_ecg_on(tmp_path: Path, name: str) -> None:
    path = labs(
        tmp_path / name,
        (1, 50971, "2150-03-01 12:40:00", 6.0, "abnormal"),
        (1, 50971, "2150-03-01 11:59:59", 2.0, "abnormal"),  # before the ECG
        (1, 50983, "2150-03-01 12:01:00", 140, ""),  # sodium
        (2, 50971, "2150-03-01 12:02:00", 3.0, "abnormal"),  # somebody else
        (1, 50971, "2150-03-01 12:03:00", "", "abnormal"),  # no number
        (1, 50822, "2150-03-01 12:30:00", 4.4, ""),
    )
    assert one(path) == (0.0, 4.4)


def test_the_window_is_an_hour_with_both_ends_in_it(tmp_path: Path) -> None:
    at_once = labs(tmp_path / "a.csv", (1, 50971, ECG_TIME, 5.9, "abnormal"))
    assert one(at_once) == (1.0, 5.9)
    at_one = labs(tmp_path / "b.csv", (1, 50971, "2150-03-01 13:00:00", 5.9, "abnormal"))
    assert one(at_one) == (1.0, 5.9)
    late = labs(tmp_path / "c.csv", (1, 50971, "2150-03-01 13:00:01", 5.9, "abnormal"))
    assert np.isnan(one(late)).all()
    assert one(late, window_hours=2) == (1.0, 5.9)


def test_abnormal_is_what_the_laboratory_flagged_not_what_the_value_says(tmp_path: Path) -> None:
    assert one(labs(tmp_path / "a.csv", (1, 50971, ECG_TIME, 5.2, ""))) == (0.0, 5.2)
    assert one(labs(tmp_path / "b.csv", (1, 50971, ECG_TIME, 4.0, "abnormal"))) == (1.0, 4.0)


@pytest.mark.parametrize(
    ("columns", "values", "abnormal"),
    [
        ("ref_range_lower,ref_range_upper", "3.3,5.5", 0.0),
        ("ref_range_lower,ref_range_upper", "3.3,5.1", 1.0),
        ("ref_range_lower,ref_range_upper", ",", 1.0),
        ("comments", "none", 1.0),
    ],
)
def test_without_a_flag_the_range_decides(
    tmp_path: Path, columns: str, values: str, abnormal: float
) -> None:
    path = tmp_path / "labevents.csv"
    path.write_text(
        f"subject_id,itemid,charttime,valuenum,valueuom,{columns}\n"
        f"1,50971,{ECG_TIME},5.3,mEq/L,{values}\n"
    )
    assert one(path) == (abnormal, 5.3)


def test_each_ecg_of_a_patient_has_its_own_potassium(tmp_path: Path) -> None:
    path = labs(
        tmp_path / "labevents.csv",
        (1, 50971, "2150-03-02 12:10:00", 6.6, "abnormal"),
        (1, 50971, "2150-03-01 12:10:00", 4.0, ""),
        (2, 50971, "2150-03-01 12:05:00", 2.9, "abnormal"),
    )
    asked = records(
        (30, 1, "2150-03-02 12:00:00"),
        (10, 2, "2150-03-01 12:00:00"),
        (20, 1, "2150-03-01 12:00:00"),
        (40, 3, "2150-03-01 12:00:00"),
    )
    found = potassium_labels(path, asked)
    assert found.index.tolist() == [30, 10, 20, 40]
    np.testing.assert_array_equal(found["potassium_mmol_l"], [6.6, 2.9, 4.0, np.nan])
    np.testing.assert_array_equal(found["potassium"], [1, 1, 0, np.nan])


def test_the_diagnosis_is_the_first_line_with_words_in_it(tmp_path: Path) -> None:
    path = tmp_path / "machine_measurements.csv"
    path.write_text(
        "subject_id,study_id,report_0,report_1,report_2,report_10,rr_interval\n"
        "1,1,Sinus rhythm,Normal ECG,,,800\n"
        "1,2,Sinus  rhythm. ,,,,800\n"
        '1,3, ,.,"Atrial fibrillation, ",Old,800\n'
        "1,4,,,,Sinus rhythm with PVC(s),800\n"
        "1,5,,,,,800\n"
    )
    diagnosis = machine_labels(path)["diagnosis"]
    assert diagnosis.tolist()[:4] == [
        "Sinus rhythm",
        "Sinus rhythm",
        "Atrial fibrillation",
        "Sinus rhythm with PVC(s)",
    ]
    assert diagnosis.isna().tolist() == [False] * 4 + [True]


def test_an_impossible_interval_is_no_label(tmp_path: Path) -> None:
    path = tmp_path / "machine_measurements.csv"
    values = {29999: np.nan, 0: np.nan, 199: np.nan, 200: 200, 3000: 3000, 3001: np.nan, "": np.nan}
    rows = [f"1,{n},Sinus rhythm,{value}" for n, value in enumerate(values)]
    path.write_text("\n".join(["subject_id,study_id,report_0,rr_interval", *rows]) + "\n")
    np.testing.assert_array_equal(machine_labels(path)["rr_interval"], list(values.values()))


def test_age_is_counted_from_the_anchor_year(tmp_path: Path) -> None:
    path = tmp_path / "patients.csv"
    path.write_text(
        "subject_id,gender,anchor_age,anchor_year,anchor_year_group,dod\n"
        "1,M,52,2150,2011 - 2013,\n2,F,91,2149,2011 - 2013,2152-01-01\n"
    )
    asked = records(
        (10, 2, ECG_TIME), (11, 1, ECG_TIME), (12, 1, "2160-01-01 00:00:00"), (13, 3, ECG_TIME)
    )
    found = demographics(path, asked)
    np.testing.assert_array_equal(found["age"], [92, 52, 62, np.nan])
    np.testing.assert_array_equal(found["sex"], [0, 1, 1, np.nan])
