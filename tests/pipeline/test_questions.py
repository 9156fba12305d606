from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from enecg.errors import UserError
from enecg.tasks import TASKS, parse_tasks
from pipeline.datasets.mimic_iv_ecg import MimicIvEcg
from pipeline.labels.label_source import LabelSource, resolve_labels


@pytest.fixture(scope="module")
def source(synthetic_dir: Path) -> MimicIvEcg:
    return MimicIvEcg(synthetic_dir)


def table(source: MimicIvEcg, **columns: object) -> pd.DataFrame:
    """A row for each of the first records, as many as the columns have values."""
    some = {"record_id": source.index().record_id[: len(next(iter(columns.values())))]}  # type: ignore[arg-type]
    return pd.DataFrame(some | columns)


def asked(
    source: MimicIvEcg, file: pd.DataFrame | str, tmp_path: Path, *own: str, paper: tuple = ()
) -> LabelSource:
    path = tmp_path / "mine.csv"
    path.write_text(file if isinstance(file, str) else file.to_csv(index=False))
    return resolve_labels(source, path, parse_tasks(own), [TASKS[name] for name in paper])


def values(questions: LabelSource, name: str) -> list[object]:
    return questions.table[f"own:{name}"].tolist()


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet", " indexed.parquet"])
def test_labels_are_joined_by_record_id_whatever_their_order(
    suffix: str, source: MimicIvEcg, tmp_path: Path
):
    ids = source.index().record_id
    rows = pd.DataFrame({"study_id": ids, "lvef": ids % 70}).sample(frac=0.5, random_state=0)
    path = tmp_path / f"mine{suffix}"
    if "indexed" in suffix:
        rows.set_index("study_id").to_parquet(path)
    elif suffix == ".parquet":
        rows.to_parquet(path)
    else:
        rows.to_csv(path, index=False)
    found = resolve_labels(source, path, parse_tasks(["lvef:regression"]), []).table
    assert found.index.tolist() == ids.tolist()
    np.testing.assert_array_equal(found["patient_id"], source.index().patient_id)
    known = found["own:lvef"].dropna()
    assert sorted(known.index) == sorted(rows["study_id"])
    np.testing.assert_array_equal(known, known.index % 70)


def test_with_a_file_the_data_sets_own_label_tables_are_not_opened(
    source: MimicIvEcg, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def opened(_: object) -> None:
        raise AssertionError("the tables were opened")

    monkeypatch.setattr(MimicIvEcg, "labels", opened)
    asked(source, table(source, lvef=[50.0, 60.0]), tmp_path, "lvef:regression")


def test_the_papers_labels_of_a_file_take_the_place_of_the_data_sets(
    source: MimicIvEcg, tmp_path: Path
):
    file = table(
        source,
        rr_interval=[800, 29999, None],
        age=[40, 50, 60],
        sex=["man", "woman", ""],
        potassium=["normal", "abnormal", ""],
        diagnosis=["Sinus rhythm", " Sinus rhythm ", ""],
    )
    with pytest.raises(
        UserError, match=r"sex in .* such as 'man', 'woman'; write '0' or '1', 'false'"
    ):
        asked(source, file, tmp_path, paper=tuple(TASKS))
    for letters in (["M", "F", ""], ["m", "f", None], ["Male", "female", None], [1, "FEMALE", ""]):
        file["sex"] = letters
        sexes = asked(source, file, tmp_path, paper=tuple(TASKS)).table["sex"].head(3)
        np.testing.assert_array_equal(sexes, [1, 0, np.nan])
    file["sex"] = [1.0, 0.0, None]
    found = asked(source, file, tmp_path, paper=tuple(TASKS)).table.head(3)
    np.testing.assert_array_equal(found["rr_interval"], [800, np.nan, np.nan])
    np.testing.assert_array_equal(found["sex"], [1, 0, np.nan])
    np.testing.assert_array_equal(found["potassium"], [0, 1, np.nan])
    assert found["diagnosis"].tolist()[:2] == ["Sinus rhythm"] * 2
    assert found["diagnosis"].isna().tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("column", "classes", "numbers"),
    [
        (["0", "1", ""], ("0", "1"), [0, 1, np.nan]),
        (["1.0", "0.0", "NaN"], ("0", "1"), [1, 0, np.nan]),
        (["True", "false", "NA"], ("false", "true"), [1, 0, np.nan]),
        (["yes", " no", ""], ("no", "yes"), [1, 0, np.nan]),
        (["None", "severe", ""], ("None", "severe"), [0, 1, np.nan]),
        (["10", "9", ""], ("9", "10"), [1, 0, np.nan]),
    ],
)
def test_two_words_are_two_classes_and_the_second_is_the_positive_one(
    column: list[str],
    classes: tuple[str, str],
    numbers: list[float],
    source: MimicIvEcg,
    tmp_path: Path,
):
    found = asked(source, table(source, ablation=column), tmp_path, "ablation:binary")
    assert found.own[0].classes == classes
    np.testing.assert_array_equal(found.table["own:ablation"].head(3), numbers)
    assert f"ablation: {classes[1]!r} is the positive class" in " ".join(found.notes)


def test_classes_may_be_numbers_and_are_words_then(source: MimicIvEcg, tmp_path: Path):
    file = table(source, nyha=["1", "4", "", "2"])
    found = asked(source, file, tmp_path, "nyha:multiclass")
    assert values(found, "nyha")[:2] == ["1", "4"]
    assert found.table["own:nyha"].isna().tolist()[2:4] == [True, False]


def test_records_that_the_data_set_does_not_have_are_counted(source: MimicIvEcg, tmp_path: Path):
    file = table(source, lvef=[50.0, 60.0])
    more = pd.concat([file, pd.DataFrame({"record_id": [1, 2, 3], "lvef": 1.0})])
    found = asked(source, more, tmp_path, "lvef:regression")
    assert "3 records of mine.csv are not in the data set." in found.notes
    with pytest.raises(UserError, match=r"None of the 3 records of .*, such as 1; give the --dat"):
        asked(source, more.tail(3), tmp_path, "lvef:regression")


def test_a_column_of_the_data_sets_own_labels_can_be_a_task(source: MimicIvEcg):
    found = resolve_labels(source, None, parse_tasks(["potassium_mmol_l:regression:mmol/L"]), [])
    np.testing.assert_array_equal(
        found.table["own:potassium_mmol_l"], source.labels()["potassium_mmol_l"]
    )
    assert found.has(TASKS["age"])


WRONG = {
    "empty": ("", "cannot be read as a table"),
    "no id": ("name,lvef\nx,1\n", "has no column record_id or study_id, it has name, lvef"),
    "words as ids": ("record_id,lvef\na,1\n", "1 rows whose record_id is no whole number.*'a'"),
    "an id is missing": ("record_id,lvef\n,1\n5,2\n", "such as an empty one"),
    "no rows": ("record_id,lvef\n", "has no rows; give"),
    "semicolons": (
        "record_id;lvef\n5;1\n",
        "it has record_id;lvef; separate its columns by commas",
    ),
    "a field too many": ("record_id,lvef\n5,1\n6,2,3\n", "Expected 2 fields in line 3, saw 3"),
    "too many everywhere": ("record_id,lvef\n5,1,2\n6,2,3\n", "cannot be read as a table"),
    "conflict": ("record_id,lvef\n5,1\n5,2\n", "1 records in more than one row.* such as 5"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_file_that_is_no_table_of_labels_is_told(name: str, source: MimicIvEcg, tmp_path: Path):
    text, words = WRONG[name]
    with pytest.raises(UserError, match=words):
        asked(source, text, tmp_path, "lvef:regression")


def test_a_file_that_is_not_there_is_told(source: MimicIvEcg, tmp_path: Path):
    for name in ("none.csv", "none.parquet"):
        with pytest.raises(UserError, match=f"{name} is not there; name a CSV or Parquet file"):
            resolve_labels(source, tmp_path / name, parse_tasks(["lvef:regression"]), [])
    (tmp_path / "broken.parquet").write_text("no parquet")
    with pytest.raises(UserError, match=r"broken.parquet cannot be read as a table"):
        resolve_labels(source, tmp_path / "broken.parquet", parse_tasks(["lvef:regression"]), [])


def test_rows_that_say_the_same_twice_are_one(source: MimicIvEcg, tmp_path: Path):
    file = table(source, lvef=[50.0, 60.0])
    found = asked(source, pd.concat([file, file]), tmp_path, "lvef:regression")
    assert found.table["own:lvef"].notna().sum() == 2


def test_a_record_of_another_patient_is_refused(source: MimicIvEcg, tmp_path: Path):
    file = table(source, lvef=[50.0, 60.0])
    file["subject_id"] = source.index().patient_id[:2]
    asked(source, file, tmp_path, "lvef:regression")
    file.loc[1, "subject_id"] = 7
    with pytest.raises(UserError, match=r"gives 1 records to other patients .* to patient 7"):
        asked(source, file, tmp_path, "lvef:regression")


@pytest.mark.parametrize(
    ("column", "task", "words"),
    [
        ([1, 2, 3], "other:regression", "no column of labels 'other' in .* there are x; name"),
        ([1, 2, 3], "patient_id:regression", "no column of labels 'patient_id'"),
        ([1, 2, 3], "x:binary", "3 different values, '1', '2', '3', and a binary task two"),
        (["1", "high", "2"], "x:regression", "1 values that are no numbers, such as 'high'"),
        (["1", "inf", "2"], "x:regression", "1 values that are no numbers"),
        ([1, 1, 1], "x:binary", "1 different values .* leave the task out"),
        ([None, None, None], "x:multiclass", "0 different values"),
        ([7, 7, None], "x:regression", "1 different values"),
        (range(51), "x:multiclass", "51 different values, and a multiclass task at most 50"),
    ],
)
def test_a_column_that_does_not_bear_its_task_is_told_in_a_sentence(
    column: list[object], task: str, words: str, source: MimicIvEcg, tmp_path: Path
):
    with pytest.raises(UserError, match=words):
        asked(source, table(source, x=list(column)), tmp_path, task)


def test_what_the_machine_could_not_measure_is_unknown_in_its_own_table(
    source: MimicIvEcg, synthetic_dir: Path
):
    path = synthetic_dir / "machine_measurements.csv"
    measured = pd.read_csv(path)["p_axis"]
    assert (measured == 29999).any()
    found = resolve_labels(source, path, parse_tasks(["p_axis:regression"]), []).table["own:p_axis"]
    assert found.max() < 1000
    assert found.isna().sum() >= (measured == 29999).sum()
