"""The command `enecg data check`."""

from pathlib import Path


def test_check_prints_findings_writes_a_table_and_exits_with_1_above_the_threshold(
    synthetic_dir: Path, tmp_path: Path, run_enecg
):
    dataset = f"mimic-iv-ecg:{synthetic_dir}"
    checked = run_enecg("data", "check", dataset, "--out", tmp_path / "findings.csv")
    assert checked.code == 0
    for text in ("records of 30 patients, index", "unreadable", "flat_lead", "cut_file"):
        assert text in checked.out
    assert (tmp_path / "findings.csv").is_file()
    failed = run_enecg("data", "check", dataset, "--at-most", 0.5)
    assert failed.code == 1
    assert "more than the 0.5 % allowed by --at-most" in failed.err
    only = run_enecg("data", "check", dataset, "--at-most", 0.5, "--only", "swapped_leads")
    assert only.code == 0
    sampled = run_enecg("data", "check", dataset, "--sample", 5, "--threads", 2)
    assert sampled.code == 0
    assert "5 records checked" in sampled.out


def test_user_errors_exit_with_2_and_a_message(synthetic_dir: Path, tmp_path: Path, run_enecg):
    dataset = f"mimic-iv-ecg:{synthetic_dir}"
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/record_list.csv").write_text("subject_id,study_id,ecg_time,path\n")
    for arguments, message in (
        ((dataset, "--only", "ugly"), "Unknown finding 'ugly' in --only; available: missing_file"),
        ((dataset, "--out", tmp_path / "file" / "wrong.csv"), "cannot be written"),
        ((dataset, "--at-most", "120"), "120"),
        ((f"mimic-iv-ecg:{tmp_path / 'none'}",), "none"),
        ((f"mimic-iv-ecg:{tmp_path / 'empty'}",), "has no records"),
    ):
        outcome = run_enecg("data", "check", *arguments)
        assert outcome.code == 2
        assert message in outcome.err
