"""Labels of a run, from a user's file or from the data set."""

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
    """Return a table of the first records, one for each value of the columns."""
    ids = {"record_id": source.index().record_id[: len(next(iter(columns.values())))]}  # type: ignore[arg-type]
    return pd.DataFrame(ids | columns)


def resolve(
    source: MimicIvEcg, file: pd.DataFrame | str, tmp_path: Path, *own: str, paper: tuple = ()
) -> LabelSource:
    path = tmp_path / "mine.csv"
    path.write_text(file if isinstance(file, str) else file.to_csv(index=False))
    return resolve_labels(source, path, parse_tasks(own), [TASKS[name] for name in paper])


def values(labels: LabelSource, name: str) -> list[object]:
    return labels.table[f"own:{name}"].tolist()


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet", " indexed.parquet"])
def test_labels_are_joined_by_record_id_in_any_order(
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


def test_label_tables_of_the_data_set_are_not_read_if_a_file_is_given(
    source: MimicIvEcg, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(_: object) -> None:
        raise AssertionError("the data set's tables were opened")

    monkeypatch.setattr(MimicIvEcg, "labels", fail)
    resolve(source, table(source, lvef=[50.0, 60.0]), tmp_path, "lvef:regression")


def test_paper_tasks_are_read_from_file(source: MimicIvEcg, tmp_path: Path):
    file = table(
        source,
        rr_interval=[800, 29999, None],
        age=[40, 50, 60],
        sex=["man", "woman", ""],
        potassium=["normal", "abnormal", ""],
        diagnosis=["Sinus rhythm", " Sinus rhythm ", ""],
    )
    found = resolve(source, file, tmp_path, paper=tuple(TASKS))
    assert not found.has(TASKS["sex"])
    assert [note for note in found.notes if "such as 'man' of record" in note]
    for letters in (["M", "F", ""], ["m", "f", None], ["Male", "female", None], [1, "FEMALE", ""]):
        file["sex"] = letters
        sexes = resolve(source, file, tmp_path, paper=tuple(TASKS)).table["sex"].head(3)
        np.testing.assert_array_equal(sexes, [1, 0, np.nan])
    file["sex"] = [1.0, 0.0, None]
    found = resolve(source, file, tmp_path, paper=tuple(TASKS)).table.head(3)
    np.testing.assert_array_equal(found["rr_interval"], [800, np.nan, np.nan])
    np.testing.assert_array_equal(found["sex"], [1, 0, np.nan])
    np.testing.assert_array_equal(found["potassium"], [0, 1, np.nan])
    assert found["diagnosis"].tolist()[:2] == ["sinus rhythm"] * 2
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
def test_second_of_two_class_names_is_the_positive_class(
    column: list[str],
    classes: tuple[str, str],
    numbers: list[float],
    source: MimicIvEcg,
    tmp_path: Path,
):
    found = resolve(source, table(source, ablation=column), tmp_path, "ablation:binary")
    assert found.own[0].classes == classes
    np.testing.assert_array_equal(found.table["own:ablation"].head(3), numbers)
    (note,) = [text for text in found.notes if "positive" in text]
    assert note.startswith(f"ablation: {classes[1]!r} is the positive class by default")
    assert note.endswith(f"write --task ablation:binary:{classes[0]}.")


@pytest.mark.parametrize(
    ("column", "positive", "classes"),
    [
        (["AF", "SR", ""], "AF", ("SR", "AF")),
        (["AF", "SR", ""], "SR", ("AF", "SR")),
        (["0", "1", ""], "0", ("1", "0")),
        (["1.0", "0.0", ""], "0", ("1", "0")),
        (["True", "False", ""], "False", ("true", "false")),
        (["9", "10", ""], "9", ("10", "9")),
    ],
)
def test_named_class_is_the_positive_class(
    column: list[str],
    positive: str,
    classes: tuple[str, str],
    source: MimicIvEcg,
    tmp_path: Path,
):
    found = resolve(source, table(source, af=column), tmp_path, f"af:binary:{positive}")
    assert found.own[0].classes == classes
    numbers = [
        float(word.strip().lower().removesuffix(".0") == positive.lower()) for word in column[:2]
    ]
    np.testing.assert_array_equal(found.table["own:af"].head(3), [*numbers, np.nan])
    assert not [note for note in found.notes if "positive" in note]


def test_positive_class_must_be_a_value_of_the_column(source: MimicIvEcg, tmp_path: Path):
    with pytest.raises(
        UserError, match=r"'af' is given as the positive class of rhythm, but .* 'AF', 'SR'; write"
    ):
        resolve(source, table(source, rhythm=["AF", "SR"]), tmp_path, "rhythm:binary:af")


def test_numeric_classes_become_strings(source: MimicIvEcg, tmp_path: Path):
    file = table(source, nyha=["1", "4", "", "2"])
    found = resolve(source, file, tmp_path, "nyha:multiclass")
    assert values(found, "nyha")[:2] == ["1", "4"]
    assert found.table["own:nyha"].isna().tolist()[2:4] == [True, False]


def test_unknown_records_are_counted(source: MimicIvEcg, tmp_path: Path):
    file = table(source, lvef=[50.0, 60.0])
    more = pd.concat([file, pd.DataFrame({"record_id": [1, 2, 3], "lvef": 1.0})])
    found = resolve(source, more, tmp_path, "lvef:regression")
    assert "3 records of mine.csv are not in the data set." in found.notes
    with pytest.raises(
        UserError,
        match=r"None of the 3 records of .* \(such as 1\) is in the data set; check --dataset",
    ):
        resolve(source, more.tail(3), tmp_path, "lvef:regression")


def test_any_label_column_of_the_data_set_can_be_a_task(source: MimicIvEcg):
    found = resolve_labels(source, None, parse_tasks(["potassium_mmol_l:regression:mmol/L"]), [])
    np.testing.assert_array_equal(
        found.table["own:potassium_mmol_l"], source.labels()["potassium_mmol_l"]
    )
    assert found.has(TASKS["age"])


INVALID = {
    "empty": ("", "cannot be read as a table"),
    "no id": ("name,lvef\nx,1\n", "has no column record_id or study_id, only name, lvef"),
    "ids that are not numbers": (
        "record_id,lvef\na,1\n",
        "1 rows whose record_id is not an exact integer.*'a'",
    ),
    "missing id": ("record_id,lvef\n,1\n", "such as an empty field"),
    "no rows": ("record_id,lvef\n", "has no rows; pass"),
    "semicolons": (
        "record_id;lvef\n5;1\n",
        "only record_id;lvef; separate columns by commas",
    ),
    "extra field in one row": (
        "record_id,lvef\n5,1\n6,2,3\n",
        "Expected 2 fields in line 3, saw 3",
    ),
    "extra field in all rows": ("record_id,lvef\n5,1,2\n6,2,3\n", "cannot be read as a table"),
    "conflict": ("record_id,lvef\n5,1\n5,2\n5,3\n", "1 records with several different rows"),
}


@pytest.mark.parametrize("name", INVALID)
def test_invalid_file_is_reported(name: str, source: MimicIvEcg, tmp_path: Path):
    text, message = INVALID[name]
    with pytest.raises(UserError, match=message):
        resolve(source, text, tmp_path, "lvef:regression")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("broken", ["x1", "1.5", "", None])
def test_rows_without_a_valid_id_are_skipped_and_counted(
    source: MimicIvEcg, tmp_path: Path, suffix: str, broken: str | None
):
    rows = table(source, lvef=[50.0, 60.0, 70.0]).astype({"record_id": object})
    rows.loc[1, "record_id"] = broken
    path = tmp_path / f"mine{suffix}"
    rows = rows.astype({"record_id": "string"})
    rows.to_csv(path, index=False) if suffix == ".csv" else rows.to_parquet(path)
    found = resolve_labels(source, path, parse_tasks(["lvef:regression"]), [])
    np.testing.assert_array_equal(found.table["own:lvef"].head(3), [50, np.nan, 70])
    example = repr(broken) if broken else "an empty field"
    assert (
        f"Skipped 1 rows whose record_id is not an exact integer, such as {example}, in "
        f"mine{suffix}."
    ) in found.notes


def test_missing_and_broken_files_are_errors(source: MimicIvEcg, tmp_path: Path):
    for name in ("none.csv", "none.parquet"):
        with pytest.raises(UserError, match=f"{name} does not exist; pass a CSV or Parquet file"):
            resolve_labels(source, tmp_path / name, parse_tasks(["lvef:regression"]), [])
    (tmp_path / "broken.parquet").write_text("no parquet")
    with pytest.raises(UserError, match=r"broken.parquet cannot be read as a table"):
        resolve_labels(source, tmp_path / "broken.parquet", parse_tasks(["lvef:regression"]), [])


def test_duplicate_rows_are_ignored(source: MimicIvEcg, tmp_path: Path):
    file = table(source, lvef=[50.0, 60.0])
    found = resolve(source, pd.concat([file, file]), tmp_path, "lvef:regression")
    assert found.table["own:lvef"].notna().sum() == 2


def test_record_assigned_to_another_patient_is_an_error(source: MimicIvEcg, tmp_path: Path):
    file = table(source, lvef=[50.0, 60.0])
    file["subject_id"] = source.index().patient_id[:2]
    resolve(source, file, tmp_path, "lvef:regression")
    file.loc[1, "subject_id"] = 7
    with pytest.raises(UserError, match=r"assigns 1 records to other patients .* to patient 7"):
        resolve(source, file, tmp_path, "lvef:regression")


@pytest.mark.parametrize(
    ("column", "task", "message"),
    [
        ([1, 2, 3], "other:regression", "No label column 'other' in .* available columns: x"),
        ([1, 2, 3], "patient_id:regression", "No label column 'patient_id'"),
        ([1, 2, 3], "x:binary", "3 distinct values \\('1', '2', '3'\\), but a binary task has 2"),
        (["low", "high", ""], "x:regression", "x has no numbers, but values such as 'high', 'low'"),
        (["inf", "", "-inf"], "x:regression", "has no numbers, but values such as '-inf', 'inf'"),
        ([1, 1, 1], "x:binary", "only the value 1 in the 3 labeled of .* omit the task"),
        ([None, None, None], "x:multiclass", "no value in the 0 labeled"),
        ([7, 7, None], "x:regression", "only the value 7.0 in the 2 labeled"),
        (range(51), "x:multiclass", "51 distinct values, but a multiclass task has at most 50"),
    ],
)
def test_column_unsuitable_for_its_task_is_an_error(
    column: list[object], task: str, message: str, source: MimicIvEcg, tmp_path: Path
):
    with pytest.raises(UserError, match=message):
        resolve(source, table(source, x=list(column)), tmp_path, task)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("word", ["high", "inf", "5,1", "-"])
def test_one_bad_cell_of_a_regression_is_counted_with_its_record(
    source: MimicIvEcg, tmp_path: Path, suffix: str, word: str
):
    rows = table(source, x=["1", word, "2.5", None])
    path = tmp_path / f"mine{suffix}"
    rows.to_csv(path, index=False) if suffix == ".csv" else rows.to_parquet(path)
    found = resolve_labels(source, path, parse_tasks(["x:regression"]), [])
    np.testing.assert_array_equal(found.table["own:x"].head(4), [1, np.nan, 2.5, np.nan])
    assert (
        f"mine{suffix}: values of x that are not numbers, such as {word!r} of record "
        f"{rows['record_id'][1]}, treated as missing: 1."
    ) in found.notes


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_bad_cells_of_the_papers_tasks_are_counted(source: MimicIvEcg, tmp_path: Path, suffix: str):
    rows = table(
        source,
        age=["40", "abc", "300", "999"],
        sex=["M", "Unknown", "f", None],
        rr_interval=["0.9", "800", "29999", "1.2"],
        potassium=["normal", "abnormal", "high", None],
    )
    path = tmp_path / f"mine{suffix}"
    rows.to_csv(path, index=False) if suffix == ".csv" else rows.to_parquet(path)
    found = resolve_labels(source, path, [], TASKS.values())
    known = found.table.head(4)
    np.testing.assert_array_equal(known["age"], [40, np.nan, 90, np.nan])
    np.testing.assert_array_equal(known["sex"], [1, np.nan, 0, np.nan])
    np.testing.assert_array_equal(known["rr_interval"], [np.nan, 800, np.nan, np.nan])
    np.testing.assert_array_equal(known["potassium"], [0, 1, np.nan, np.nan])
    records = rows["record_id"].tolist()
    where = f"mine{suffix}: values of"
    for note in (
        f"mine{suffix}: ages over 89, set to 90: 1.",
        f"{where} age that are not numbers, such as 'abc' of record {records[1]}, treated as "
        "missing: 1.",
        f"{where} rr_interval from 0.2 to 3, which look like seconds instead of ms, such as '0.9' "
        f"of record {records[0]}, treated as missing: 2.",
        f"{where} sex other than 0, 1, false, true, female, male, f and m, such as 'Unknown' of "
        f"record {records[1]}, treated as missing: 1.",
    ):
        assert note in found.notes


@pytest.mark.parametrize("code", [29999, 32767, -32768, 65535, 181])
@pytest.mark.parametrize("subset", [False, True])
def test_axes_outside_their_range_are_missing_values_in_any_table(
    code: int, subset: bool, source: MimicIvEcg, synthetic_dir: Path, tmp_path: Path
):
    measured = pd.read_csv(synthetic_dir / "machine_measurements.csv")
    measured["p_axis"] = measured["p_axis"].replace(29999, code)
    count = int((measured["p_axis"] == code).sum())
    assert count
    path = tmp_path / "machine_measurements.csv"
    measured[["study_id", "p_axis"] if subset else measured.columns].to_csv(path, index=False)
    found = resolve_labels(source, path, parse_tasks(["p_axis:regression"]), [])
    assert found.table["own:p_axis"].between(-180, 180).sum() == len(found.table) - count
    assert found.table["own:p_axis"].isna().sum() == count
    assert any(
        note.startswith("machine_measurements.csv: values of p_axis outside -180 to 180")
        and str(count) in note
        for note in found.notes
    )


def test_suspicious_values_are_reported_and_can_be_declared_missing(
    source: MimicIvEcg, tmp_path: Path
):
    records = len(source.index())
    lvef = [55.0 + n % 20 for n in range(records)]
    lvef[3] = lvef[7] = -999.0
    lvef[5] = 12345.0
    file = table(source, lvef=lvef)
    found = resolve(source, file, tmp_path, "lvef:regression")
    (note,) = [note for note in found.notes if "far outside" in note]
    assert note == (
        "lvef has values far outside the others (55 to 74): -999 (2 ECGs), 12345 (1 ECGs). If they "
        "mean missing, add --missing-value lvef=-999 --missing-value lvef=12345."
    )
    path = tmp_path / "mine.csv"
    file.to_csv(path, index=False)
    found = resolve_labels(
        source,
        path,
        parse_tasks(["lvef:regression"]),
        [],
        missing_values=("lvef=-999", "lvef=12345.0"),
    )
    assert found.table["own:lvef"].isna().sum() == 3
    assert not [note for note in found.notes if "far outside" in note]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("lvef", "'lvef' is not valid in --missing-value"),
        ("=3", "is not valid in --missing-value"),
        ("height=3", "names column 'height', which .* does not have; available columns: "),
    ],
)
def test_invalid_missing_value_is_reported(
    spec: str, message: str, source: MimicIvEcg, tmp_path: Path
):
    path = tmp_path / "mine.csv"
    table(source, lvef=[50.0, 60.0]).to_csv(path, index=False)
    with pytest.raises(UserError, match=message):
        resolve_labels(source, path, parse_tasks(["lvef:regression"]), [], missing_values=(spec,))


def test_missing_values_apply_to_words_and_to_tasks_of_the_paper(
    source: MimicIvEcg, tmp_path: Path
):
    path = tmp_path / "mine.csv"
    table(source, grade=["none", "mild", "U"], age=[1, 50, 60]).to_csv(path, index=False)
    found = resolve_labels(
        source,
        path,
        parse_tasks(["grade:multiclass"]),
        [TASKS["age"]],
        missing_values=("grade=U", "age=1"),
    )
    assert found.table["own:grade"].iloc[:3].isna().tolist() == [False, False, True]
    assert found.table["age"].iloc[:3].isna().tolist() == [True, False, False]
