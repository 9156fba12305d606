"""Any directory of WFDB records, with ids of text."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_datasets import check_dataset
from test_train import QUICK, RANDOM, extract_random
from written_records import Source, read_ecgs, write_record

from enecg.errors import UserError
from enecg.signal import LEADS
from pipeline.datasets.base import RecordIndex
from pipeline.datasets.registry import open_dataset
from pipeline.datasets.selection import read_record_ids, select_records
from pipeline.datasets.wfdb_directory import WfdbDirectory, find_records
from pipeline.evaluate import evaluate
from pipeline.extract import extract
from pipeline.extraction.options import ExtractOptions
from pipeline.labels.label_file import read_label_file
from pipeline.train import train
from pipeline.training.settings import TrainSettings
from pipeline.waveforms.errors import UnreadableRecord
from stores.opening import find_stores

RECORDS = 40


def name_of(place: int) -> str:
    """Ids of unequal lengths, that are not ASCII and no numbers, with spaces and a comma."""
    return ("Zürich, ward 3/", "b/", "")[place % 3] + f"{place:03d}"


@pytest.fixture(scope="module")
def source(synthetic_dir: Path) -> Source:
    return read_ecgs(synthetic_dir, RECORDS)


@pytest.fixture(scope="module")
def root(source: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wfdb") / "data"
    for place, ecg in enumerate(source.ecgs):
        write_record(directory / name_of(place), ecg, LEADS)
    (directory / "b/empty.hea").write_text("")
    (directory / "b/parts.hea").write_text("parts/2 12 500 10000\none 5000\nother 5000\n")
    labels(source).to_csv(directory / "labels.csv", index=False)
    return directory


def labels(source: Source) -> pd.DataFrame:
    """What a lab might have written, patients by text and one of them not known."""
    known = source.labels
    patients = [f"P{patient}" for patient in known["patient_id"]]
    return pd.DataFrame(
        {
            "record_id": [name_of(place) for place in range(len(known))],
            "patient_id": [None, *patients[1:]],
            "sex": known["sex"].map({1.0: "M", 0.0: "F"}).to_numpy(),
            "age": known["age"].to_numpy(),
            "ward": [["east", "west"][place % 2] for place in range(len(known))],
        }
    ).sample(frac=1, random_state=0)


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_a_directory_of_records_is_a_data_set(root: Path, source: Source):
    dataset = open_dataset(f"wfdb:our-lab={root}")
    check_dataset(dataset)
    assert dataset.namespace == "wfdb/our-lab"
    index = dataset.index()
    assert index.record_id.tolist() == sorted(
        [*(name_of(place) for place in range(RECORDS)), "b/empty", "b/parts"]
    )
    for place in (0, 1, 2):
        row = index.record_id.tolist().index(name_of(place))
        np.testing.assert_allclose(dataset.read(row), source.ecgs[place], atol=6e-4)


def test_headers_that_are_no_single_record_are_bad_records(root: Path):
    dataset = WfdbDirectory("lab", root)
    for name in ("b/empty", "b/parts"):
        with pytest.raises(UnreadableRecord, match=rf"{name}.hea") as bad:
            dataset.read(dataset.index().record_id.tolist().index(name))
        assert bad.value.reason == "unreadable"


def test_patients_and_labels_are_those_of_the_table(root: Path, source: Source):
    known = WfdbDirectory("lab", root).labels()
    written = labels(source).set_index("record_id")
    assert known.loc[name_of(0), "patient_id"] == name_of(0)
    assert known.loc["b/parts", "patient_id"] == "b/parts"
    for place in (1, 2, 3, 20):
        mine, theirs = known.loc[name_of(place)], written.loc[name_of(place)]
        assert mine["patient_id"] == theirs["patient_id"]
        assert mine["sex"] == {"M": 1.0, "F": 0.0}[theirs["sex"]]
        assert mine["age"] == theirs["age"]
        assert mine["ward"] == theirs["ward"]
    assert known.loc[["b/empty", "b/parts"], ["sex", "age", "ward"]].isna().all(axis=None)


def test_without_a_table_every_record_is_a_patient(empty: Path):
    touch(empty, "1.hea", "007.hea")
    index = WfdbDirectory("lab", empty).index()
    assert index.record_id.tolist() == index.patient_id.tolist() == ["007", "1"]
    assert WfdbDirectory("lab", empty).labels().columns.tolist() == ["patient_id"]


def test_a_digest_tells_text_from_text_and_numbers_are_digested_as_before(empty: Path):
    numbers = RecordIndex(np.arange(3), np.array([7, 7, 8]))
    assert numbers.digest.startswith("3eb6a998d7fb80b2a8c782b918d87383")
    texts = [np.array(one) for one in (["a", "bc"], ["ab", "c"], ["a", "bc", "d"])]
    digests = {RecordIndex(one, one).digest for one in texts}
    digests.add(RecordIndex(texts[0], texts[1]).digest)
    digests.add(RecordIndex(texts[0], np.array([1, 2])).digest)
    assert len(digests) == 5


def test_records_are_sorted_and_hidden_ones_are_none(empty: Path):
    touch(empty, "b/2.hea", "b/10.hea", "b-1.hea", "a.b.hea", "b/2.dat", "c.HEA", ".hea")
    touch(empty, ".git/x.hea", "b/.~2.hea", "b/.snapshot/2.hea")
    (empty / "folder.hea").mkdir()
    assert find_records(empty) == ["a.b", "b-1", "b/10", "b/2"]


def test_folders_are_entered_once_whatever_links_lead_to_them(empty: Path, tmp_path: Path):
    touch(empty, "b/1.hea", "b/c/2.hea")
    touch(tmp_path / "elsewhere", "3.hea")
    (empty / "a").symlink_to("b")
    (empty / "b/loop").symlink_to("..")
    (empty / "b/c/self").symlink_to(".")
    (empty / "z").symlink_to(tmp_path / "elsewhere")
    (empty / "zz").symlink_to(tmp_path / "elsewhere")
    (empty / "gone").symlink_to(tmp_path / "nowhere")
    (empty / "itself").symlink_to("itself")
    assert find_records(empty) == ["b/1", "b/c/2", "z/3"]


def test_links_are_followed_within_the_directory_and_from_its_folders_to_another_disk(
    empty: Path, source: Source, tmp_path: Path
):
    """As git-annex keeps files, and as a lab keeps its records where there is room."""
    write_record(empty / ".git/annex/objects/1", source.ecgs[1], LEADS)
    for place in ("disk", "other"):
        write_record(tmp_path / place / "1", source.ecgs[1], LEADS)
    (empty / "annexed").mkdir()
    (empty / "out").mkdir()
    for name in ("1.hea", "1.dat"):
        (empty / "annexed" / name).symlink_to(f"../.git/annex/objects/{name}")
        (empty / "out" / name).symlink_to(tmp_path / "other" / name)
    (empty / "disk").symlink_to(tmp_path / "disk")
    dataset = WfdbDirectory("lab", empty)
    assert dataset.index().record_id.tolist() == ["annexed/1", "disk/1", "out/1"]
    for row in (0, 1):
        np.testing.assert_allclose(dataset.read(row), source.ecgs[1], atol=6e-4)
        assert dataset.read_leads(row).rate_hz == 500
    with pytest.raises(
        UnreadableRecord, match=r"out/1.hea: path is outside the data set's folder"
    ) as bad:
        dataset.read(2)
    assert bad.value.reason == "unreadable"


def test_records_are_found_without_a_look_at_their_headers(empty: Path):
    (empty / "a.hea").symlink_to("nowhere")
    touch(empty, "b.hea")
    (empty / "b.hea").chmod(0)
    dataset = WfdbDirectory("lab", empty)
    assert dataset.index().record_id.tolist() == ["a", "b"]
    with pytest.raises(UnreadableRecord) as bad:
        dataset.read(0)
    assert bad.value.reason == "missing_file"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("wfdb:{root}", "has no name"),
        ("wfdb:our lab={root}", "is no name for a data set"),
        ("wfdb:Our={root}", "is no name for a data set"),
        ("wfdb:../lab={root}", "is no name for a data set"),
        ("wfdb:..={root}", "is no name for a data set"),
        ("wfdb:={root}", "is no name for a data set"),
        ("wfdb:lab=", "has no directory"),
        ("wfdb:lab={root}/nowhere", "is not there"),
        ("wfdb:lab={root}", "has no WFDB record"),
    ],
)
def test_a_directory_that_is_named_wrongly_is_told_in_a_sentence(empty: Path, name: str, told: str):
    with pytest.raises(UserError, match=told):
        open_dataset(name.format(root=empty)).index()


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("name,sex\n1,M\n", "has no column record_id or study_id"),
        ("record_id,sex\n1,M\n,F\n", "has 1 rows without record_id"),
        ("record_id,sex\n1,M\n1,F\n", "1 records with several different rows"),
        ("record_id,sex\n1.dat,M\n", "None of the 1 records of .* \\(such as 1.dat\\)"),
        (
            "record_id,sex\n1,M\n3,F\n4,F\n",
            "has 2 records that are not below .* such as 3; correct",
        ),
        ("record_id,sex\n1,man\n", "column sex has values such as 'man'; use '0' or '1'"),
    ],
)
def test_a_table_that_is_wrong_is_told_in_a_sentence(empty: Path, table: str, told: str):
    touch(empty, "1.hea", "2.hea")
    (empty / "labels.csv").write_text(table)
    with pytest.raises(UserError, match=told):
        WfdbDirectory("lab", empty).labels()


def test_a_name_that_is_no_utf8_is_told_in_a_sentence(empty: Path):
    touch(empty, "Z\udcfcrich.hea")
    with pytest.raises(UserError, match=r"no UTF-8, 'Z\\udcfcrich'"):
        find_records(empty)


INDEX = np.array(["007", "7", "Zürich, ward 3/1", "b/2"])


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("mine.txt", "# of May\nZürich, ward 3/1\n\n  007\n"),
        ("mine.txt", "record_id\nZürich, ward 3/1\n007\n"),
        ("mine.csv", '"Zürich, ward 3/1",test\n007,train\n'),
        ("mine.csv", 'split,record_id\ntest,"Zürich, ward 3/1"\ntrain,007\n'),
    ],
)
def test_records_are_chosen_by_text_as_it_is_written(tmp_path: Path, file: str, text: str):
    (tmp_path / file).write_text(text)
    assert select_records(INDEX, records=tmp_path / file).tolist() == ["007", "Zürich, ward 3/1"]


def test_a_parquet_file_chooses_records_by_text(tmp_path: Path):
    pd.DataFrame({"record_id": ["b/2", "7"]}).to_parquet(tmp_path / "c.parquet")
    assert select_records(INDEX, records=tmp_path / "c.parquet").tolist() == ["7", "b/2"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("b/2\nb/3\n", "names 1 records that the data set does not have, such as b/3"),
        ("", "holds no record ids"),
        ("# none\n", "holds no record ids"),
        ("record_id\n", "holds no record ids"),
    ],
)
def test_a_file_of_text_ids_that_is_wrong_is_told_in_a_sentence(
    tmp_path: Path, text: str, told: str
):
    (tmp_path / "mine.txt").write_text(text)
    with pytest.raises(UserError, match=told):
        select_records(INDEX, records=tmp_path / "mine.txt")
    with pytest.raises(UserError, match="holds no record ids"):
        read_record_ids(tmp_path / "mine.txt")


@pytest.mark.parametrize("file", ["mine.csv", "mine.parquet"])
def test_a_table_of_labels_is_joined_by_text_as_it_is_written(tmp_path: Path, file: str):
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
    with pytest.raises(UserError, match="such as 7 to patient 01 instead of 1;"):
        read_label_file(tmp_path / file, other, {"y"})


@pytest.fixture(scope="module")
def store(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("stores")
    extract_random(f"wfdb:lab={root}", where, "dlinear", limit=30)
    return where


def test_a_store_goes_by_text_and_grows_by_records_that_come_between(
    root: Path, store: Path, source: Source
):
    (first, _) = find_stores(store, "wfdb/lab").stores
    assert first.record_id.tolist() == WfdbDirectory("lab", root).index().record_id.tolist()
    before = first.read(first.rows_by_id(np.array([name_of(1)])))
    write_record(root / "a-much-longer-name-than-any-of-the-others", source.ecgs[1], LEADS)
    extract_random(f"wfdb:lab={root}", store, "dlinear")
    grown = next(
        one for one in find_stores(store, "wfdb/lab").stores if one.identity == first.identity
    )
    assert grown.record_id[-1] == "a-much-longer-name-than-any-of-the-others"
    rows = grown.rows_by_id(np.array([name_of(1), grown.record_id[-1]]))
    np.testing.assert_array_equal(grown.read(rows), np.concatenate([before, before]))
    again = extract(f"wfdb:lab={root}", store, ["dlinear"], options=ExtractOptions(weights=RANDOM))
    assert again.computed == 0
    assert again.previously_failed == 4


def test_heads_are_trained_judged_and_added_by_text(root: Path, store: Path, tmp_path: Path):
    extract_random(f"wfdb:lab={root}", store, "dlinear")
    fit = QUICK.__class__(epochs=2, hidden=8, adaptation="shared-lora")
    shared = TrainSettings(weights=RANDOM, repeats=2, fit=fit, tasks=("sex",))
    run = train(f"wfdb:lab={root}", store, tmp_path / "run", settings=shared)
    cohorts = json.loads((run.folder / "cohorts.json").read_text())
    known = WfdbDirectory("lab", root).labels()
    answers = pd.read_parquet(run.folder / "predictions.parquet")
    assert set(answers["record_id"]) <= set(known.index)
    np.testing.assert_array_equal(
        answers["truth"], known.loc[answers["record_id"], "sex"].to_numpy()
    )
    for number, cohort in enumerate(cohorts):
        mine = answers[answers["repeat"] == number]
        assert set(mine["record_id"]) <= set(cohort["test"])
        assert set(mine["patient_id"]).isdisjoint(cohort["patients_seen"])
        assert set(known.loc[cohort["train"], "patient_id"]) <= set(cohort["patients_seen"])
    added = TrainSettings(
        weights=RANDOM,
        fit=fit,
        tasks=(),
        own_tasks=("ward:binary",),
        labels=str(root / "labels.csv"),
        base=str(run.folder),
    )
    ward = train(f"wfdb:lab={root}", store, tmp_path / "ward", settings=added)
    assert json.loads((ward.folder / "cohorts.json").read_text()) == cohorts
    judged = evaluate(run.folder, f"wfdb:lab={root}", store, out=tmp_path / "judged")
    noted = json.loads((tmp_path / "judged/evaluation.json").read_text())["notes"]
    assert not [note for note in noted if "have changed since the training" in note]
    for one in judged.predictions:
        assert set(one.patient_id.tolist()).isdisjoint(cohorts[one.repeat]["patients_seen"])
    assert (tmp_path / "judged" / "predictions.parquet").is_file()


def test_patients_that_are_told_later_are_seen_by_their_records(
    root: Path, store: Path, tmp_path: Path
):
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    known = pd.read_csv(root / "labels.csv", dtype={"record_id": str})
    known.drop(columns="patient_id").to_csv(copy / "labels.csv", index=False)
    extract_random(f"wfdb:lab={copy}", store, "dlinear")
    fit = QUICK.__class__(epochs=2, hidden=8, adaptation="shared-lora")
    settings = TrainSettings(weights=RANDOM, repeats=1, fit=fit, tasks=("sex",))
    run = train(f"wfdb:lab={copy}", store, tmp_path / "run", settings=settings)
    (drawn,) = json.loads((run.folder / "cohorts.json").read_text())
    # The first record that was tested on turns out to be of somebody who was trained on.
    told = known.assign(patient_id=known["record_id"]).set_index("record_id")
    same = [drawn["train"][0], drawn["test"][0]]
    told.loc[same, "patient_id"] = "somebody"
    told.to_csv(copy / "labels.csv")
    judged = evaluate(run.folder, f"wfdb:lab={copy}", store, out=tmp_path / "judged")
    asked = {str(one) for answers in judged.predictions for one in answers.record_id}
    assert asked
    assert asked.isdisjoint({*drawn["train"], *drawn["validation"], *same})
    noted = json.loads((tmp_path / "judged/evaluation.json").read_text())["notes"]
    assert [note for note in noted if "have changed since the training" in note]
    added = TrainSettings(weights=RANDOM, fit=fit, own_tasks=("ward:binary",), tasks=("ward",))
    with pytest.raises(
        UserError, match=r"1 patients have records in both train and test of .* as s"
    ):
        train(
            f"wfdb:lab={copy}",
            store,
            tmp_path / "ward",
            settings=replace(added, base=str(run.folder)),
        )
