"""`enecg data check`, as it is typed."""

from pathlib import Path

import pytest

from flows.cli import enecg
from flows.run_app import run_app


def told(*words: object) -> int:
    return run_app(enecg(), ["data", "check", *map(str, words)])


def test_what_is_wrong_is_counted_with_examples_and_the_limit_is_kept(
    synthetic_dir: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    dataset = f"mimic-iv-ecg:{synthetic_dir}"
    assert told(dataset, "--out", tmp_path / "wrong.csv") == 0
    out = capfd.readouterr().out
    for words in ("records of 30 patients, index", "cannot be used", "flat_lead", "cut_file"):
        assert words in out
    assert (tmp_path / "wrong.csv").is_file()
    assert told(dataset, "--at-most", 0.5) == 1
    assert "may be (--at-most)" in capfd.readouterr().err
    assert told(dataset, "--at-most", 0.5, "--only", "swapped_leads") == 0
    assert told(dataset, "--sample", 5, "--threads", 2) == 0
    assert "5 records examined" in capfd.readouterr().out


def test_mistakes_are_told_in_a_sentence(
    synthetic_dir: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    dataset = f"mimic-iv-ecg:{synthetic_dir}"
    (tmp_path / "file").write_text("")
    for words, sentence in (
        (("--only", "ugly"), "There is no finding 'ugly'; there are missing_file"),
        (("--out", tmp_path / "file" / "wrong.csv"), "cannot be written"),
        (("--at-most", "120"), "120"),
    ):
        assert told(dataset, *words) == 2
        assert sentence in capfd.readouterr().err
    assert told(f"mimic-iv-ecg:{tmp_path / 'none'}") == 2
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/record_list.csv").write_text("subject_id,study_id,ecg_time,path\n")
    capfd.readouterr()
    assert told(f"mimic-iv-ecg:{tmp_path / 'empty'}") == 2
    assert "has no record" in capfd.readouterr().err
