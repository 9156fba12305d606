"""The Parquet file of labels: contents, digest, permissions and summary."""

import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from label_tables import write

from enecg.errors import UserError
from pipeline.datasets.absence_reasons import REASONS, reason_column
from pipeline.datasets.base import Dataset
from pipeline.datasets.registry import open_dataset
from pipeline.labels import (
    LabelResult,
    LabelRules,
    RecordLabels,
    content_digest,
    make_labels,
    read_metadata,
    to_dask,
)
from pipeline.labels.label_file import read_label_file
from pipeline.labels.parquet_file import prepare_folder, to_arrow


@pytest.fixture(scope="module")
def dataset(synthetic_dir: Path) -> Dataset:
    return open_dataset(f"mimic-iv-ecg:{synthetic_dir}")


@pytest.fixture(scope="module")
def made(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> LabelResult:
    return make_labels(dataset, tmp_path_factory.mktemp("labels") / "new" / "labels.parquet")


def test_file_has_one_row_per_record_and_reasons_for_missing_labels(
    made: LabelResult, dataset: Dataset
) -> None:
    table = pq.read_table(made.path)
    assert table["record_id"].to_pylist() == dataset.index().record_id.tolist()
    assert table["subject_id"].to_pylist() == dataset.index().patient_id.tolist()
    for name, allowed in REASONS.items():
        values, reasons = table[name].to_pandas(), table[reason_column(name)].to_pandas()
        assert (values.isna() == reasons.notna()).all()
        assert set(reasons.dropna()) <= set(allowed)
    assert str(table.schema.field("potassium").type) == "int8"
    assert str(table.schema.field("potassium_absent").type).startswith("dictionary")


def test_file_matches_labels_of_data_set(made: LabelResult, dataset: Dataset) -> None:
    read = pq.read_table(made.path).to_pandas().set_index("record_id")
    labels = dataset.labels().rename(columns={"patient_id": "subject_id"})
    for name in labels:
        pd.testing.assert_series_equal(
            read[name], labels[name], check_dtype=False, check_names=False
        )


def test_metadata_has_rules_tables_counts_and_digest(made: LabelResult, dataset: Dataset) -> None:
    metadata = read_metadata(made.path)
    assert metadata is not None
    assert metadata["dataset"]["namespace"] == dataset.namespace
    assert metadata["dataset"]["index"] == dataset.index().digest
    assert metadata["rules"] == {
        **asdict(LabelRules()),
        "potassium_items": [50971, 50822],
        "abnormal": "range",
        "skip_lines": list(LabelRules().skip_lines),
    }
    assert set(metadata["tables"]) == {"machine_measurements.csv", "patients.csv", "labevents.csv"}
    records = len(dataset.index())
    for count in metadata["counts"].values():
        assert sum(n for reason, n in count.items() if reason != "patients") == records
    assert metadata["digest"] == made.digest == content_digest(pq.read_table(made.path))


def test_digest_depends_on_values_but_not_on_row_order(made: LabelResult) -> None:
    table = pq.read_table(made.path)
    shuffled = table.take(np.random.default_rng(0).permutation(len(table)))
    assert content_digest(shuffled) == made.digest
    position = table.column_names.index("diagnosis")
    other = table["diagnosis"].to_pylist()
    other[3] = (other[3] or "") + "!"
    assert content_digest(table.set_column(position, "diagnosis", [other])) != made.digest


def test_repeated_run_writes_same_bytes(
    made: LabelResult, dataset: Dataset, tmp_path: Path
) -> None:
    again = make_labels(dataset, tmp_path / "again.parquet")
    assert again.path.read_bytes() == made.path.read_bytes()
    other = make_labels(
        dataset, tmp_path / "other.parquet", LabelRules(match="nearest", window_hours=3)
    )
    assert other.digest != made.digest


def test_summary_has_every_label_the_abnormal_share_and_the_data_use_agreement(
    made: LabelResult,
) -> None:
    table = made.lines[0].splitlines()
    assert [line.split(" | ")[0].strip("| ") for line in table[2:]] == list(REASONS)
    potassium = next(line for line in table if line.startswith("| potassium"))
    assert "abnormal (" in potassium
    assert "mmol/L" in potassium
    assert "none_in_window" in potassium
    assert any("the row's reference range" in line for line in made.lines)
    assert any("data use agreement" in line for line in made.lines)
    assert made.lines[-1] == f"Digest: {made.digest}"


def test_new_folder_and_file_are_private(made: LabelResult) -> None:
    assert stat.S_IMODE(made.path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o600
    assert [path.name for path in made.path.parent.iterdir()] == ["labels.parquet"]


def test_folder_that_others_can_read_is_kept_with_a_warning(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    assert "Other users can access" in prepare_folder(tmp_path / "labels.parquet")[0]
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
    tmp_path.chmod(0o700)
    assert prepare_folder(tmp_path / "labels.parquet") == ()


def test_labels_whose_table_is_missing_are_reported(synthetic_dir: Path, tmp_path: Path) -> None:
    for name in ("record_list.csv", "synthetic.json"):
        (tmp_path / name).write_bytes((synthetic_dir / name).read_bytes())
    bare = open_dataset(f"mimic-iv-ecg:{tmp_path}")
    made = make_labels(bare, tmp_path / "labels.parquet")
    assert pq.read_schema(made.path).names == ["record_id", "subject_id"]
    assert "No labels for rr_interval, diagnosis: machine_measurements is missing." in made.lines
    assert "No labels for age, sex: hosp/patients is missing." in made.lines
    assert "No labels for potassium: hosp/labevents is missing." in made.lines
    with_hosp = make_labels(bare, tmp_path / "more.parquet", hosp=synthetic_dir / "hosp")
    assert set(with_hosp.labels.missing_tables) == {"rr_interval", "diagnosis"}
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"contains neither patients\.csv nor labevents\.csv"):
        make_labels(bare, tmp_path / "no.parquet", hosp=tmp_path / "empty")
    assert not (tmp_path / "no.parquet").exists()


def test_labels_of_ludb_are_written_without_hosp(ludb: Path, tmp_path: Path) -> None:
    dataset = open_dataset(f"ludb:{ludb}")
    made = make_labels(dataset, tmp_path / "labels.parquet")
    table = pq.read_table(made.path).to_pandas()
    assert len(table) == 200
    assert "potassium" not in table
    absent = table["age"].isna()
    assert (table.loc[absent, "age_absent"] == "not_stated").all()
    with pytest.raises(UserError, match="omit --hosp"):
        make_labels(dataset, tmp_path / "labels.parquet", hosp=tmp_path)


@pytest.fixture
def lab(tmp_path: Path) -> Dataset:
    """A data set with extra columns and text ids; two patient ids are equal as numbers."""
    for name in ("a", "b", "ward 3/ü"):
        (tmp_path / f"{name}.hea").parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.hea").write_text("")
    (tmp_path / "labels.csv").write_text(
        "record_id,patient_id,age,ward,beats,paced,age_absent,mixed\n"
        "a,1,50, north ,12,true,mine,3\nb,01,,,,,,x\nward 3/ü,P2,60,south,13,false,,3.0\n"
    )
    return open_dataset(f"wfdb:lab={tmp_path}")


def test_text_ids_are_not_converted_to_numbers(lab: Dataset, tmp_path: Path) -> None:
    made = make_labels(lab, tmp_path / "out" / "labels.parquet")
    table = pq.read_table(made.path)
    assert [str(table.schema.field(name).type) for name in table.column_names[:2]] == ["string"] * 2
    assert table["record_id"].to_pylist() == ["a", "b", "ward 3/ü"]
    assert table["subject_id"].to_pylist() == ["1", "01", "P2"]
    metadata = read_metadata(made.path)
    assert metadata is not None
    assert metadata["counts"]["age"] == {"ecgs": 2, "patients": 2, "not_stated": 1}
    assert metadata["digest"] == content_digest(table.take([2, 0, 1])) == made.digest
    read = read_label_file(made.path, lab.index(), {"age"})
    assert read.rows.table["age"].fillna(-1).tolist() == [50, -1, 60]


def test_digest_of_unchanged_contents_is_printed(lab: Dataset, tmp_path: Path) -> None:
    made = make_labels(lab, tmp_path / "out" / "labels.parquet")
    table = pq.read_table(made.path)
    for rows in ([0, 1, 2], [2, 0, 1]):
        pq.write_table(table.take(rows), made.path)
        (note,) = read_label_file(made.path, lab.index(), {"age"}).notes
        assert note.endswith(f"; label digest {made.digest[:12]}).")


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.set_column(2, "age", [[50.0, None, 61.0]]),
        lambda table: table.append_column("mine", [[1, 2, 3]]),
        lambda table: table.append_column("mine", [[[1], [2], [3]]]),
        lambda table: table.rename_columns(["study_id", *table.column_names[1:]]),
    ],
    ids=["value", "column", "lists", "name"],
)
def test_digest_of_changed_contents_is_not_printed(
    lab: Dataset, tmp_path: Path, change: Callable[[pa.Table], pa.Table]
) -> None:
    made = make_labels(lab, tmp_path / "out" / "labels.parquet")
    table = pq.read_table(made.path)
    changed = change(table).replace_schema_metadata(table.schema.metadata)
    pq.write_table(changed, made.path)
    read = read_label_file(made.path, lab.index(), {"age"})
    assert read.digest is None
    notes = " ".join(read.notes)
    assert "; label digest" not in notes
    assert "labels.parquet was changed after enecg label wrote it" in notes


def test_extra_columns_are_copied(lab: Dataset, tmp_path: Path) -> None:
    made = make_labels(lab, tmp_path / "out" / "labels.parquet")
    table = pq.read_table(made.path)
    assert table.column_names[2:] == ["age", "age_absent", "ward", "beats", "paced", "mixed"]
    assert table["age_absent"].to_pylist() == [None, "not_stated", None]
    assert table["ward"].to_pylist() == ["north", None, "south"]
    assert table["beats"].to_pylist() == [12.0, None, 13.0]
    assert table["paced"].to_pylist() == ["true", None, "false"]
    assert table["mixed"].to_pylist() == ["3", "x", "3.0"]
    assert "Additional columns of the data set: ward, beats, paced, mixed." in made.lines


def test_digest_follows_its_specification() -> None:
    ids = np.array([7, 3])
    frame = pd.DataFrame({"patient_id": [1, 2], "age": [50.0, np.nan]}, index=ids)
    table = to_arrow(RecordLabels(frame.rename_axis("record_id")))
    expected = b"record_id\0\1\1" + np.array([3, 7], "<i8").tobytes()
    expected += b"subject_id\0\1\1" + np.array([2, 1], "<i8").tobytes()
    expected += b"age\0\0\1" + np.array([50.0], "<f8").tobytes()
    assert content_digest(table) == hashlib.sha256(expected).hexdigest()


def test_file_opens_in_dask(made: LabelResult) -> None:
    frame = to_dask(made.path)
    assert frame["potassium"].mean().compute() == made.labels.table["potassium"].mean()


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("folder.parquet", "is a folder"),
        ("labels.csv", "does not end in .parquet"),
        ("file/labels.parquet", "cannot be written"),
        ("locked/labels.parquet", "cannot be written"),
        ("locked/deeper/labels.parquet", "cannot be written"),
    ],
)
def test_unwritable_file_is_reported_before_reading_tables(
    dataset: Dataset, tmp_path: Path, out: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder.parquet").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "locked").mkdir(mode=0o500)
    if os.geteuid() == 0 and "locked" in out:
        pytest.skip("root can write anywhere")
    monkeypatch.setattr("pipeline.labels.label_step.collect_labels", None)
    with pytest.raises(UserError, match=r"^[^\n]+\.$") as failure:
        make_labels(dataset, tmp_path / out)
    assert message in str(failure.value)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_interrupted_write_keeps_previous_file(
    dataset: Dataset, tmp_path: Path, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "labels.parquet"
    out.write_text("previous contents")

    def write_half(table: object, path: Path, **_: object) -> None:
        path.write_text("half")
        raise error

    monkeypatch.setattr("pipeline.labels.parquet_file.pq.write_table", write_half)
    with pytest.raises((UserError, KeyboardInterrupt)):
        make_labels(dataset, out)
    assert out.read_text() == "previous contents"
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("hosp/labevents.csv", ""),
        ("hosp/labevents.csv", "subject_id,itemid\n1,2\n"),
        ("hosp/labevents.csv", "subject_id,itemid,charttime,valuenum,itemid\n1,2,3,4,5\n"),
        ("hosp/labevents.csv", "subject_id,itemid,charttime,valuenum\n1,2\n"),
        ("hosp/labevents.csv.gz", "not gzip at all"),
        ("hosp/patients.csv", "\n\n"),
        ("machine_measurements.csv", "study_id\n1\n"),
    ],
)
def test_invalid_table_is_reported(
    synthetic_dir: Path, tmp_path: Path, name: str, content: str
) -> None:
    _copy_record_list(synthetic_dir, tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=rf"{Path(name).name} [^\n]+\.$"):
        make_labels(open_dataset(f"mimic-iv-ecg:{tmp_path}"), tmp_path / "labels.parquet")
    assert not (tmp_path / "labels.parquet").exists()


def test_truncated_gz_is_reported(synthetic_dir: Path, tmp_path: Path) -> None:
    _copy_record_list(synthetic_dir, tmp_path)
    table = write(
        tmp_path / "hosp" / "labevents.csv.gz", (synthetic_dir / "hosp/labevents.csv").read_text()
    )
    table.write_bytes(table.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"labevents.csv.gz is not a valid MIMIC table [^\n]+\.$"):
        make_labels(open_dataset(f"mimic-iv-ecg:{tmp_path}"), tmp_path / "labels.parquet")


def test_labels_from_empty_tables_are_missing_with_reasons(
    synthetic_dir: Path, tmp_path: Path
) -> None:
    _copy_record_list(synthetic_dir, tmp_path)
    for name in ("hosp/labevents.csv", "hosp/patients.csv", "machine_measurements.csv"):
        header = (synthetic_dir / name).read_text().splitlines()[0]
        (tmp_path / name).write_text(header)
    made = make_labels(open_dataset(f"mimic-iv-ecg:{tmp_path}"), tmp_path / "labels.parquet")
    metadata = read_metadata(made.path)
    assert metadata is not None
    reasons = {
        name: set(count) - {"ecgs", "patients"} for name, count in metadata["counts"].items()
    }
    assert reasons == {
        "rr_interval": {"not_listed"},
        "age": {"patient_not_listed"},
        "sex": {"patient_not_listed"},
        "potassium": {"no_result"},
        "diagnosis": {"not_listed"},
    }


def _copy_record_list(synthetic_dir: Path, directory: Path) -> None:
    """Copy the synthetic record list and marker without the other tables, and create `hosp`."""
    (directory / "hosp").mkdir()
    for name in ("record_list.csv", "synthetic.json"):
        (directory / name).write_bytes((synthetic_dir / name).read_bytes())
