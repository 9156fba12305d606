"""Labels from small tables in MIMIC's format, and from MIMIC's demo."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from label_tables import ECG_TIME, labs, records, write

from enecg.errors import UserError
from pipeline.datasets.label_rules import FIRST_LINE_SKIPPED, read_phrases
from pipeline.datasets.label_values import normalize_diagnoses
from pipeline.datasets.mimic_iv_ecg import MimicIvEcg
from pipeline.datasets.mimic_tables.csv_scan import SkippedRows
from pipeline.datasets.mimic_tables.machine import read_machine_labels
from pipeline.datasets.mimic_tables.patients import read_patient_labels
from pipeline.datasets.mimic_tables.potassium import read_potassium_labels
from pipeline.datasets.mimic_tables.records import read_records
from pipeline.labels import LabelRules, collect_labels


def potassium(
    path: Path, ecg_records: pd.DataFrame, **rules: object
) -> tuple[pd.DataFrame, SkippedRows]:
    return read_potassium_labels(path, ecg_records, LabelRules(**rules))  # type: ignore[arg-type]


def label_one(path: Path, **rules: object) -> tuple[float, float]:
    found, _ = potassium(path, records((7, 1, ECG_TIME)), **rules)
    assert len(found) == 1
    return float(found["potassium"].iloc[0]), float(found["potassium_mmol_l"].iloc[0])


@pytest.mark.parametrize("name", ["labevents.csv", "labevents.csv.gz"])
def test_potassium_is_the_first_result_after_the_ecg(tmp_path: Path, name: str) -> None:
    path = labs(
        tmp_path / name,
        (1, 50971, "2150-03-01 12:40:00", 6.0, "abnormal"),
        (1, 50971, "2150-03-01 11:59:59", 2.0, "abnormal"),  # before the ECG
        (1, 50983, "2150-03-01 12:01:00", 140, ""),  # sodium
        (2, 50971, "2150-03-01 12:02:00", 3.0, "abnormal"),  # another patient
        (1, 50971, "2150-03-01 12:03:00", "", "abnormal"),  # no number
        (1, 50822, "2150-03-01 12:30:00", 4.4, ""),
    )
    assert label_one(path) == (0.0, 4.4)
    assert label_one(path, potassium_items=(50971,)) == (1.0, 6.0)


def test_nearest_result_may_precede_ecg_and_ties_go_to_first_row(
    tmp_path: Path,
) -> None:
    rows = [
        (1, 50971, "2150-03-01 12:10:00", 6.0, "abnormal"),
        (1, 50971, "2150-03-01 11:50:00", 3.0, "abnormal"),
        (1, 50971, "2150-03-01 11:50:00", 4.0, ""),
    ]
    assert label_one(labs(tmp_path / "a.csv", *rows), match="nearest") == (1.0, 6.0)
    assert label_one(labs(tmp_path / "b.csv", *rows[1:], rows[0]), match="nearest") == (1.0, 3.0)
    assert label_one(labs(tmp_path / "c.csv", rows[2], *rows[:2]), match="nearest") == (0.0, 4.0)


def test_window_is_one_hour_and_includes_both_ends(tmp_path: Path) -> None:
    at_ecg_time = labs(tmp_path / "a.csv", (1, 50971, ECG_TIME, 5.9, "abnormal"))
    assert label_one(at_ecg_time) == (1.0, 5.9)
    after_one_hour = labs(tmp_path / "b.csv", (1, 50971, "2150-03-01 13:00:00", 5.9, "abnormal"))
    assert label_one(after_one_hour) == (1.0, 5.9)
    too_late = labs(tmp_path / "c.csv", (1, 50971, "2150-03-01 13:00:01", 5.9, "abnormal"))
    assert np.isnan(label_one(too_late)).all()
    assert label_one(too_late, window_hours=2) == (1.0, 5.9)


@pytest.mark.parametrize(
    ("rules", "abnormal"),
    [
        ({}, 1.0),  # by range, 3.3 to 5.1
        ({"abnormal": "range"}, 1.0),
        ({"abnormal": "flag"}, 0.0),
        ({"abnormal": "thresholds"}, 1.0),
        ({"abnormal": "thresholds", "potassium_high": 5.5}, 0.0),
    ],
)
def test_abnormal_criterion_is_selectable(
    tmp_path: Path, rules: dict[str, object], abnormal: float
) -> None:
    assert label_one(labs(tmp_path / "a.csv", (1, 50971, ECG_TIME, 5.2, "")), **rules) == (
        abnormal,
        5.2,
    )
    flagged = labs(tmp_path / "b.csv", (1, 50971, ECG_TIME, 4.0, "abnormal"))
    assert label_one(flagged, abnormal="flag") == (1.0, 4.0)


@pytest.mark.parametrize("item", [" 50971", "50971.00", "050971", '"50971"'])
def test_item_id_may_have_any_spelling_of_the_number(tmp_path: Path, item: str) -> None:
    assert label_one(labs(tmp_path / "a.csv", (1, item, ECG_TIME, 5.9, "abnormal"))) == (1.0, 5.9)


@pytest.mark.parametrize(("value", "abnormal"), [(3.5, 0.0), (5.1, 0.0), (3.49, 1.0), (5.11, 1.0)])
def test_values_equal_to_the_thresholds_are_normal(
    tmp_path: Path, value: float, abnormal: float
) -> None:
    path = labs(tmp_path / "a.csv", (1, 50971, ECG_TIME, value, ""))
    assert label_one(path, abnormal="thresholds") == (abnormal, value)


@pytest.mark.parametrize(
    ("flag", "abnormal"),
    [
        *((word, 0.0) for word in ("", " ", '""', "NULL", "NaN", " nan ")),
        *((word, 1.0) for word in ("abnormal", "Abnormal", " ABNORMAL ")),
    ],
)
def test_flag_is_abnormal_or_empty(tmp_path: Path, flag: str, abnormal: float) -> None:
    path = labs(tmp_path / "a.csv", (1, 50971, ECG_TIME, 4.0, flag))
    assert label_one(path, abnormal="flag") == (abnormal, 4.0)


@pytest.mark.parametrize("flag", ["normal", "delta", "None", "0"])
def test_unknown_flag_is_not_a_label(tmp_path: Path, flag: str) -> None:
    path = labs(tmp_path / "a.csv", (1, 50971, ECG_TIME, 4.0, flag))
    found, _ = potassium(path, records((7, 1, ECG_TIME)), abnormal="flag")
    assert np.isnan(found["potassium"].iloc[0])
    assert found["potassium_mmol_l"].tolist() == [4.0]
    assert found["potassium_absent"].tolist() == ["unknown_flag"]


@pytest.mark.parametrize(
    ("value", "flag", "direction", "by_flag"),
    [
        (6.8, "", "not flagged, but outside", 0.0),
        (2.1, "", "not flagged, but outside", 0.0),
        (4.2, "abnormal", "flagged, but inside", 1.0),
        (5.1, "abnormal", "flagged, but inside", 1.0),
    ],
)
def test_flag_that_contradicts_the_range_is_counted_and_the_range_preferred(
    tmp_path: Path, value: float, flag: str, direction: str, by_flag: float
) -> None:
    path = labs(
        tmp_path / "labevents.csv",
        (1, 50971, ECG_TIME, value, flag),
        (1, 50971, "2150-03-01 12:30:00", value, flag),  # not the label of any ECG
        (2, 50971, ECG_TIME, 4.0, ""),
        (3, 50971, ECG_TIME, 6.0, "abnormal"),
        (4, 50971, ECG_TIME, 999, ""),  # implausible
        (5, 50971, ECG_TIME, 6.0, "delta"),
    )
    ecg_records = records(*((n, n, ECG_TIME) for n in range(1, 6)))
    for rules, label in (({}, 1 - by_flag), ({"abnormal": "flag"}, by_flag)):
        found, skipped = potassium(path, ecg_records, **rules)
        assert found["potassium"].iloc[0] == label
        assert dict(+skipped) == {
            "labevents.csv: potassium labels whose flag contradicts the row's reference range "
            f"({direction})": 1
        }


@pytest.mark.parametrize("value", [-1, 0, 0.99, 20.01, 999999])
def test_implausible_potassium_is_not_a_label(tmp_path: Path, value: float) -> None:
    path = labs(tmp_path / "a.csv", (1, 50971, ECG_TIME, value, "abnormal"))
    found, _ = potassium(path, records((7, 1, ECG_TIME)))
    assert found[["potassium", "potassium_mmol_l"]].isna().all(axis=None)
    assert found["potassium_absent"].tolist() == ["implausible"]


@pytest.mark.parametrize("value", [1, 20])
def test_potassium_at_the_limits_of_plausibility_is_a_label(tmp_path: Path, value: float) -> None:
    assert label_one(labs(tmp_path / "a.csv", (1, 50971, ECG_TIME, value, "abnormal"))) == (
        1.0,
        value,
    )


def test_result_without_number_is_skipped_and_counted(tmp_path: Path) -> None:
    path = labs(
        tmp_path / "labevents.csv",
        (1, 50971, "2150-03-01 12:01:00", "", "abnormal"),
        (1, 50971, "2150-03-01 12:02:00", 4.4, ""),
        (1, "K", "2150-03-01 12:02:00", 4.4, ""),
    )
    found, skipped = potassium(path, records((7, 1, ECG_TIME)))
    assert found["potassium_mmol_l"].tolist() == [4.4]
    assert dict(+skipped) == {
        "labevents.csv: potassium rows without valuenum, skipped": 1,
        "labevents.csv: rows whose itemid is unreadable, skipped": 1,
    }


@pytest.mark.parametrize(
    ("columns", "values", "abnormal"),
    [
        ("ref_range_lower,ref_range_upper", "3.3,5.5", 0.0),
        ("ref_range_lower,ref_range_upper", "3.3,5.1", 1.0),
        ("ref_range_lower,ref_range_upper", ",", 1.0),
        ("ref_range_lower,ref_range_upper", ",5.5", 0.0),
        ("ref_range_lower,ref_range_upper", ",5.2", 1.0),
        ("comments", "none", 1.0),
    ],
)
def test_range_or_thresholds_determine_the_label_without_a_flag_column(
    tmp_path: Path, columns: str, values: str, abnormal: float
) -> None:
    path = tmp_path / "labevents.csv"
    path.write_text(
        f"subject_id,itemid,charttime,valuenum,valueuom,{columns}\n"
        f"1,50971,{ECG_TIME},5.3,mEq/L,{values}\n"
    )
    assert label_one(path) == (abnormal, 5.3)
    with pytest.raises(UserError, match="no column flag"):
        label_one(path, abnormal="flag")


def test_range_may_have_a_lower_limit_only(tmp_path: Path) -> None:
    path = tmp_path / "labevents.csv"
    path.write_text(
        "subject_id,itemid,charttime,valuenum,ref_range_lower,ref_range_upper\n"
        f"1,50971,{ECG_TIME},4.0,4.5,\n"
    )
    assert label_one(path) == (1.0, 4.0)
    assert label_one(path, abnormal="thresholds") == (0.0, 4.0)
    path.write_text(path.read_text().replace("ref_range_upper", "comments"))
    with pytest.raises(UserError, match="no column ref_range_upper, which --abnormal range"):
        label_one(path, abnormal="range")


def test_each_ecg_has_its_own_potassium_or_reason(tmp_path: Path) -> None:
    path = labs(
        tmp_path / "labevents.csv",
        (1, 50971, "2150-03-02 12:10:00", 6.6, "abnormal"),
        (1, 50971, "2150-03-01 12:10:00", 4.0, ""),
        (2, 50971, "2150-03-01 12:05:00", 2.9, "abnormal"),
    )
    ecg_records = records(
        (30, 1, "2150-03-02 12:00:00"),
        (10, 2, "2150-03-01 12:00:00"),
        (20, 1, "2150-03-01 12:00:00"),
        (40, 3, "2150-03-01 12:00:00"),
        (50, 1, "2150-03-05 12:00:00"),
        (60, 1, None),
    )
    found, _ = potassium(path, ecg_records)
    nan = np.nan
    np.testing.assert_array_equal(found["potassium_mmol_l"], [6.6, 2.9, 4.0, nan, nan, nan])
    np.testing.assert_array_equal(found["potassium"], [1, 1, 0, nan, nan, nan])
    reasons = found["potassium_absent"].astype(object).tolist()
    assert reasons == [nan, nan, nan, "no_result", "none_in_window", "no_ecg_time"]


def test_unreadable_rows_are_skipped_and_counted(tmp_path: Path) -> None:
    path = labs(
        tmp_path / "labevents.csv",
        (1, 50971, "2150-03-01 12:01:00", "hemolyzed", ""),
        (1, 50971, "the first of March", 6.0, ""),
        (1, 50971, "2150-02-30 12:01:00", 6.0, ""),
        ("one", 50971, "2150-03-01 12:01:00", 6.0, ""),
        (1, 50971, "2150-03-01 12:01:00", "inf", ""),
        (1, 50971, "2150-03-01T12:30", " 4.4 ", ""),
    )
    with path.open("ab") as file:
        file.write(b"99,1,too,few\n100,1,,1,50971,," + b"\xff,,\xfe,7.0,mEq/L,3.3,5.1,,STAT,\n")
    found, skipped = potassium(path, records((7, 1, ECG_TIME)))
    assert found["potassium_mmol_l"].tolist() == [4.4]
    assert dict(+skipped) == {
        "labevents.csv: rows whose number of fields differs, skipped": 1,
        "labevents.csv: potassium rows whose valuenum is unreadable, skipped": 2,
        "labevents.csv: rows that are not UTF-8, skipped": 1,
        "labevents.csv: potassium rows whose charttime is unreadable, skipped": 2,
        "labevents.csv: potassium rows whose subject_id is unreadable, skipped": 1,
    }


def test_diagnosis_is_the_selected_report_line(tmp_path: Path) -> None:
    path = tmp_path / "machine_measurements.csv"
    path.write_text(
        "subject_id,study_id,report_0,report_1,report_2,report_10,rr_interval\n"
        "1,1,Sinus rhythm,Normal ECG,,,800\n"
        "1,2,Sinus  rhythm. ,,,,800\n"
        '1,3, ,.,"Atrial fibrillation, ",Old,800\n'
        "1,4,,,,Sinus rhythm with PVC(s),800\n"
        "1,5,,,,,800\n"
    )
    ecg_records = records(*((n, 1, ECG_TIME) for n in range(1, 7)))

    def diagnoses(report: str) -> list[object]:
        found = read_machine_labels(path, ecg_records, LabelRules(report=report), SkippedRows())
        return found["diagnosis"].fillna(found["diagnosis_absent"].astype("string")).tolist()

    first = ["sinus rhythm", "sinus rhythm", "atrial fibrillation", "sinus rhythm with pvc(s)"]
    assert diagnoses("first") == [*first, "no_report", "not_listed"]
    assert diagnoses("all")[:3] == [
        "sinus rhythm; normal ecg",
        first[1],
        "atrial fibrillation; old",
    ]
    assert diagnoses("1") == ["normal ecg", *["no_report"] * 4, "not_listed"]
    with pytest.raises(UserError, match="no column report_3"):
        diagnoses("3")


NOT_DIAGNOSES = (
    "--- Warning: Data quality may affect interpretation ---",
    "WARNING: DATA QUALITY MAY AFFECT INTERPRETATION.",
    "--- Recording unsuitable for analysis - please repeat ---",
    "Lead(s) unsuitable for analysis: V1",
    "All 12 leads are missing",
    "Analysis error",
    "--- Possible measurement error ---",
    "--- Suspect arm lead reversal",
    "*** report made without knowing patient's sex ***",
    "age not entered, assumed to be 50 years old for purpose of ECG interpretation",
    "--- Pediatric criteria used ---",
    "PACER DETECTION SUSPENDED DUE TO EXTERNAL NOISE-REVIEW ADVISED",
)


def read_diagnoses(path: Path, *reports: tuple[str, ...], **rules: object) -> tuple[list[str], int]:
    """Return diagnoses or reasons for absence, and the number of skipped first lines."""
    width = max(map(len, reports))
    lines = [[*report, *[""] * (width - len(report))] for report in reports]
    table = pd.DataFrame(lines, columns=[f"report_{line}" for line in range(width)])
    table.assign(study_id=range(len(reports)), rr_interval=800).to_csv(path, index=False)
    ecg_records = records(*((n, 1, ECG_TIME) for n in range(len(reports))))
    rules = LabelRules(**rules)  # type: ignore[arg-type]
    found = read_machine_labels(path, ecg_records, rules, skipped := SkippedRows())
    diagnoses = found["diagnosis"].fillna(found["diagnosis_absent"].astype("string"))
    return diagnoses.tolist(), skipped[f"{path.name}: {FIRST_LINE_SKIPPED}"]


@pytest.mark.parametrize("line", NOT_DIAGNOSES)
def test_line_that_is_not_a_diagnosis_is_skipped_and_counted(tmp_path: Path, line: str) -> None:
    path = tmp_path / "machine_measurements.csv"
    reports = (("Sinus rhythm", line), (line, "Sinus rhythm"), (line, "", "Flutter"), (line, ""))
    expected = ["sinus rhythm", "sinus rhythm", "flutter", "no_diagnosis"]
    assert read_diagnoses(path, *reports) == (expected, 3)
    assert read_diagnoses(path, *reports, report="all") == (expected, 3)
    assert read_diagnoses(path, *reports, report="0")[0] == ["sinus rhythm", *["no_diagnosis"] * 3]


def test_skipped_phrases_can_be_changed(tmp_path: Path) -> None:
    path = tmp_path / "machine_measurements.csv"
    reports = (("Analysis error", "Sinus rhythm"), ("Note (1.5): x", "Flutter"), ("Note (1x5): x",))
    assert read_diagnoses(path, *reports, skip_lines=()) == (
        ["analysis error", "note (1.5): x", "note (1x5): x"],
        0,
    )
    assert read_diagnoses(path, *reports, skip_lines=("note (1.5)",)) == (
        ["analysis error", "flutter", "note (1x5): x"],
        1,
    )


def test_spellings_of_a_diagnosis_are_normalized_to_one_class(tmp_path: Path) -> None:
    spellings = (
        *("Atrial Fibrillation", "ATRIAL FIBRILLATION.", " atrial  fibrillation...", "-- atrial"),
        *("*** Atrial fibrillation ***", "--- atrial fibrillation. ---"),
    )
    reports = [(spelling,) for spelling in spellings]
    found, _ = read_diagnoses(tmp_path / "machine_measurements.csv", *reports)
    assert found == [*["atrial fibrillation"] * 3, "atrial", *["atrial fibrillation"] * 2]


def test_implausible_rr_interval_is_not_a_label(tmp_path: Path) -> None:
    path = tmp_path / "machine_measurements.csv"
    reasons = {
        "29999": "not_measured",
        "": "not_measured",
        "0": "implausible",
        "65535": "implausible",
        "32767": "implausible",
        "-32768": "implausible",
        "199": "implausible",
        "3001": "implausible",
        "fast": "unreadable",
        "200": np.nan,
        "3000": np.nan,
    }
    rows = [f"1,{n},Sinus rhythm,{value}" for n, value in enumerate(reasons)]
    path.write_text("\n".join(["subject_id,study_id,report_0,rr_interval", *rows]) + "\n")
    ecg_records = records(*((n, 1, ECG_TIME) for n in range(12)))
    found = read_machine_labels(path, ecg_records, LabelRules(), skipped := SkippedRows())
    assert found["rr_interval_absent"].astype(object).tolist() == [*reasons.values(), "not_listed"]
    np.testing.assert_array_equal(found["rr_interval"], [np.nan] * 9 + [200, 3000, np.nan])
    assert +skipped == {"machine_measurements.csv: rows whose rr_interval is not a number": 1}


def test_first_row_of_a_study_is_used(tmp_path: Path) -> None:
    path = tmp_path / "machine_measurements.csv"
    path.write_text(
        "study_id,report_0,rr_interval\n4,Sinus rhythm,800\n4,Flutter,300\nx,Flutter,300\n"
    )
    found = read_machine_labels(
        path, records((4, 1, ECG_TIME)), LabelRules(), skipped := SkippedRows()
    )
    assert found[["rr_interval", "diagnosis"]].iloc[0].tolist() == [800, "sinus rhythm"]
    assert sorted((+skipped).values()) == [1, 1]


def test_row_of_another_patient_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "machine_measurements.csv"
    path.write_text(
        "subject_id,study_id,report_0,rr_interval\n99,1,Flutter,300\n10,1,Sinus rhythm,800\n"
        "99,2,Flutter,300\n,3,Sinus rhythm,900\n"
    )
    ecg_records = records(*((n, 10, ECG_TIME) for n in (1, 2, 3, 4)))
    found = read_machine_labels(path, ecg_records, LabelRules(), skipped := SkippedRows())
    np.testing.assert_array_equal(found["rr_interval"], [800, np.nan, 900, np.nan])
    for label_name in ("rr_interval", "diagnosis"):
        reasons = found[f"{label_name}_absent"].astype(object).tolist()
        assert reasons == [np.nan, "other_patient", np.nan, "not_listed"]
    key = "machine_measurements.csv: rows whose subject_id differs from the record's, skipped"
    assert dict(+skipped) == {key: 2}


def test_first_row_of_a_patient_is_used(tmp_path: Path) -> None:
    path = tmp_path / "patients.csv"
    others = "".join(f"{n},F,40,2150\n" for n in range(1000, 2000))
    path.write_text(f"subject_id,gender,anchor_age,anchor_year\n1,M,52,2150\n{others}1,F,70,2150\n")
    found = read_patient_labels(path, records((7, 1, ECG_TIME)), skipped := SkippedRows())
    assert found[["age", "sex"]].iloc[0].tolist() == [52, 1]
    assert list((+skipped).values()) == [1]


def test_implausible_age_is_not_a_label(tmp_path: Path) -> None:
    path = tmp_path / "patients.csv"
    ages = (-1, 0, 89, 120, 121, 300, 999)
    rows = "".join(f"{n},M,{age},2150\n" for n, age in enumerate(ages))
    path.write_text(f"subject_id,gender,anchor_age,anchor_year\n{rows}")
    ecg_records = records(*((n, n, ECG_TIME) for n in range(len(ages))))
    found = read_patient_labels(path, ecg_records, skipped := SkippedRows())
    np.testing.assert_array_equal(found["age"], [np.nan, 0, 89, 90, *[np.nan] * 3])
    reasons = found["age_absent"].astype(object).tolist()
    assert reasons == ["implausible", *[np.nan] * 3, *["implausible"] * 3]
    assert dict(+skipped) == {"patients.csv: ages over 89, set to 90": 1}


def test_age_over_89_is_90_before_and_after_the_anchor_year(tmp_path: Path) -> None:
    path = tmp_path / "patients.csv"
    path.write_text("subject_id,gender,anchor_age,anchor_year\n1,M,91,2150\n2,F,85,2150\n")
    times = ("2147-01-01 12:00:00", ECG_TIME, "2157-01-01 12:00:00", None)
    ecg_records = records(*((n, 1 + n // 4, times[n % 4]) for n in range(8)))
    found = read_patient_labels(path, ecg_records, skipped := SkippedRows())
    nan = np.nan
    np.testing.assert_array_equal(found["age"], [90, 90, 90, nan, 82, 85, 90, nan])
    assert found["age_absent"].astype(object).tolist()[3::4] == ["no_ecg_time"] * 2
    assert dict(+skipped) == {"patients.csv: ages over 89, set to 90": 4}


def test_unknown_gender_is_absent_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "patients.csv"
    path.write_text(
        "subject_id,gender,anchor_age,anchor_year\n1,Unknown,40,2150\n2,,40,2150\n3,f,40,2150\n"
    )
    ecg_records = records(*((n, n, ECG_TIME) for n in (1, 2, 3)))
    found = read_patient_labels(path, ecg_records, skipped := SkippedRows())
    np.testing.assert_array_equal(found["sex"], [np.nan, np.nan, 0])
    assert found["sex_absent"].astype(object).tolist()[:2] == ["unknown_word", "not_stated"]
    assert dict(+skipped) == {"patients.csv: patients whose gender is neither M nor F": 1}


@pytest.mark.parametrize(
    ("anchor", "reason"),
    [
        ("old,2150", "unreadable"),
        ("40,MMCL", "unreadable"),
        ("NaN,MMCL", "unreadable"),
        (",2150", "not_stated"),
        ("NaN,", "not_stated"),
        ("400,2150", "implausible"),
    ],
)
def test_reason_of_an_absent_age_depends_on_its_cells(
    tmp_path: Path, anchor: str, reason: str
) -> None:
    path = tmp_path / "patients.csv"
    path.write_text(f"subject_id,gender,anchor_age,anchor_year\n1,M,{anchor}\n")
    found = read_patient_labels(path, records((1, 1, ECG_TIME)), SkippedRows())
    assert found["age"].isna().all()
    assert found["age_absent"].tolist() == [reason]


def test_age_is_relative_to_anchor_year(tmp_path: Path) -> None:
    path = tmp_path / "patients.csv"
    path.write_text(
        "subject_id,gender,anchor_age,anchor_year,anchor_year_group,dod\n"
        "1,M,52,2150,2011 - 2013,\n2,F,91,2149,2011 - 2013,2152-01-01\n4,,old,2150,,\n"
    )
    ecg_records = records(
        (10, 2, ECG_TIME),
        (11, 1, ECG_TIME),
        (12, 1, "2160-01-01 00:00:00"),
        (13, 3, ECG_TIME),
        (14, 4, ECG_TIME),
        (15, 1, None),
    )
    found = read_patient_labels(path, ecg_records, skipped := SkippedRows())
    nan = np.nan
    np.testing.assert_array_equal(found["age"], [90, 52, 62, nan, nan, nan])
    np.testing.assert_array_equal(found["sex"], [0, 1, 1, nan, nan, 1])
    assert found["age_absent"].astype(object).tolist()[3:] == [
        "patient_not_listed",
        "unreadable",
        "no_ecg_time",
    ]
    assert found["sex_absent"].astype(object).tolist()[3:5] == ["patient_not_listed", "not_stated"]
    assert list((+skipped).values()) == [1, 1]


def test_record_without_readable_time_is_kept(tmp_path: Path) -> None:
    path = write(
        tmp_path / "record_list.csv.gz",
        "subject_id,study_id,file_name,ecg_time,path\n"
        "1,2,2,2150-03-01 12:00:00,files/a\n1,3,3,2150-03-01,files/b\n1,4,4,,files/c\n",
    )
    read = read_records(path)
    assert read["record_id"].tolist() == [2, 3, 4]
    assert read["ecg_time"].isna().tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1,-1,1,,files/a", "a negative study_id, such as -1"),
        ('1,2,2,,"files/a\n1,3,3,,files/b"', "a path with a line end"),
        ('1,2,"2,,files/a\n1,3,3,,files/b', "a quote that is not closed"),
    ],
)
def test_invalid_record_list_is_reported(tmp_path: Path, row: str, message: str) -> None:
    header = "subject_id,study_id,file_name,ecg_time,path"
    path = write(tmp_path / "record_list.csv", f"{header}\n1,9,9,,files/z\n{row}\n")
    with pytest.raises(UserError, match=rf"record_list.csv has [^\n]*{message}[^\n]*\.$"):
        read_records(path)


@pytest.mark.parametrize(
    ("rules", "counted"),
    [
        ({"match": "nearest", "window_hours": 1}, 203),
        ({"match": "nearest", "window_hours": 4}, 406),
        ({"match": "nearest", "window_hours": 24}, 547),
        ({}, 125),
    ],
    ids=str,
)
def test_mimic_demo_label_counts_match_independent_count(
    mimic_demo: Path, tmp_path: Path, rules: dict[str, object], counted: int
) -> None:
    (tmp_path / "hosp").mkdir()
    shutil.copy(mimic_demo / "ecg" / "record_list.csv", tmp_path)
    shutil.copy(mimic_demo / "hosp" / "patients.csv", tmp_path / "hosp")
    shutil.copy(mimic_demo / "potassium_labs_from_meds.csv", tmp_path / "hosp" / "labevents.csv")
    labels = collect_labels(MimicIvEcg(tmp_path), LabelRules(**rules))  # type: ignore[arg-type]
    assert labels.table["potassium_mmol_l"].notna().sum() == counted
    assert (labels.table["age"].min(), labels.table["age"].max()) == (21, 90)
    assert labels.criterion == "thresholds"
    assert set(labels.missing_tables) == {"rr_interval", "diagnosis"}


@pytest.mark.parametrize(
    "rules",
    [
        {"window_hours": 0},
        {"window_hours": float("nan")},
        {"match": "last"},
        {"potassium_items": ()},
        {"potassium_items": (0,)},
        {"potassium_items": (2**53,)},
        {"abnormal": "feeling"},
        {"potassium_low": 6},
        {"report": "18"},
    ],
    ids=str,
)
def test_invalid_rule_is_reported(rules: dict[str, object]) -> None:
    with pytest.raises(UserError, match=r"^[^\n]+\.$"):
        LabelRules(**rules)  # type: ignore[arg-type]


def test_phrases_are_read_from_a_file(tmp_path: Path) -> None:
    path = write(tmp_path / "phrases.txt", "Analysis error\n\n  no ECG  \n")
    assert read_phrases(path) == ("Analysis error", "no ECG")
    assert read_phrases(write(tmp_path / "empty.txt", "")) == ()
    path.write_bytes(b"\xff\xfe")
    for bad in (path, tmp_path / "missing.txt"):
        with pytest.raises(UserError, match=r"cannot be read as a list of phrases"):
            read_phrases(bad)


def test_diagnoses_of_other_sources_are_normalized_like_those_of_mimic(tmp_path: Path) -> None:
    lines = [
        *("Sinus  rhythm.", " *** Atrial Fibrillation. ***", "--- A-V block; 1st degree, ", "AF"),
        *("Sinus rhythm with PVC(s)", "ST elevation\t(V1-V3):", "...", "ÄÖ Rhythmus"),
    ]
    table = tmp_path / "machine_measurements.csv"
    found, _ = read_diagnoses(table, *((line,) for line in lines), skip_lines=())
    plain = normalize_diagnoses(pd.Series(lines, dtype="string")).fillna("no_report").tolist()
    assert plain == found
    assert plain[:2] == ["sinus rhythm", "atrial fibrillation"]
