"""The commands `enecg table` and `enecg runs`."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from made_runs import make_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    make_run(root / "first")
    make_run(root / "second", settings={"seed": 7}, cohorts_digest="ef" * 32)
    return root


@pytest.mark.parametrize("which", ["1", "2", "3", "figure3"])
def test_table_is_printed(which: str, folder: Path, run_enecg):
    table = run_enecg("table", which, folder / "first")
    assert (table.code, table.err) == (0, "")
    title = "Figure 3" if which == "figure3" else f"Table {which}"
    assert table.out.startswith(f"**{title}: ")


def test_table_is_written_in_the_format_of_the_suffix(folder: Path, tmp_path: Path, run_enecg):
    for suffix, start in ((".md", "**Table 2"), (".csv", "Table 2"), (".html", "<!doctype html>")):
        out = tmp_path / f"table{suffix}"
        table = run_enecg("table", "2", folder / "first", "--extra", "--out", out)
        assert (table.code, table.out) == (0, f"Wrote {out}.\n")
        assert out.read_text().startswith(start)
        assert "AUROC" in out.read_text()


def test_ls_lists_data_set_experts_date_and_scores(folder: Path, run_enecg):
    listing = run_enecg("runs", "ls", folder)
    head, first, second = listing.out_lines
    assert listing.code == 0
    assert "age MAE years" in head
    assert "sex macro-F1" in head
    assert first.startswith(str(folder / "first"))
    assert "mimic-iv-ecg/1.0  dlinear,moment  random:0   2026-01-02 03:04" in first
    assert first.count("±") == 3
    assert second.startswith(str(folder / "second"))


def test_ls_reports_unreadable_runs_to_stderr_and_exits_with_1(tmp_path: Path, run_enecg):
    make_run(tmp_path / "good")
    (make_run(tmp_path / "old") / "results.json").write_text("[]")
    listing = run_enecg("runs", "ls", tmp_path)
    assert listing.code == 1
    _, good = listing.out_lines
    assert good.startswith(str(tmp_path / "good"))
    damaged = tmp_path / "old" / "results.json"
    assert f"{damaged} is damaged or was written by another version" in listing.err


def test_show_prints_settings_stores_and_tables(folder: Path, tmp_path: Path, run_enecg):
    long = make_run(tmp_path / "first", settings={"fit": {"learning_rate_of_heads": 0.001}})
    assert "settings fit learning_rate_of_heads  0.001" in run_enecg("runs", "show", long).out
    shown = run_enecg("runs", "show", folder / "first")
    lines = [" ".join(line.split()) for line in shown.out_lines]
    assert shown.code == 0
    assert "settings fit rank 8" in lines
    assert "peak_memory_bytes process 1500000000" in lines
    assert "/stores/0000000000000001" in lines
    assert "weights published" in lines
    assert {"**Table 2", "**Table 3", "**Table 1"} <= {line.partition(":")[0] for line in lines}


def test_compare_prints_differing_settings_a_warning_and_scores(folder: Path, run_enecg):
    compared = run_enecg("runs", "compare", folder / "first", folder / "second")
    out = compared.out
    assert compared.code == 0
    assert out.index("Settings that differ") < out.index("WARNING") < out.index("**Age, MAE")
    assert "| seed | 0     | 7      |" in out


USER_ERRORS = {
    "table 2 nowhere": "nowhere is not a run folder",
    "table 4 FIRST": "Invalid value",
    "table 2 FIRST --out x.pdf": "x.pdf: unknown suffix; use .md, .csv, .html",
    "table 2 FIRST --out nowhere/x.md": "cannot be written",
    "runs ls nowhere": "The folder nowhere does not exist",
    "runs show nowhere": "nowhere is not a run folder",
    "runs compare FIRST": "name two or more",
}


@pytest.mark.parametrize("command", USER_ERRORS)
def test_user_error_exits_with_2_and_one_line(command: str, folder: Path, run_enecg):
    arguments = [folder / "first" if word == "FIRST" else word for word in command.split()]
    outcome = run_enecg(*arguments)
    assert (outcome.code, outcome.out, len(outcome.err_lines)) == (2, "", 1)
    assert USER_ERRORS[command] in outcome.err


def test_run_commands_import_neither_prefect_nor_torch(folder: Path):
    code = (
        "import sys; from flows.cli import enecg; from flows.run_app import run_app\n"
        "root, first, second = sys.argv[1:]\n"
        "for arguments in (['table', '2', first, '--extra'], ['table', 'figure3', first],\n"
        "        ['runs', 'ls', root], ['runs', 'show', first],\n"
        "        ['runs', 'compare', first, second]):\n"
        "    assert run_app(enecg(), arguments) == 0\n"
        "assert not {'torch', 'prefect', 'matplotlib'} & sys.modules.keys()\n"
    )
    command = [sys.executable, "-c", code, folder, folder / "first", folder / "second"]
    subprocess.run([str(word) for word in command], check=True, capture_output=True, timeout=120)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs with predictions; `other` has another digest of cohorts than `a` and `b`."""
    root = tmp_path_factory.mktemp("drawn")
    for name, changes in (("a", {}), ("b", {"settings": {"seed": 7}})):
        make_run(root / name, details=True, tasks=("age",), repeats=1, **changes)
    make_run(root / "other", details=True, tasks=("age",), repeats=1, cohorts_digest="ef" * 32)
    return root


def test_page_is_written_to_the_run_folder_or_to_out(drawn: Path, tmp_path: Path, run_enecg):
    done = run_enecg("runs", "page", drawn / "a")
    assert (done.code, done.out) == (0, f"Page: {drawn / 'a' / 'results.html'}\n")
    out = tmp_path / "page.html"
    assert run_enecg("runs", "page", drawn / "a", "--out", out).code == 0
    assert out.read_text() == (drawn / "a" / "results.html").read_text()


def test_with_ecgs_and_dataset_require_each_other(drawn: Path, run_enecg):
    for options in (["--with-ecgs"], ["--dataset", "ludb:x"]):
        done = run_enecg("runs", "page", drawn / "a", *options)
        assert done.code == 2
        assert "--with-ecgs and --dataset require each other" in done.err


def test_page_of_a_run_without_predictions_is_an_error(folder: Path, run_enecg):
    done = run_enecg("runs", "page", folder / "first")
    assert done.code == 2
    assert "targets.json is missing" in done.err


def test_compare_writes_a_page_with_paired_differences(drawn: Path, tmp_path: Path, run_enecg):
    out = tmp_path / "comparison.html"
    done = run_enecg("runs", "compare", drawn / "a", drawn / "b", drawn / "other", "--out", out)
    assert (done.code, done.out) == (0, f"Wrote {out}.\n")
    page = out.read_text()
    assert "<td>seed</td><td>0</td><td>7</td>" in page
    # The predictions are the same, so the paired difference is 0 in all draws.
    assert "<td>+0.000\n[+0.000, +0.000]</td><td>–</td>" in page
    assert "other: no paired differences, because its seeds or patients differ from" in page
    assert 'aria-label="Age: scores"' in page


def test_compare_accepts_a_folder_with_the_name_of_a_method(drawn: Path, tmp_path: Path, run_enecg):
    out, first = tmp_path / "comparison.html", tmp_path / "EnECG"
    shutil.copytree(drawn / "a", first)
    assert run_enecg("runs", "compare", first, drawn / "b", "--out", out).code == 0
    assert "<td>+0.000\n[+0.000, +0.000]</td>" in out.read_text()
