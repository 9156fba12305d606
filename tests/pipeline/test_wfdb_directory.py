"""Directories of WFDB records, whose ids are text."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from quick_runs import QUICK, RANDOM, extract_random
from test_datasets import check_dataset
from written_records import Source, read_ecgs, write_record

from enecg.ecg_format import LEADS
from enecg.errors import UserError
from pipeline.datasets.base import RecordIndex
from pipeline.datasets.registry import open_dataset
from pipeline.datasets.selection import read_record_ids, select_records
from pipeline.datasets.wfdb_directory import WfdbDirectory
from pipeline.datasets.wfdb_listing import find_records
from pipeline.evaluate import evaluate
from pipeline.extract import extract
from pipeline.extraction.options import ExtractOptions
from pipeline.labels import make_labels
from pipeline.labels.label_file import read_label_file
from pipeline.train import train
from pipeline.training.settings import TrainSettings
from pipeline.waveforms.errors import UnreadableRecord
from stores.opening import open_stores

RECORDS = 40


def record_name(position: int) -> str:
    """Return an id; ids differ in length, and some contain non-ASCII letters, spaces and commas."""
    return ("Zürich, ward 3/", "b/", "")[position % 3] + f"{position:03d}"


@pytest.fixture(scope="module")
def source(synthetic_dir: Path) -> Source:
    return read_ecgs(synthetic_dir, RECORDS)


@pytest.fixture(scope="module")
def root(source: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wfdb") / "data"
    for position, ecg in enumerate(source.ecgs):
        write_record(directory / record_name(position), ecg, LEADS)
    (directory / "b/empty.hea").write_text("")
    (directory / "b/parts.hea").write_text("parts/2 12 500 10000\none 5000\nother 5000\n")
    labels(source).to_csv(directory / "labels.csv", index=False)
    return directory


def labels(source: Source) -> pd.DataFrame:
    """Return a label table whose patient ids are text; one of them is missing."""
    known = source.labels
    patients = [f"P{patient}" for patient in known["patient_id"]]
    return pd.DataFrame(
        {
            "record_id": [record_name(position) for position in range(len(known))],
            "patient_id": [None, *patients[1:]],
            "sex": known["sex"].map({1.0: "M", 0.0: "F"}).to_numpy(),
            "age": known["age"].to_numpy(),
            "ward": [["east", "west"][position % 2] for position in range(len(known))],
        }
    ).sample(frac=1, random_state=0)


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def create_files(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_wfdb_directory_follows_the_protocol_of_data_sets(root: Path, source: Source):
    dataset = open_dataset(f"wfdb:our-lab={root}")
    check_dataset(dataset)
    assert dataset.namespace == "wfdb/our-lab"
    index = dataset.index()
    assert index.record_id.tolist() == sorted(
        [*(record_name(position) for position in range(RECORDS)), "b/empty", "b/parts"]
    )
    for position in (0, 1, 2):
        row = index.record_id.tolist().index(record_name(position))
        np.testing.assert_allclose(dataset.read(row), source.ecgs[position], atol=6e-4)


def test_empty_and_multi_segment_headers_are_unreadable(root: Path):
    dataset = WfdbDirectory("lab", root)
    for name in ("b/empty", "b/parts"):
        with pytest.raises(UnreadableRecord, match=rf"{name}.hea") as failure:
            dataset.read(dataset.index().record_id.tolist().index(name))
        assert failure.value.reason == "unreadable"


def test_patients_and_labels_come_from_the_table(root: Path, source: Source):
    known = WfdbDirectory("lab", root).labels()
    written = labels(source).set_index("record_id")
    assert known.loc[record_name(0), "patient_id"] == record_name(0)
    assert known.loc["b/parts", "patient_id"] == "b/parts"
    for position in (1, 2, 3, 20):
        actual, expected = known.loc[record_name(position)], written.loc[record_name(position)]
        assert actual["patient_id"] == expected["patient_id"]
        assert actual["sex"] == {"M": 1.0, "F": 0.0}[expected["sex"]]
        assert actual["age"] == expected["age"]
        assert actual["ward"] == expected["ward"]
    assert known.loc[["b/empty", "b/parts"], ["sex", "age", "ward"]].isna().all(axis=None)


def test_without_a_table_every_record_is_its_own_patient(empty: Path):
    create_files(empty, "1.hea", "007.hea")
    index = WfdbDirectory("lab", empty).index()
    assert index.record_id.tolist() == index.patient_id.tolist() == ["007", "1"]
    assert WfdbDirectory("lab", empty).labels().columns.tolist() == ["patient_id"]


def test_digests_of_text_ids_differ_and_the_digest_of_integers_is_pinned(empty: Path):
    numbers = RecordIndex(np.arange(3), np.array([7, 7, 8]))
    assert numbers.digest.startswith("3eb6a998d7fb80b2a8c782b918d87383")
    texts = [np.array(ids) for ids in (["a", "bc"], ["ab", "c"], ["a", "bc", "d"])]
    digests = {RecordIndex(ids, ids).digest for ids in texts}
    digests.add(RecordIndex(texts[0], texts[1]).digest)
    digests.add(RecordIndex(texts[0], np.array([1, 2])).digest)
    assert len(digests) == 5


def test_records_are_sorted_and_hidden_ones_ignored(empty: Path):
    create_files(empty, "b/2.hea", "b/10.hea", "b-1.hea", "a.b.hea", "b/2.dat", "c.HEA", ".hea")
    create_files(empty, "B/d.Hea", "hea", "x.heat")
    create_files(empty, ".git/x.hea", "b/.~2.hea", "b/.snapshot/2.hea")
    (empty / "folder.hea").mkdir()
    assert find_records(empty) == ["B/d", "a.b", "b-1", "b/10", "b/2", "c"]


def test_two_headers_of_one_record_are_rejected(empty: Path):
    create_files(empty, "b/2.hea", "b/2.HEA", "a.hea", "A.hea")
    with pytest.raises(UserError, match="several headers of the record b/2, whose suffixes differ"):
        find_records(empty)


def test_ids_in_a_table_may_have_the_suffix_in_capitals(empty: Path):
    create_files(empty, "1.HEA", "2.hea")
    (empty / "labels.csv").write_text("record_id,sex\n1.HEA,M\n2,F\n")
    assert WfdbDirectory("lab", empty).labels()["sex"].tolist() == [1.0, 0.0]


def test_each_folder_is_visited_once_despite_links(empty: Path, tmp_path: Path):
    create_files(empty, "b/1.hea", "b/c/2.hea")
    create_files(tmp_path / "elsewhere", "3.hea")
    (empty / "a").symlink_to("b")
    (empty / "b/loop").symlink_to("..")
    (empty / "b/c/self").symlink_to(".")
    (empty / "z").symlink_to(tmp_path / "elsewhere")
    (empty / "zz").symlink_to(tmp_path / "elsewhere")
    (empty / "gone").symlink_to(tmp_path / "nowhere")
    (empty / "itself").symlink_to("itself")
    assert find_records(empty) == ["b/1", "b/c/2", "z/3"]


def test_links_inside_the_directory_and_linked_folders_are_followed(
    empty: Path, source: Source, tmp_path: Path
):
    """git-annex stores files as links, and a lab may keep the records on another disk."""
    write_record(empty / ".git/annex/objects/1", source.ecgs[1], LEADS)
    for folder in ("disk", "other", "third"):
        write_record(tmp_path / folder / "1", source.ecgs[1], LEADS)
    (empty / "annexed").mkdir()
    (empty / "out").mkdir()
    for name in ("1.hea", "1.dat"):
        (empty / "annexed" / name).symlink_to(f"../.git/annex/objects/{name}")
        (empty / "out" / name).symlink_to(tmp_path / "other" / name)
    (empty / "disk").symlink_to(tmp_path / "disk")
    (empty / "sub/folder").mkdir(parents=True)
    (empty / "sub/folder/disk").symlink_to(tmp_path / "third")
    dataset = WfdbDirectory("lab", empty)
    names = ["annexed/1", "disk/1", "out/1", "sub/folder/disk/1"]
    assert dataset.index().record_id.tolist() == names
    for row in (0, 1, 3):
        np.testing.assert_allclose(dataset.read(row), source.ecgs[1], atol=6e-4)
        assert dataset.read_leads(row).rate_hz == 500
    with pytest.raises(
        UnreadableRecord, match=r"out/1.hea: file is outside the data set's folder, at .*other/1"
    ) as failure:
        dataset.read(2)
    assert failure.value.reason == "unreadable"


def test_index_opens_no_header(empty: Path):
    (empty / "a.hea").symlink_to("nowhere")
    create_files(empty, "b.hea")
    (empty / "b.hea").chmod(0)
    dataset = WfdbDirectory("lab", empty)
    assert dataset.index().record_id.tolist() == ["a", "b"]
    with pytest.raises(UnreadableRecord) as failure:
        dataset.read(0)
    assert failure.value.reason == "missing_file"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("wfdb:{root}", "has no name"),
        ("wfdb:our lab={root}", "is not a valid name"),
        ("wfdb:Our={root}", "is not a valid name"),
        ("wfdb:../lab={root}", "is not a valid name"),
        ("wfdb:..={root}", "is not a valid name"),
        ("wfdb:={root}", "is not a valid name"),
        ("wfdb:lab=", "has no folder"),
        ("wfdb:lab={root}/nowhere", "does not exist"),
        ("wfdb:lab={root}", "contains no WFDB record"),
    ],
)
def test_invalid_spec_is_rejected(empty: Path, spec: str, message: str):
    with pytest.raises(UserError, match=message):
        open_dataset(spec.format(root=empty)).index()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("name,sex\n1,M\n", "has no column record_id or study_id"),
        ("record_id,sex\n1,M\n,F\n", "has 1 rows without record_id"),
        ("record_id,sex\n1,M\n1,F\n", "1 records with several different rows"),
        ("record_id,sex\n1.dat,M\n", "None of the 1 records of .* \\(such as 1.dat\\)"),
        (
            "record_id,sex\n1,M\n3,F\n4,F\n",
            "has 2 records that are not below .* such as 3; correct",
        ),
    ],
)
def test_invalid_table_is_rejected(empty: Path, table: str, message: str):
    create_files(empty, "1.hea", "2.hea")
    (empty / "labels.csv").write_text(table)
    with pytest.raises(UserError, match=message):
        WfdbDirectory("lab", empty).labels()


def test_bad_cells_of_the_table_are_counted_and_other_labels_are_kept(empty: Path):
    create_files(empty, "1.hea", "2.hea", "3.hea")
    (empty / "labels.csv").write_text(
        "record_id,sex,age,rr_interval,potassium_mmol_l,potassium,lvef\n"
        "1,Unknown,abc,0.8,x,?,high\n2,F,300,800,4.1,abnormal,50\n3,M,999,1.1,999,normal,60\n"
    )
    dataset = WfdbDirectory("lab", empty)
    labels = dataset.labels()
    np.testing.assert_array_equal(labels["sex"], [np.nan, 0, 1])
    np.testing.assert_array_equal(labels["age"], [np.nan, 90, np.nan])
    np.testing.assert_array_equal(labels["rr_interval"], [np.nan, 800, np.nan])
    np.testing.assert_array_equal(labels["potassium_mmol_l"], [np.nan, 4.1, np.nan])
    np.testing.assert_array_equal(labels["potassium"], [np.nan, 1, 0])
    lines = make_labels(dataset, empty / "labels.parquet").lines
    assert "| age | 1 | 1 | 90.0 ± n/a, 90 to 90 years | unreadable 1, implausible 1 |" in lines[0]
    where = "labels.csv: values of"
    for line in (
        "labels.csv: ages over 89, set to 90: 1.",
        f"{where} age outside 0 to 120, such as '999' of record 3, treated as missing: 1.",
        f"{where} age that are not numbers, such as 'abc' of record 1, treated as missing: 1.",
        f"{where} rr_interval from 0.2 to 3, which look like seconds instead of ms, such as '0.8' "
        "of record 1, treated as missing: 2.",
        f"{where} sex other than 0, 1, false, true, female, male, f and m, such as 'Unknown' of "
        "record 1, treated as missing: 1.",
    ):
        assert line in lines


def test_name_that_is_not_utf8_is_rejected(empty: Path):
    create_files(empty, "Z\udcfcrich.hea")
    with pytest.raises(UserError, match=r"not valid UTF-8, 'Z\\udcfcrich'"):
        find_records(empty)


INDEX = np.array(["007", "7", "Zürich, ward 3/1", "b/2"])


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("records.txt", "# of May\nZürich, ward 3/1\n\n  007\n"),
        ("records.txt", "record_id\nZürich, ward 3/1\n007\n"),
        ("records.csv", '"Zürich, ward 3/1",test\n007,train\n'),
        ("records.csv", 'split,record_id\ntest,"Zürich, ward 3/1"\ntrain,007\n'),
    ],
)
def test_records_are_selected_by_text_ids(tmp_path: Path, file: str, text: str):
    (tmp_path / file).write_text(text)
    assert select_records(INDEX, records=tmp_path / file).tolist() == ["007", "Zürich, ward 3/1"]


def test_records_are_selected_by_text_ids_in_parquet(tmp_path: Path):
    pd.DataFrame({"record_id": ["b/2", "7"]}).to_parquet(tmp_path / "c.parquet")
    assert select_records(INDEX, records=tmp_path / "c.parquet").tolist() == ["7", "b/2"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("b/2\nb/3\n", "lists 1 records that are not in the data set, such as b/3"),
        ("", "does not contain valid record ids"),
        ("# none\n", "does not contain valid record ids"),
        ("record_id\n", "does not contain valid record ids"),
    ],
)
def test_invalid_file_of_text_ids_is_rejected(tmp_path: Path, text: str, message: str):
    (tmp_path / "records.txt").write_text(text)
    with pytest.raises(UserError, match=message):
        select_records(INDEX, records=tmp_path / "records.txt")
    with pytest.raises(UserError, match="does not contain valid record ids"):
        read_record_ids(tmp_path / "records.txt")


@pytest.mark.parametrize("file", ["records.csv", "records.parquet"])
def test_labels_are_joined_by_text_ids(tmp_path: Path, file: str):
    table = pd.DataFrame(
        {"record_id": ["7", "b/2", "x"], "patient_id": ["01", None, "3"], "y": [1, 2, 3]}
    )
    if file.endswith("csv"):
        table.to_csv(tmp_path / file, index=False)
    else:
        table.to_parquet(tmp_path / file)
    index = RecordIndex(INDEX, np.array(["00", "01", "01", "02"]))
    found = read_label_file(tmp_path / file, index, {"y"})
    assert found.rows.unknown_records.tolist() == ["x"]
    assert found.rows.table["y"].tolist() == pytest.approx([np.nan, 1, np.nan, 2], nan_ok=True)
    other = RecordIndex(INDEX, np.array(["00", "1", "1", "02"]))
    with pytest.raises(UserError, match="for example record 7 to patient 01 instead of 1;"):
        read_label_file(tmp_path / file, other, {"y"})


@pytest.fixture(scope="module")
def store(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("stores")
    extract_random(f"wfdb:lab={root}", where, "dlinear", limit=30)
    return where


def test_records_whose_text_ids_sort_between_existing_ones_are_appended(
    root: Path, store: Path, source: Source
):
    (first, _) = open_stores(store, "wfdb/lab").stores
    assert first.record_id.tolist() == WfdbDirectory("lab", root).index().record_id.tolist()
    before = first.read(first.rows_by_id(np.array([record_name(1)])))
    write_record(root / "a-much-longer-name-than-any-of-the-others", source.ecgs[1], LEADS)
    extract_random(f"wfdb:lab={root}", store, "dlinear")
    grown = next(s for s in open_stores(store, "wfdb/lab").stores if s.identity == first.identity)
    assert grown.record_id[-1] == "a-much-longer-name-than-any-of-the-others"
    rows = grown.rows_by_id(np.array([record_name(1), grown.record_id[-1]]))
    np.testing.assert_array_equal(grown.read(rows), np.concatenate([before, before]))
    again = extract(f"wfdb:lab={root}", store, ["dlinear"], options=ExtractOptions(weights=RANDOM))
    assert again.computed == 0
    assert again.previously_failed == 4


def test_training_evaluation_and_a_base_run_keep_text_ids(root: Path, store: Path, tmp_path: Path):
    extract_random(f"wfdb:lab={root}", store, "dlinear")
    fit = QUICK.__class__(epochs=2, hidden=8, adaptation="shared-lora")
    shared = TrainSettings(weights=RANDOM, repeats=2, fit=fit, tasks=("sex",))
    run = train(f"wfdb:lab={root}", store, tmp_path / "run", settings=shared, page=False)
    cohorts = json.loads((run.folder / "cohorts.json").read_text())
    known = WfdbDirectory("lab", root).labels()
    predictions = pd.read_parquet(run.folder / "predictions.parquet")
    assert set(predictions["record_id"]) <= set(known.index)
    np.testing.assert_array_equal(
        predictions["truth"], known.loc[predictions["record_id"], "sex"].to_numpy()
    )
    for number, cohort in enumerate(cohorts):
        rows = predictions[predictions["repeat"] == number]
        assert set(rows["record_id"]) <= set(cohort["test"])
        assert set(rows["patient_id"]).isdisjoint(cohort["patients_seen"])
        assert set(known.loc[cohort["train"], "patient_id"]) <= set(cohort["patients_seen"])
    added = TrainSettings(
        weights=RANDOM,
        fit=fit,
        tasks=(),
        own_tasks=("ward:binary",),
        labels=str(root / "labels.csv"),
        base=str(run.folder),
    )
    ward = train(f"wfdb:lab={root}", store, tmp_path / "ward", settings=added, page=False)
    assert json.loads((ward.folder / "cohorts.json").read_text()) == cohorts
    evaluation = evaluate(run.folder, f"wfdb:lab={root}", store, out=tmp_path / "evaluation")
    notes = json.loads((tmp_path / "evaluation/evaluation.json").read_text())["notes"]
    assert not [note for note in notes if "have changed since the run was trained" in note]
    for task_predictions in evaluation.predictions:
        assert set(task_predictions.patient_id.tolist()).isdisjoint(
            cohorts[task_predictions.repeat]["patients_seen"]
        )
    assert (tmp_path / "evaluation" / "predictions.parquet").is_file()


def test_evaluation_excludes_patients_whose_ids_were_added_after_training(
    root: Path, store: Path, tmp_path: Path
):
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    known = pd.read_csv(root / "labels.csv", dtype={"record_id": str})
    known.drop(columns="patient_id").to_csv(copy / "labels.csv", index=False)
    extract_random(f"wfdb:lab={copy}", store, "dlinear")
    fit = QUICK.__class__(epochs=2, hidden=8, adaptation="shared-lora")
    settings = TrainSettings(weights=RANDOM, repeats=1, fit=fit, tasks=("sex",))
    run = train(f"wfdb:lab={copy}", store, tmp_path / "run", settings=settings, page=False)
    (cohort,) = json.loads((run.folder / "cohorts.json").read_text())
    # In the new table, the first test record belongs to a training patient.
    revised = known.assign(patient_id=known["record_id"]).set_index("record_id")
    same = [cohort["train"][0], cohort["test"][0]]
    revised.loc[same, "patient_id"] = "somebody"
    revised.to_csv(copy / "labels.csv")
    evaluation = evaluate(run.folder, f"wfdb:lab={copy}", store, out=tmp_path / "evaluation")
    evaluated = {
        str(id_) for predictions in evaluation.predictions for id_ in predictions.record_id
    }
    assert evaluated
    assert evaluated.isdisjoint({*cohort["train"], *cohort["validation"], *same})
    notes = json.loads((tmp_path / "evaluation/evaluation.json").read_text())["notes"]
    assert [note for note in notes if "have changed since the run was trained" in note]
    added = TrainSettings(weights=RANDOM, fit=fit, own_tasks=("ward:binary",), tasks=("ward",))
    with pytest.raises(
        UserError,
        match=r"1 patients \(such as s.*\) have records in both the train and the test part of",
    ):
        train(
            f"wfdb:lab={copy}",
            store,
            tmp_path / "ward",
            settings=replace(added, base=str(run.folder)),
        )
