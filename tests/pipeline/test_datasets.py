import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import wfdb
from written_records import read_ecgs, write_record

from enecg.ecg_format import LEADS
from enecg.errors import UserError
from pipeline.datasets.base import LABEL_COLUMNS, Dataset, RecordIndex
from pipeline.datasets.ludb import Ludb
from pipeline.datasets.mimic_iv_ecg import MimicIvEcg
from pipeline.datasets.registry import open_dataset
from pipeline.labels import make_labels
from pipeline.synthetic.markers import MARKER, UNFINISHED_MARKER
from pipeline.waveforms.errors import UnreadableRecord
from stores.errors import StoreError
from stores.record_ids import is_text


def check_dataset(dataset: Dataset) -> None:
    """Check that a data set follows the `Dataset` protocol."""
    index = dataset.index()
    assert len(index) == len(set(index.record_id.tolist())) > 0
    labels = dataset.labels()
    assert labels.index.name == "record_id"
    assert set(labels.index) == set(index.record_id.tolist())
    dtypes = LABEL_COLUMNS | {"patient_id": "str" if is_text(index.patient_id) else "int64"}
    actual = {name: str(dtype) for name, dtype in labels.dtypes.items() if name in dtypes}
    assert actual == {name: dtypes[name] for name in actual}
    patients = pd.Series(index.patient_id, index.record_id)
    assert (labels["patient_id"] == patients.reindex(labels.index)).all()
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy.index().digest == index.digest
    ecg = copy.read(0)
    assert ecg.shape == (12, 5000)
    assert ecg.dtype == np.float32


def test_synthetic_data_follows_the_protocol(synthetic_dir: Path) -> None:
    dataset = open_dataset(f"mimic-iv-ecg:{synthetic_dir}")
    check_dataset(dataset)
    assert dataset.namespace == "synthetic/v1-seed0-patients30"
    assert set(dataset.labels()) == set(LABEL_COLUMNS)


def test_exactly_the_spoiled_records_fail_with_their_reasons(synthetic_dir: Path) -> None:
    spoiled = json.loads((synthetic_dir / MARKER).read_text())["spoiled"]
    dataset = open_dataset(f"mimic-iv-ecg:{synthetic_dir}")
    found: dict[str, list[int]] = {kind: [] for kind in spoiled}
    for row, record in enumerate(dataset.index().record_id.tolist()):
        try:
            ecg = dataset.read(row)
        except UnreadableRecord as error:
            found[error.reason].append(record)
        else:
            einthoven = ecg[2] - (ecg[1] - ecg[0])
            assert np.abs(einthoven).max() < 1e-5
    rr = dataset.labels()["rr_interval"]
    found["unknown_rr"] = sorted(rr.index[rr.isna()])
    assert {kind: sorted(records) for kind, records in found.items()} == spoiled


def test_synthetic_labels_match_the_tables(synthetic_dir: Path) -> None:
    labels = open_dataset(f"mimic-iv-ecg:{synthetic_dir}").labels()
    labs = pd.read_csv(synthetic_dir / "hosp/labevents.csv", parse_dates=["charttime"])
    times = pd.read_csv(synthetic_dir / "record_list.csv", parse_dates=["ecg_time"])
    potassium = labs[labs["itemid"].isin([50971, 50822]) & labs["valuenum"].notna()]
    for ecg in times.itertuples():
        results = potassium[potassium["subject_id"] == ecg.subject_id]
        delay = (results["charttime"] - ecg.ecg_time).dt.total_seconds()
        results = results[(delay >= 0) & (delay <= 3600)].sort_values("charttime")
        label = labels.loc[ecg.study_id]
        if results.empty:
            assert np.isnan(label["potassium"])
        else:
            assert label["potassium_mmol_l"] == results["valuenum"].iloc[0]
            assert label["potassium"] == (results["flag"].iloc[0] == "abnormal")
    assert 0.6 < labels["potassium"].notna().mean() < 1


def test_full_release_and_the_demo_have_different_namespaces(
    synthetic_dir: Path, mimic_demo: Path, tmp_path: Path
) -> None:
    full = tmp_path / "full"
    full.mkdir()
    shutil.copy(synthetic_dir / "record_list.csv", full)
    assert MimicIvEcg(full).namespace == "mimic-iv-ecg/1.0"
    assert MimicIvEcg(mimic_demo / "ecg").namespace == "mimic-iv-ecg-demo/0.1"


def test_real_demo_tables_have_plausible_labels(mimic_demo: Path, tmp_path: Path) -> None:
    shutil.copy(mimic_demo / "ecg" / "record_list.csv", tmp_path)
    (tmp_path / "hosp").mkdir()
    shutil.copy(mimic_demo / "hosp" / "patients.csv", tmp_path / "hosp")
    shutil.copy(mimic_demo / "potassium_labs_from_meds.csv", tmp_path / "hosp" / "labevents.csv")
    dataset = open_dataset(f"mimic-iv-ecg:{tmp_path}")
    assert len(dataset.index()) == 659
    labels = dataset.labels()
    assert "rr_interval" not in labels, "labels of a table that does not exist"
    assert "diagnosis" not in labels
    assert labels["patient_id"].nunique() == 92
    assert labels["age"].between(18, 100).all()
    assert set(labels["sex"]) == {0.0, 1.0}
    measured = labels["potassium_mmol_l"].dropna()
    assert len(measured) > 20
    assert measured.between(1.5, 9).all()
    outside = (measured < 3.5) | (measured > 5.1)
    assert (labels.loc[measured.index, "potassium"] == outside).all()
    with pytest.raises(UnreadableRecord) as failure:
        dataset.read(0)
    assert failure.value.reason == "missing_file"


@pytest.mark.parametrize("path", ["../../secret/1", "/etc/passwd", "files/../../secret/1"])
def test_path_outside_the_root_is_not_opened(tmp_path: Path, path: str) -> None:
    (tmp_path / "record_list.csv").write_text(
        f"subject_id,study_id,file_name,ecg_time,path\n1,2,2,2150-01-01 00:00:00,{path}\n"
    )
    with pytest.raises(UnreadableRecord, match="path is outside") as failure:
        open_dataset(f"mimic-iv-ecg:{tmp_path}").read(0)
    assert failure.value.reason == "unreadable"


def test_ludb_follows_the_protocol(ludb: Path) -> None:
    dataset = open_dataset(f"ludb:{ludb}")
    check_dataset(dataset)
    assert dataset.namespace == "ludb/1.0.1"
    assert dataset.index().record_id.tolist() == list(range(1, 201))


def test_rr_intervals_of_ludb_equal_those_of_wfdb_annotations(ludb: Path) -> None:
    labels = open_dataset(f"ludb:{ludb}").labels()
    for record in (1, 8, 200):
        annotation = wfdb.rdann(str(ludb / "data" / str(record)), "ii")
        peaks = annotation.sample[np.array(annotation.symbol) == "N"]
        assert labels.loc[record, "rr_interval"] == np.diff(peaks).mean() * 2


def test_records_of_ludb_may_be_on_another_disk(synthetic_dir: Path, tmp_path: Path) -> None:
    (ecg,) = read_ecgs(synthetic_dir, 1).ecgs
    write_record(tmp_path / "disk/1", ecg, LEADS)
    root = tmp_path / "ludb"
    root.mkdir()
    (root / "ludb.csv").write_text("ID,Sex,Age,Rhythms\n1,F,51,Sinus bradycardia\n")
    (root / "data").symlink_to(tmp_path / "disk")
    np.testing.assert_allclose(open_dataset(f"ludb:{root}").read(0), ecg, atol=6e-4)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("ID,Sex\n1,F\n", r"missing columns: Age, Rhythms\); copy it again"),
        ("ID,Sex,Age,Rhythms\none,F,51,Sinus\n", r"no row has a valid ID\); copy it again"),
        ('ID,Sex,Age,Rhythms\n1,F,51,"Sinus\n', r"unexpected end of data\); copy it again"),
        ("", "ludb.csv is not the published table"),
    ],
)
def test_invalid_table_of_ludb_is_rejected(tmp_path: Path, table: str, message: str) -> None:
    (tmp_path / "ludb.csv").write_text(table)
    with pytest.raises(UserError, match=message):
        open_dataset(f"ludb:{tmp_path}").index()


def test_labels_of_ludb_are_the_published_ones(ludb: Path) -> None:
    labels = open_dataset(f"ludb:{ludb}").labels()
    assert "potassium" not in labels
    assert labels["diagnosis"].value_counts()["sinus rhythm"] == 143
    assert labels["age"].max() == 90, "the age >89 was not set to 90"
    assert (labels["age"] == 90).sum() == 1
    assert labels.loc[1, ["age", "sex", "diagnosis"]].tolist() == [51, 0, "sinus bradycardia"]
    assert labels["rr_interval"].between(400, 1600).all()
    rate = 60_000 / labels["rr_interval"]
    assert (rate[labels["diagnosis"] == "sinus bradycardia"] < 62).all()
    assert (rate[labels["diagnosis"] == "sinus tachycardia"] > 90).all()


LUDB_ROWS = """\
ID,Sex,Age,Rhythms
1,"F\n","51\n",Sinus bradycardia
2,M,abc,Sinus rhythm
3,x,999,
one,M,40,Sinus rhythm
5,M,>89,"Sinus rhythm\nother"
6,M
7,M,-1,Sinus rhythm
7,F,30,Sinus rhythm
8,,,Sinus rhythm
"""


def test_bad_cells_of_ludb_are_counted_and_the_other_labels_are_kept(tmp_path: Path) -> None:
    (tmp_path / "ludb.csv").write_text(LUDB_ROWS)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/1.ii").write_bytes(b"\0\1\2")
    dataset = Ludb(tmp_path)
    assert dataset.index().record_id.tolist() == [1, 2, 3, 5, 8]
    labels = dataset.record_labels()
    table = labels.table
    np.testing.assert_array_equal(table["age"], [51, np.nan, np.nan, 90, np.nan])
    np.testing.assert_array_equal(table["sex"], [0, 1, np.nan, 1, np.nan])
    assert table["diagnosis"].fillna("").tolist() == [
        *("sinus bradycardia", "sinus rhythm", "", "sinus rhythm", "sinus rhythm"),
    ]
    reasons = {name: table[f"{name}_absent"].tolist() for name in ("rr_interval", "age", "sex")}
    missing = float("nan")
    np.testing.assert_array_equal(
        reasons["age"], [missing, "unreadable", "implausible", missing, "not_stated"]
    )
    np.testing.assert_array_equal(
        reasons["sex"], [missing, missing, "unknown_word", missing, "not_stated"]
    )
    assert reasons["rr_interval"] == ["unreadable", *["not_stated"] * 4]
    assert labels.notes == (
        "R peaks: values of rr_interval that are not numbers, such as 'data/1.ii cannot be read' "
        "of record 1, treated as missing: 1.",
        "ludb.csv: ages over 89, set to 90: 1.",
        "ludb.csv: different rows with the same ID, such as 7, skipped: 2.",
        "ludb.csv: rows whose number of fields differs, skipped: 1.",
        "ludb.csv: rows without a valid ID, such as 'one' in line 7, skipped: 1.",
        "ludb.csv: values of age outside 0 to 120, such as '999' of record 3, treated as missing: "
        "1.",
        "ludb.csv: values of age that are not numbers, such as 'abc' of record 2, treated as "
        "missing: 1.",
        "ludb.csv: values of sex other than 0, 1, false, true, female, male, f and m, such as 'x' "
        "of record 3, treated as missing: 1.",
    )
    assert make_labels(dataset, tmp_path / "labels.parquet").lines[-1].startswith("Digest")


def test_ecgs_of_ludb_satisfy_einthovens_law_and_have_plausible_voltages(ludb: Path) -> None:
    dataset = open_dataset(f"ludb:{ludb}")
    amplitudes = []
    for row in range(0, 200, 10):
        ecg = dataset.read(row)
        np.testing.assert_allclose(ecg[2], ecg[1] - ecg[0], atol=1e-5)
        np.testing.assert_allclose(ecg[3], -(ecg[0] + ecg[1]) / 2, atol=6e-4)
        amplitudes.append(np.percentile(ecg[10], 99.8) - np.median(ecg[10]))
    assert 0.9 < np.median(amplitudes) < 2, "implausible R waves in V5"


def test_unsigned_ids_of_a_data_set_are_converted_exactly_or_are_an_error() -> None:
    ids = np.array([2**53 + 1, 2**63 - 1], np.uint64)
    index = RecordIndex(ids, ids[::-1])
    assert index.record_id.dtype == index.patient_id.dtype == np.int64
    assert index.patient_id.tolist() == [2**63 - 1, 2**53 + 1]
    with pytest.raises(StoreError, match=f"The id {2**63} is"):
        RecordIndex(ids, ids + np.uint64(1))


def test_unfinished_synthetic_data_set_is_rejected(tmp_path: Path) -> None:
    (tmp_path / UNFINISHED_MARKER).write_text("{}")
    with pytest.raises(UserError, match="is an unfinished synthetic data set"):
        open_dataset(f"mimic-iv-ecg:{tmp_path}")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("cpsc:/tmp", "mimic-iv-ecg:FOLDER or ludb:FOLDER"),
        ("ludb", "no folder"),
        ("", "Unknown data set"),
        ("mimic-iv-ecg:{tmp}/nowhere", "enecg synthesize"),
        ("mimic-iv-ecg:{tmp}", "record_list.csv"),
        ("ludb:{tmp}/nowhere", "pass the folder"),
        ("ludb:{tmp}", "ludb.csv"),
        ("mimic-iv-ecg:https://[::1", "has an invalid host"),
        ("mimic-iv-ecg:https://user:secret@ho\u2100st/data", "has an invalid host"),
    ],
)
def test_invalid_spec_is_rejected(tmp_path: Path, spec: str, message: str) -> None:
    with pytest.raises(UserError, match=r"^[^\n]+\.$") as failure:
        open_dataset(spec.format(tmp=tmp_path))
    assert message in str(failure.value)
    assert "secret" not in str(failure.value)


@pytest.mark.parametrize(
    "table",
    [
        "",
        "no,such,columns\n1,2,3\n",
        "subject_id,study_id,file_name,ecg_time,path\nx,y,z,now,here\n",
        "subject_id,study_id,file_name,ecg_time,path\n" + 2 * "1,2,2,2150-01-01 00:00:00,files/a\n",
    ],
)
def test_invalid_record_list_is_rejected(tmp_path: Path, table: str) -> None:
    (tmp_path / "record_list.csv").write_text(table)
    with pytest.raises(UserError, match=r"record_list.csv [^\n]+ again\.$"):
        open_dataset(f"mimic-iv-ecg:{tmp_path}").index()


def test_ecg_without_a_path_is_unreadable(synthetic_dir: Path, tmp_path: Path):
    table = pd.read_csv(synthetic_dir / "record_list.csv")
    table.loc[1, "path"] = None
    table.to_csv(tmp_path / "record_list.csv", index=False)
    (tmp_path / "files").symlink_to(synthetic_dir / "files")
    source = MimicIvEcg(tmp_path)
    assert source.read(0).any()
    with pytest.raises(UnreadableRecord):
        source.read(1)
