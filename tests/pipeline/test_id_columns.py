"""Id columns of tables: names, exact values, and matching with the ids of a data set."""

import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from enecg.errors import UserError
from pipeline.datasets.base import RecordIndex
from pipeline.datasets.id_columns import match_ids, parse_integers, parse_text_ids
from pipeline.datasets.selection import read_record_ids, select_records
from pipeline.datasets.wfdb_directory import WfdbDirectory
from pipeline.labels.label_file import read_label_file

BEYOND_FLOAT = 2**53 + 1


def make_dataset(root: Path, table: str, *names: str) -> WfdbDirectory:
    """Create a data set of records with empty headers and this `labels.csv`."""
    for name in names:
        (root / f"{name}.hea").touch()
    (root / "labels.csv").write_text(table)
    return WfdbDirectory("lab", root)


def write_table(path: Path, table: pd.DataFrame) -> Path:
    if path.suffix == ".csv":
        table.to_csv(path, index=False)
    else:
        table.to_parquet(path)
    return path


@pytest.mark.parametrize(
    "name", ["patient_id", "subject_id", "Patient_ID", "patient_id ", " SUBJECT_ID"]
)
def test_patient_columns_are_found_in_any_case_and_with_spaces(tmp_path: Path, name: str):
    dataset = make_dataset(tmp_path, f"Record_ID,{name},age\na,7,50\nb,7,50\n", "a", "b")
    assert dataset.index().patient_id.tolist() == ["7", "7"]
    assert dataset.labels().columns.tolist() == ["patient_id", "age"]


def test_two_patient_columns_must_agree(tmp_path: Path):
    dataset = make_dataset(
        tmp_path, "record_id,patient_id,subject_id\na,7,7\nb,,8\nc,9,\n", "a", "b", "c"
    )
    assert dataset.index().patient_id.tolist() == ["7", "8", "9"]
    (tmp_path / "labels.csv").write_text("record_id,patient_id,subject_id\na,1,1\nb,7,8\n")
    with pytest.raises(UserError, match="has 1 rows with two patients, such as b with 7 and 8;"):
        WfdbDirectory("lab", tmp_path).index()
    (tmp_path / "labels.csv").write_text("record_id,patient_id,Patient_ID\na,1,1\n")
    with pytest.raises(UserError, match="more than one column patient_id; keep one"):
        WfdbDirectory("lab", tmp_path).index()


def test_label_row_without_a_record_is_an_error(tmp_path: Path):
    dataset = make_dataset(tmp_path, "record_id,patient_id\na,7\nb1,7\n", "a", "b")
    with pytest.raises(UserError, match=r"labels.csv has 1 records that are not below .* as b1;"):
        dataset.index()


def test_record_ids_match_with_hea_suffix_and_in_any_unicode_form(tmp_path: Path):
    decomposed = unicodedata.normalize("NFD", "müller")
    dataset = make_dataset(
        tmp_path, "record_id,patient_id\na.hea,7\nmüller,7\nb,8\n", "a", decomposed, "b"
    )
    assert dataset.index().record_id.tolist() == ["a", "b", decomposed]
    assert dataset.index().patient_id.tolist() == ["7", "8", "7"]
    (tmp_path / "records.txt").write_text("müller.hea\n")
    assert select_records(dataset.index().record_id, records=tmp_path / "records.txt").tolist() == [
        decomposed
    ]


def test_exact_match_takes_precedence_over_normalized_match():
    composed, decomposed = "ü", unicodedata.normalize("NFD", "ü")
    ids = np.array([composed, decomposed])
    assert match_ids([decomposed, composed], ids).tolist() == [decomposed, composed]
    assert match_ids(["x.hea"], np.array(["x", "x.hea"])).tolist() == ["x.hea"]
    with pytest.raises(UserError, match="'a' and 'a ' differ only in spaces"):
        match_ids(["a"], np.array(["a", "a "]))


def test_id_that_differs_from_several_ids_only_in_normalization_matches_none():
    # The same letter as one code point, with a combining ring, and as the unit symbol.
    composed, decomposed, symbol = "\u00c5", "A\u030a", "\u212b"
    assert match_ids([symbol], np.array([composed])).tolist() == [composed]
    assert match_ids([symbol], np.array([composed, decomposed])).tolist() == [symbol]


def test_patient_ids_match_in_any_unicode_form(tmp_path: Path):
    decomposed = unicodedata.normalize("NFD", "müller")
    dataset = make_dataset(tmp_path, f"record_id,patient_id\na,müller\nb,{decomposed}\n", "a", "b")
    assert len(set(dataset.index().patient_id.tolist())) == 1


@pytest.mark.parametrize("marker", ["NA", "null", "nan", "None"])
def test_markers_of_missing_values_are_valid_ids(tmp_path: Path, marker: str):
    dataset = make_dataset(
        tmp_path, f"record_id,patient_id,age\n{marker},1,NA\nb,{marker},5\nc,,6\n", marker, "b", "c"
    )
    index = dataset.index()
    patients = pd.Series(index.patient_id, index.record_id).to_dict()
    assert patients == {marker: "1", "b": marker, "c": "c"}
    assert np.isnan(dataset.labels().loc[marker, "age"])


@pytest.mark.parametrize(
    ("column", "numbers"),
    [
        (["9007199254740993", "5.0", "-7", "007"], [BEYOND_FLOAT, 5, -7, 7]),
        ([BEYOND_FLOAT, None, 2**63], [BEYOND_FLOAT, None, None]),
        (np.array([1, 2**63 + 5], np.uint64), [1, None]),
        ([5.0, float(2**53), float(2**53 + 2), 1e300, np.inf, 1.5], [5, 2**53, *[None] * 4]),
        (["", "x6", "1e3", "9" * 30, "1" * 5000, True], [None] * 6),
    ],
)
def test_integers_are_parsed_exactly_or_not_at_all(column: object, numbers: list[int | None]):
    dtype = None if isinstance(column, np.ndarray) else object
    values, valid = parse_integers(pd.Series(column, dtype=dtype))
    assert valid.tolist() == [number is not None for number in numbers]
    assert values.dtype == np.int64
    assert values[valid].tolist() == [number for number in numbers if number is not None]


def test_integers_in_float_columns_become_text_without_a_decimal_point():
    assert parse_text_ids(pd.Series([7.0, None, 8.5, "7.0"], dtype=object)).fillna("").tolist() == [
        *("7", "", "8.5", "7.0")
    ]


INTEGER_INDEX = RecordIndex(np.array([BEYOND_FLOAT, BEYOND_FLOAT - 1, 5]), np.array([1, 2, 3]))


@pytest.mark.parametrize("file", ["records.csv", "records.parquet"])
def test_ids_beyond_float_precision_keep_their_labels(tmp_path: Path, file: str):
    ids = [str(BEYOND_FLOAT), "5.0"]
    labels = write_table(tmp_path / file, pd.DataFrame({"record_id": ids, "age": [61, 2]}))
    age = read_label_file(labels, INTEGER_INDEX, {"age"}).rows.table["age"]
    assert age.tolist() == pytest.approx([61, np.nan, 2], nan_ok=True)
    selected = write_table(
        tmp_path / f"selected-{file}", pd.DataFrame({"record_id": [BEYOND_FLOAT]})
    )
    assert select_records(INTEGER_INDEX.record_id, records=selected).tolist() == [BEYOND_FLOAT]


@pytest.mark.parametrize("number", [np.uint64(2**64 - 1), 1e300, 0.5])
def test_id_that_is_not_an_int64_is_an_error(tmp_path: Path, number: object):
    file = write_table(tmp_path / "l.parquet", pd.DataFrame({"record_id": [number], "age": [1]}))
    with pytest.raises(UserError, match="record_id is not an exact integer"):
        read_label_file(file, INTEGER_INDEX, {"age"})
    with pytest.raises(UserError, match="is not an exact integer"):
        read_record_ids(file)


@pytest.mark.parametrize("patients", [[1, None], [1.0, None], ["1", None], ["1.0", "NA"]], ids=str)
@pytest.mark.parametrize("file", ["records.csv", "records.parquet"])
def test_integer_patient_ids_match_in_any_dtype(tmp_path: Path, file: str, patients: list[object]):
    table = pd.DataFrame({"record_id": [BEYOND_FLOAT, 5], "patient_id": patients, "age": [1, 2]})
    read = read_label_file(write_table(tmp_path / file, table), INTEGER_INDEX, {"age"})
    assert read.rows.patients is not None


@pytest.mark.parametrize("dtype", [int, float, "Int64"])
def test_integer_patient_ids_match_a_data_set_with_text_ids(tmp_path: Path, dtype: object):
    # The ids 1 and 1.0 match the text "1". Record "b" is not in the table, so it has no label.
    index = RecordIndex(np.array(["a", "b"]), np.array(["1", "b"]))
    table = pd.DataFrame({"record_id": ["a"], "patient_id": pd.array([1], dtype), "age": [1]})
    file = write_table(tmp_path / "l.parquet", table)
    assert read_label_file(file, index, {"age"}).rows.table["age"].notna().tolist() == [True, False]


def test_text_patient_id_does_not_match_an_integer(tmp_path: Path):
    (tmp_path / "l.csv").write_text("record_id,patient_id,age\n5,x6,61\n")
    with pytest.raises(UserError, match=r"for example record 5 to patient x6 instead of 3;"):
        read_label_file(tmp_path / "l.csv", INTEGER_INDEX, {"age"})


@pytest.mark.parametrize("ids", [[5], ["5"]])
def test_categorical_columns_are_read(tmp_path: Path, ids: list[object]):
    table = pd.DataFrame({"record_id": ids, "patient_id": [3], "age": [61]})
    file = write_table(tmp_path / "l.parquet", table.astype("category"))
    assert read_label_file(file, INTEGER_INDEX, {"age"}).rows.table["age"].iloc[2] == 61


def test_repeated_id_column_is_an_error(tmp_path: Path):
    (tmp_path / "l.csv").write_text("record_id,record_id\n5,6\n")
    for text in (False, True):
        with pytest.raises(UserError, match="more than one column record_id"):
            read_record_ids(tmp_path / "l.csv", text=text)
