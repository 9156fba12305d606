"""Labels in header comments, in the formats of the PhysioNet/CinC challenges and others."""

import logging
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from quick_runs import QUICK, RANDOM, extract_random
from test_record_files import assert_equal
from written_records import Source, read_ecgs, write_record

from enecg.ecg_format import LEADS
from enecg.errors import UserError
from enecg.tasks import TASKS, parse_tasks
from pipeline.datasets.header_labels import read_header_labels
from pipeline.datasets.registry import open_dataset
from pipeline.datasets.wfdb_directory import WfdbDirectory
from pipeline.evaluate import evaluate
from pipeline.labels import dataset_labels, make_labels
from pipeline.labels.dataset_labels import read_dataset_labels
from pipeline.labels.label_source import resolve_labels
from pipeline.train import train
from pipeline.training.settings import TrainSettings
from pipeline.waveforms.decode import read_wfdb
from pipeline.waveforms.directory_files import DirectoryFiles
from pipeline.waveforms.header_comments import parse_comments


def header(name: str, comments: str, signal: str = "16+24 1000/mV 16 0 28 -1716 0") -> str:
    lines = [f"{name}.mat {signal} {lead}" for lead in LEADS]
    return "\n".join([f"{name} 12 500 7500 05-Feb-2020 11:39:16", *lines, comments])


CHALLENGE = {
    # A record of each source of the challenges of 2020 and 2021: its comments, and the expected
    # age, sex and diagnoses.
    "cpsc_2018/A0001": (
        "#Age: 74\n#Sex: Male\n#Dx: 59118001\n#Rx: Unknown\n#Hx: Unknown\n#Sx: Unknown\n",
        (74, 1, "59118001"),
    ),
    "cpsc_2018_extra/Q0001": (
        "#Age: 26\n#Sex: Female\n#Dx: 427172004,164884008\n#Rx: Unknown\n",
        (26, 0, "427172004,164884008"),
    ),
    "st_petersburg_incart/I0001": (
        "#Age: 65\n#Sex: Female\n#Dx: 164884008\n#Rx: Unknown\n",
        (65, 0, "164884008"),
    ),
    "ptb/S0001": (
        "# Age: 81\n# Sex: Female\n# Dx: 164865005,251120003\n# Rx: Unknown\n",
        (81, 0, "164865005,251120003"),
    ),
    "ptb-xl/HR00001": (
        "# Age: 56\n# Sex: Female\n# Dx: 251146004,426783006\n# Rx: Unknown\n# Hx: Unknown\n",
        (56, 0, "251146004,426783006"),
    ),
    "georgia/E00001": (
        "#Age: NaN\n#Sex: Female\n#Dx: 426783006\n#Rx: Unknown\n#Hx: Unknown\n#Sx: Unknown\n",
        (None, 0, "426783006"),
    ),
    "chapman_shaoxing/JS00001": (
        "#Age: 85\n#Sex: Male\n#Dx: 164889003,59118001,164934002\n#Rx: Unknown\n",
        (85, 1, "164889003,59118001,164934002"),
    ),
    "ningbo/JS10647": (
        "#Age: 89\n#Sex: Unknown\n#Dx: Unknown\n#Rx: Unknown\n#Hx: Unknown\n#Sx: Unknown\n",
        (89, None, None),
    ),
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory with the headers of `CHALLENGE`."""
    directory = tmp_path / "training"
    for name, (comments, _) in CHALLENGE.items():
        (directory / name).parent.mkdir(parents=True)
        (directory / f"{name}.hea").write_text(header(Path(name).name, comments))
    return directory


def rows(table: pd.DataFrame) -> dict[str, tuple[object, ...]]:
    found = table[["age", "sex", "dx"]].astype(object)
    return {
        str(name): tuple(found.loc[name].where(found.loc[name].notna(), None))
        for name in found.index
    }


def test_challenge_folder_has_age_sex_and_diagnoses(root: Path):
    dataset = open_dataset(f"wfdb:cinc={root}")
    assert rows(dataset.labels()) == {name: labels for name, (_, labels) in CHALLENGE.items()}
    assert set(dataset.labels()) == {"patient_id", "age", "sex", "dx"}
    lines = make_labels(dataset, root / "labels.parquet").lines
    assert "| age | 7 | 7 | 68.0 ± 21.8, 26 to 89 years | not_stated 1 |" in lines[0]
    assert "| sex | 7 | 7 | 2 male (28.6 %) | unknown_word 1 |" in lines[0]
    assert "Additional columns of the data set: dx." in lines
    assert (
        "header comments: values of sex other than 0, 1, false, true, female, male, f and m, such "
        "as 'Unknown' of record ningbo/JS10647, treated as missing: 1."
    ) in lines


@pytest.mark.parametrize(
    ("comments", "expected"),
    [
        ("#Age: 56", {"age": "56"}),
        ("# Age: 56", {"age": "56"}),
        ("#age:56", {"age": "56"}),
        ("  ##  AGE :  56  ", {"age": "56"}),
        ("#Age=56", {"age": "56"}),
        ("#Age: 56\r\n#Sex: M\r\n", {"age": "56", "sex": "M"}),
        ("#<age>: 65 <sex>: F <diagnoses> Coronary artery disease", {"age": "65", "sex": "F"}),
        ("#<age>: >89\n#<sex>: M\n#<diagnoses>:\n#Rhythm: Sinus.", {"age": ">89", "sex": "M"}),
        ("# age: 81\n# sex: female\n# Smoker: no", {"age": "81", "sex": "female"}),
        ("#Dx: 1\n#Dx: 2,3\n#Dx: 1", {"dx": "1, 2,3"}),
        ("#Age: 56\n#Age: 56", {"age": "56"}),
        ("#Age: 56\n#Age: 65", {"age": "56, 65"}),
        ("#Rx: Aspirin\n#Hx: MI\n#Sx: pain", {"rx": "Aspirin", "hx": "MI", "sx": "pain"}),
        ("#Age:\n#Sex: \n#Dx", {}),
        ("Age: 56\n#Agent: 7\n#no field", {}),
        ("#Zürich\n#Age: 7\n", {"age": "7"}),
    ],
)
def test_comments_are_read_in_all_formats(comments: str, expected: dict[str, str]):
    for encoding in ("utf-8", "latin-1"):
        assert parse_comments(header("a", comments).encode(encoding)) == expected
    assert parse_comments(comments.encode()) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("426783006, 39732003", "426783006,39732003"),
        ("426783006;39732003;", "426783006,39732003"),
        ("1,2,,1", "1,2"),
        ("Unknown", None),
        ("unknown, NaN", None),
        ("164889003, Unknown", "164889003"),
        ("atrial fibrillation", "atrial fibrillation"),
    ],
)
def test_lists_of_codes_are_normalized(tmp_path: Path, text: str, expected: str | None):
    (tmp_path / "a.hea").write_text(f"#Dx: {text}\n#Age: 1\n")
    found = read_header_labels(np.array(["a"]), DirectoryFiles(tmp_path), Counter())
    assert found.get("dx", pd.Series([None])).tolist() == [expected]


@pytest.mark.parametrize(
    ("age", "expected", "reason"),
    [
        ("300", 90, None),
        (">89", 90, None),
        ("93", 90, None),
        ("999", None, "implausible"),
        ("-1", None, "implausible"),
        ("NaN", None, "not_stated"),
        ("56, 65", None, "unreadable"),
        ("Unknown", None, "unreadable"),
        ("fifty", None, "unreadable"),
        ("0", 0, None),
    ],
)
def test_ages_follow_the_rules_of_all_data_sets(
    root: Path, age: str, expected: float | None, reason: str | None
):
    (root / "b.hea").write_text(header("b", f"#Age: {age}\n"))
    labels = WfdbDirectory("cinc", root).record_labels().table.loc["b"]
    assert (labels["age"] if expected is not None else None) == expected
    assert (None if pd.isna(labels["age_absent"]) else labels["age_absent"]) == reason


def test_column_of_the_table_replaces_the_field_of_the_headers(root: Path):
    names = list(CHALLENGE)
    table = pd.DataFrame({"record_id": names[:2], "patient_id": ["P1", "P1"], "age": [33, None]})
    table.to_csv(root / "labels.csv", index=False)
    labels = WfdbDirectory("cinc", root).labels()
    assert labels["age"].dropna().to_dict() == {names[0]: 33}
    assert labels["patient_id"].tolist().count("P1") == 2
    expected = {name: expected[1:] for name, (_, expected) in CHALLENGE.items()}
    assert {name: row[1:] for name, row in rows(labels).items()} == expected
    table[["record_id"]].assign(Dx="x", dx="7").to_csv(root / "labels.csv", index=False)
    labels = WfdbDirectory("cinc", root).labels()
    assert labels["dx"].dropna().to_dict() == dict.fromkeys(names[:2], "7")
    assert labels["age"].notna().sum() == 7


def test_unreadable_headers_are_counted_and_other_labels_are_kept(root: Path):
    good = WfdbDirectory("cinc", root).labels()
    (root / "a.hea").symlink_to("nowhere")
    (root / "b.hea").write_bytes(bytes(range(256)) * 40)
    (root / "c.hea").write_text("")
    (root / "d.hea").write_text("#Age: 50\n" + "#" * 1_000_001)
    (root / "e.hea").write_text("no header\n#Age: 51\n#Dx: 5")
    (root / "f.hea").symlink_to("/etc/hostname")
    dataset = WfdbDirectory("cinc", root)
    labels = dataset.record_labels()
    found = labels.values()
    pd.testing.assert_frame_equal(found.loc[good.index], good)
    assert found.loc[["e"], ["age", "dx"]].values.tolist() == [[51, "5"]]
    assert found.loc[["a", "b", "c", "d", "f"], ["age", "sex", "dx"]].isna().all(axis=None)
    (note,) = [note for note in labels.notes if "cannot be read" in note]
    assert note.startswith("header comments: headers that cannot be read, such as ")
    assert f"{root}/a.hea: file not found; copy it, or exclude the record: 3." in note


def test_extraction_and_label_files_do_not_read_header_labels(
    synthetic_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (ecg,) = read_ecgs(synthetic_dir, 1).ecgs
    write_record(tmp_path / "data/a", ecg, LEADS)

    def fail(*_: object) -> None:
        raise AssertionError("headers were read for labels")

    monkeypatch.setattr("pipeline.datasets.wfdb_directory.read_header_labels", fail)
    extract_random(f"wfdb:lab={tmp_path / 'data'}", tmp_path / "store", "dlinear")
    dataset = WfdbDirectory("lab", tmp_path / "data")
    (tmp_path / "mine.csv").write_text("record_id,age\na,50\n")
    resolve_labels(dataset, tmp_path / "mine.csv", [], TASKS.values())
    with pytest.raises(AssertionError):
        dataset.labels()


def test_progress_is_reported_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    for number in range(1200):
        (tmp_path / f"{number}.hea").write_text(f"#Age: {number % 80}")
    dataset, calls = WfdbDirectory("lab", tmp_path), []
    labels = dataset.record_labels(lambda done, total: calls.append((done, total)))
    assert calls == [(500, 1200), (1000, 1200), (1200, 1200)]
    assert labels.table["age"].astype(int).astype(str).tolist() == [
        str(int(name) % 80) for name in labels.table.index
    ]
    monkeypatch.setattr(dataset_labels, "LOG_SECONDS", 0.0)
    with caplog.at_level(logging.INFO):
        read_dataset_labels(dataset)
    assert caplog.messages == ["Labels: read 42 %.", "Labels: read 83 %.", "Labels: read 100 %."]


def test_headers_in_a_bucket_have_the_same_labels(root: Path, s3_root: str, tmp_path: Path):
    import boto3

    (root / "cpsc_2018/A0001.hea").rename(root / "cpsc_2018/A0001.HEA")
    (root / "labels.csv").write_text("record_id,patient_id\nptb/S0001,P1\n")
    (root / ".git").mkdir()
    (root / ".git/x.hea").write_text("#Age: 5")
    (root / "broken.hea").write_text("")
    bucket, _, prefix = s3_root.removeprefix("s3://").partition("/")
    client = boto3.client("s3")
    for path in root.rglob("*"):
        if path.is_file():
            key = f"{prefix}/{path.relative_to(root)}"
            client.put_object(Bucket=bucket, Key=key, Body=path.read_bytes())
    local, remote = open_dataset(f"wfdb:cinc={root}"), open_dataset(f"wfdb:cinc={s3_root}/")
    assert remote.index().patient_id.tolist().count("P1") == 1
    assert assert_equal(remote, local) == 0
    found = read_dataset_labels(remote)
    pd.testing.assert_frame_equal(found.table, read_dataset_labels(local).table)
    assert found.notes == read_dataset_labels(local).notes
    assert getattr(remote, "threads", 1) > 1


def test_ecgs_in_a_bucket_are_those_of_the_directory(
    synthetic_dir: Path, s3_root: str, tmp_path: Path
):
    import boto3

    bucket, _, prefix = s3_root.removeprefix("s3://").partition("/")
    for name, ecg in zip(("a", "b/c"), read_ecgs(synthetic_dir, 2).ecgs, strict=True):
        write_record(tmp_path / name, ecg, LEADS)
        for suffix in (".hea", ".dat"):
            content = (tmp_path / f"{name}{suffix}").read_bytes()
            boto3.client("s3").put_object(
                Bucket=bucket, Key=f"{prefix}/{name}{suffix}", Body=content
            )
    remote = open_dataset(f"wfdb:lab={s3_root}")
    assert assert_equal(remote, open_dataset(f"wfdb:lab={tmp_path}")) == 2
    np.testing.assert_array_equal(remote.read(1), read_wfdb(tmp_path / "b/c"))


def test_web_server_and_bucket_without_records_are_rejected(s3_root: str):
    with pytest.raises(UserError, match="does not list its files; pass a folder or s3://"):
        open_dataset("wfdb:lab=https://physionet.org/files")
    with pytest.raises(UserError, match="contains no WFDB record"):
        open_dataset(f"wfdb:lab={s3_root}").index()


def test_headers_of_ludb_have_the_ages_and_sexes_of_its_table(ludb: Path):
    labels = WfdbDirectory("ludb", ludb / "data").labels()
    expected = open_dataset(f"ludb:{ludb}").labels()
    labels.index = labels.index.astype("int64")
    for name in ("age", "sex"):
        np.testing.assert_array_equal(labels[name].reindex(expected.index), expected[name])


def resolve(root: Path, *own: str, file: Path | None = None) -> pd.DataFrame:
    dataset = WfdbDirectory("cinc", root)
    return resolve_labels(dataset, file, parse_tasks(own), []).table


AF, SINUS = "164889003", "426783006"


def test_one_code_of_a_list_is_a_binary_task(root: Path, tmp_path: Path):
    expected = {
        name: np.nan if dx is None else float(SINUS in dx.split(","))
        for name, (_, (*_, dx)) in CHALLENGE.items()
    }
    tasks = (f"dx_{SINUS}:binary", f"dx_{AF}:binary")
    table = resolve(root, *tasks)
    assert table[f"own:dx_{SINUS}"].fillna(-1).to_dict() == pd.Series(expected).fillna(-1).to_dict()
    assert table[f"own:dx_{AF}"].sum() == 1
    made = make_labels(WfdbDirectory("cinc", root), tmp_path / "labels.parquet")
    pd.testing.assert_frame_equal(
        resolve(root, *tasks, file=made.path), table[["patient_id", *table.filter(like="own:")]]
    )
    found = resolve_labels(WfdbDirectory("cinc", root), None, parse_tasks(tasks), [])
    assert [task.classes for task in found.own] == [("absent", "present")] * 2
    assert not [note for note in found.notes if "positive class" in note]


def test_code_matches_only_whole_items_of_a_list(root: Path, tmp_path: Path):
    table = pd.DataFrame({"record_id": list(CHALLENGE)[:4], "dx": ["12; 34", "1,2", "2", None]})
    table.to_csv(root / "labels.csv", index=False)
    assert resolve(root, "dx_12:binary")["own:dx_12"].value_counts().to_dict() == {0: 2, 1: 1}
    assert resolve(root, "dx_2:binary")["own:dx_2"].value_counts().to_dict() == {1: 2, 0: 1}
    table["dx_2"] = ["a", "b", "a", "b"]
    table.to_csv(root / "labels.csv", index=False)
    own = resolve_labels(WfdbDirectory("cinc", root), None, parse_tasks(["dx_2:binary:a"]), []).own
    assert own[0].classes == ("b", "a"), "the column of this name was not used"


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_codes_are_exact_text_even_if_all_are_numbers(root: Path, tmp_path: Path, suffix: str):
    codes = pd.array([10**17 + 1, 10**17 + 2, None], dtype="Int64")
    table = pd.DataFrame({"record_id": list(CHALLENGE)[:3], "dx": codes})
    path = tmp_path / f"mine{suffix}"
    table.to_csv(path, index=False) if suffix == ".csv" else table.to_parquet(path)
    found = resolve(root, f"dx_{10**17 + 1}:binary", file=path)
    assert found[f"own:dx_{10**17 + 1}"].value_counts().to_dict() == {0: 1, 1: 1}
    table.to_csv(root / "labels.csv", index=False)
    labels = WfdbDirectory("cinc", root).labels()["dx"].dropna()
    assert labels.tolist() == [str(10**17 + 1), str(10**17 + 2)]


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("dx_7:binary", f"no record has the code '7' in the column dx .*'{SINUS}'.*; correct the"),
        (
            "dx:binary",
            r"dx has 7 distinct values .* write --task dx_CODE:binary; for all, dx:multilabel\.",
        ),
        (f"dx:binary:{AF}", rf"For a single code, write --task dx_{AF}:binary; for all"),
        ("rx_7:binary", "No label column 'rx_7' in the data set; available columns: age, sex, dx"),
    ],
)
def test_invalid_task_on_a_list_of_codes_is_rejected(root: Path, task: str, message: str):
    with pytest.raises(UserError, match=message):
        resolve(root, task)


@pytest.fixture(scope="module")
def recordings(synthetic_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of 40 ECGs with header comments as in the challenges."""
    source: Source = read_ecgs(synthetic_dir, 40)
    directory = tmp_path_factory.mktemp("challenge")
    for number, ecg in enumerate(source.ecgs):
        write_record(directory / f"g1/A{number:04d}", ecg, LEADS)
        sex = "Unknown" if number == 5 else ("Male", "Female")[number % 2]
        age = "NaN" if number == 6 else 30 + number
        with (directory / f"g1/A{number:04d}.hea").open("a") as file:
            dx = (SINUS, f"{AF},59118001")[number % 3 == 0]
            file.write(f"#Age: {age}\n#Sex: {sex}\n#Dx: {dx}\n#Rx: Unknown\n")
    return directory


def test_heads_are_trained_and_evaluated_from_header_comments(recordings: Path, tmp_path: Path):
    spec, store = f"wfdb:cinc={recordings}", tmp_path / "store"
    extract_random(spec, store, "dlinear")
    settings = TrainSettings(
        weights=RANDOM,
        repeats=1,
        fit=QUICK,
        tasks=("age", "sex"),
        own_tasks=(f"dx_{AF}:binary",),
    )
    run = train(spec, store, tmp_path / "run", settings=settings, page=False)
    assert {score.task for score in run.scores} == {"age", "sex", f"dx_{AF}"}
    assert "such as 'Unknown' of record g1/A0005, treated as missing: 1." in run.markdown
    truth = pd.read_parquet(run.folder / "predictions.parquet")
    of_code = truth[truth["task"] == f"dx_{AF}"].drop_duplicates("record_id")
    expected = [float(int(record[-4:]) % 3 == 0) for record in of_code["record_id"]]
    np.testing.assert_array_equal(of_code["truth"], expected)
    other = spec.replace("cinc", "other")
    extract_random(other, store, "dlinear")
    evaluation = evaluate(run.folder, other, store)
    assert {score.task for score in evaluation.scores} == {"age", "sex", f"dx_{AF}"}
