"""Ids out of tables: exact, under the names that labs give the columns, and joined to the right
records."""

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

PAST_FLOATS = 2**53 + 1


def lab(root: Path, table: str, *names: str) -> WfdbDirectory:
    """A directory of these records, whose headers nobody opens, and its labels.csv."""
    for name in names:
        (root / f"{name}.hea").touch()
    (root / "labels.csv").write_text(table)
    return WfdbDirectory("lab", root)


def written(path: Path, table: pd.DataFrame) -> Path:
    if path.suffix == ".csv":
        table.to_csv(path, index=False)
    else:
        table.to_parquet(path)
    return path


@pytest.mark.parametrize(
    "name", ["patient_id", "subject_id", "Patient_ID", "patient_id ", " SUBJECT_ID"]
)
def test_patients_are_found_under_every_name_of_their_column(tmp_path: Path, name: str):
    ours = lab(tmp_path, f"Record_ID,{name},age\na,7,50\nb,7,50\n", "a", "b")
    assert ours.index().patient_id.tolist() == ["7", "7"]
    assert ours.labels().columns.tolist() == ["patient_id", "age"]


def test_two_columns_of_patients_say_the_same(tmp_path: Path):
    ours = lab(tmp_path, "record_id,patient_id,subject_id\na,7,7\nb,,8\nc,9,\n", "a", "b", "c")
    assert ours.index().patient_id.tolist() == ["7", "8", "9"]
    (tmp_path / "labels.csv").write_text("record_id,patient_id,subject_id\na,1,1\nb,7,8\n")
    with pytest.raises(UserError, match="has 1 records with two patients, such as b with 7 and 8;"):
        WfdbDirectory("lab", tmp_path).index()
    (tmp_path / "labels.csv").write_text("record_id,patient_id,Patient_ID\na,1,1\n")
    with pytest.raises(UserError, match="more than one column patient_id; keep one"):
        WfdbDirectory("lab", tmp_path).index()


def test_a_row_of_no_record_is_not_dropped_without_a_word(tmp_path: Path):
    ours = lab(tmp_path, "record_id,patient_id\na,7\nb1,7\n", "a", "b")
    with pytest.raises(UserError, match=r"labels.csv has 1 records that are not below .* as b1;"):
        ours.index()


def test_records_are_found_by_their_headers_names_and_in_any_form_of_unicode(tmp_path: Path):
    apart = unicodedata.normalize("NFD", "müller")
    ours = lab(tmp_path, "record_id,patient_id\na.hea,7\nmüller,7\nb,8\n", "a", apart, "b")
    assert ours.index().record_id.tolist() == ["a", "b", apart]
    assert ours.index().patient_id.tolist() == ["7", "8", "7"]
    (tmp_path / "mine.txt").write_text("müller.hea\n")
    assert select_records(ours.index().record_id, records=tmp_path / "mine.txt").tolist() == [apart]


def test_of_two_records_that_look_the_same_the_one_that_is_written_is_meant():
    together, apart = "ü", unicodedata.normalize("NFD", "ü")
    both = np.array([together, apart])
    assert match_ids([apart, together], both).tolist() == [apart, together]
    assert match_ids(["x.hea"], np.array(["x", "x.hea"])).tolist() == ["x.hea"]
    with pytest.raises(UserError, match="'a' and 'a ' differ by spaces alone"):
        match_ids(["a"], np.array(["a", "a "]))


def test_one_patient_is_one_in_any_form_of_unicode(tmp_path: Path):
    apart = unicodedata.normalize("NFD", "müller")
    ours = lab(tmp_path, f"record_id,patient_id\na,müller\nb,{apart}\n", "a", "b")
    assert len(set(ours.index().patient_id.tolist())) == 1


@pytest.mark.parametrize("word", ["NA", "null", "nan", "None"])
def test_a_word_for_nothing_may_be_what_a_record_or_a_patient_is_called(tmp_path: Path, word: str):
    ours = lab(
        tmp_path, f"record_id,patient_id,age\n{word},1,NA\nb,{word},5\nc,,6\n", word, "b", "c"
    )
    index = ours.index()
    patients = pd.Series(index.patient_id, index.record_id).to_dict()
    assert patients == {word: "1", "b": word, "c": "c"}
    assert np.isnan(ours.labels().loc[word, "age"])


@pytest.mark.parametrize(
    ("column", "numbers"),
    [
        (["9007199254740993", "5.0", "-7", "007"], [PAST_FLOATS, 5, -7, 7]),
        ([PAST_FLOATS, None, 2**63], [PAST_FLOATS, None, None]),
        (np.array([1, 2**63 + 5], np.uint64), [1, None]),
        ([5.0, float(2**53), float(2**53 + 2), 1e300, np.inf, 1.5], [5, 2**53, *[None] * 4]),
        (["", "x6", "1e3", "9" * 30, "1" * 5000, True], [None] * 6),
    ],
)
def test_a_whole_number_is_exact_or_none(column: object, numbers: list[int | None]):
    kind = None if isinstance(column, np.ndarray) else object
    values, known = parse_integers(pd.Series(column, dtype=kind))
    assert known.tolist() == [one is not None for one in numbers]
    assert values.dtype == np.int64
    assert values[known].tolist() == [one for one in numbers if one is not None]


def test_numbers_that_pandas_made_floats_of_are_text_without_a_point():
    assert parse_text_ids(pd.Series([7.0, None, 8.5, "7.0"], dtype=object)).fillna("").tolist() == [
        *("7", "", "8.5", "7.0")
    ]


NUMBERS = RecordIndex(np.array([PAST_FLOATS, PAST_FLOATS - 1, 5]), np.array([1, 2, 3]))


@pytest.mark.parametrize("file", ["mine.csv", "mine.parquet"])
def test_no_label_moves_to_the_record_beside_it(tmp_path: Path, file: str):
    ids = [str(PAST_FLOATS), "5.0"]
    labels = written(tmp_path / file, pd.DataFrame({"record_id": ids, "age": [61, 2]}))
    age = read_label_file(labels, NUMBERS, {"age"}).rows.table["age"]
    assert age.tolist() == pytest.approx([61, np.nan, 2], nan_ok=True)
    chosen = written(tmp_path / f"chosen-{file}", pd.DataFrame({"record_id": [PAST_FLOATS]}))
    assert select_records(NUMBERS.record_id, records=chosen).tolist() == [PAST_FLOATS]


@pytest.mark.parametrize("number", [np.uint64(2**64 - 1), 1e300, 0.5])
def test_an_id_that_is_no_int64_is_told_in_a_sentence(tmp_path: Path, number: object):
    file = written(tmp_path / "l.parquet", pd.DataFrame({"record_id": [number], "age": [1]}))
    with pytest.raises(UserError, match="record_id is not an exact integer"):
        read_label_file(file, NUMBERS, {"age"})
    with pytest.raises(UserError, match="is no whole number that can be told exactly"):
        read_record_ids(file)


@pytest.mark.parametrize("patients", [[1, None], [1.0, None], ["1", None], ["1.0", "NA"]], ids=str)
@pytest.mark.parametrize("file", ["mine.csv", "mine.parquet"])
def test_the_same_patients_are_the_same_however_they_are_kept(
    tmp_path: Path, file: str, patients: list[object]
):
    table = pd.DataFrame({"record_id": [PAST_FLOATS, 5], "patient_id": patients, "age": [1, 2]})
    read = read_label_file(written(tmp_path / file, table), NUMBERS, {"age"})
    assert read.rows.patients is not None


@pytest.mark.parametrize("kind", [int, float, "Int64"])
def test_patients_by_numbers_are_those_of_a_data_set_by_text(tmp_path: Path, kind: object):
    # A record without a row makes pandas take all of the column for floats.
    index = RecordIndex(np.array(["a", "b"]), np.array(["1", "b"]))
    table = pd.DataFrame({"record_id": ["a"], "patient_id": pd.array([1], kind), "age": [1]})
    file = written(tmp_path / "l.parquet", table)
    assert read_label_file(file, index, {"age"}).rows.table["age"].notna().tolist() == [True, False]


def test_a_patient_by_a_name_is_not_the_one_by_a_number(tmp_path: Path):
    (tmp_path / "l.csv").write_text("record_id,patient_id,age\n5,x6,61\n")
    with pytest.raises(UserError, match=r"such as 5 to patient x6 instead of 3;"):
        read_label_file(tmp_path / "l.csv", NUMBERS, {"age"})


@pytest.mark.parametrize("ids", [[5], ["5"]])
def test_a_categorical_column_is_a_column(tmp_path: Path, ids: list[object]):
    table = pd.DataFrame({"record_id": ids, "patient_id": [3], "age": [61]})
    file = written(tmp_path / "l.parquet", table.astype("category"))
    assert read_label_file(file, NUMBERS, {"age"}).rows.table["age"].iloc[2] == 61


def test_a_column_of_records_that_is_there_twice_is_told_in_a_sentence(tmp_path: Path):
    (tmp_path / "l.csv").write_text("record_id,record_id\n5,6\n")
    for text in (False, True):
        with pytest.raises(UserError, match="it has more than one column record_id"):
            read_record_ids(tmp_path / "l.csv", text=text)
