"""`enecg table` and `enecg runs`, as they are typed."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from made_runs import make_run

from flows.cli import enecg
from flows.run_app import run_app

Tell = Callable[..., tuple[int, str, str]]


@pytest.fixture
def tell(capfd: pytest.CaptureFixture[str]) -> Tell:
    """Runs `enecg` with these words: its exit code, and what it printed on both outputs."""

    def run(*words: object) -> tuple[int, str, str]:
        capfd.readouterr()
        code = run_app(enecg(), [str(word) for word in words])
        told = capfd.readouterr()
        return code, told.out, told.err

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    make_run(root / "first")
    make_run(root / "second", settings={"seed": 7}, cohorts_digest="ef" * 32)
    return root


@pytest.mark.parametrize("which", ["1", "2", "3", "figure3"])
def test_every_table_is_told_on_the_terminal(which: str, folder: Path, tell: Tell):
    code, out, err = tell("table", which, folder / "first")
    assert (code, err) == (0, "")
    assert out.startswith(f"**{'Figure 3' if which == 'figure3' else f'Table {which}'}: ")


def test_a_table_is_written_in_the_format_of_its_suffix(folder: Path, tmp_path: Path, tell: Tell):
    for suffix, begins in ((".md", "**Table 2"), (".csv", "Table 2"), (".html", "<!doctype html>")):
        out = tmp_path / f"table{suffix}"
        code, told, _ = tell("table", "2", folder / "first", "--extra", "--out", out)
        assert (code, told) == (0, f"Written: {out}\n")
        assert out.read_text().startswith(begins)
        assert "AUROC" in out.read_text()


def test_ls_tells_of_each_run_its_data_experts_date_and_enecgs_scores(folder: Path, tell: Tell):
    code, out, _ = tell("runs", "ls", folder)
    head, first, second = out.splitlines()
    assert code == 0
    assert "age MAE years" in head
    assert "sex macro-F1" in head
    assert first.startswith(str(folder / "first"))
    assert "mimic-iv-ecg/1.0  dlinear,moment  random:0   2026-01-02 03:04" in first
    assert first.count("±") == 3
    assert second.startswith(str(folder / "second"))


def test_ls_tells_of_a_run_that_cannot_be_read_and_lists_the_others(tmp_path: Path, tell: Tell):
    make_run(tmp_path / "good")
    (make_run(tmp_path / "old") / "results.json").write_text("[]")
    code, out, _ = tell("runs", "ls", tmp_path)
    assert code == 0
    assert out.splitlines()[1].startswith(str(tmp_path / "good"))
    damaged = tmp_path / "old" / "results.json"
    assert f"{damaged} is damaged or was written by another version" in out.splitlines()[2]


def test_show_tells_settings_stores_and_tables(folder: Path, tmp_path: Path, tell: Tell):
    long = make_run(tmp_path / "first", settings={"fit": {"learning_rate_of_heads": 0.001}})
    _, out, _ = tell("runs", "show", long)
    assert "settings fit learning_rate_of_heads  0.001" in out
    code, out, _ = tell("runs", "show", folder / "first")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert code == 0
    assert "settings fit rank 8" in lines
    assert "peak_memory_bytes process 1500000000" in lines
    assert "/stores/0000000000000001" in lines
    assert "weights published" in lines
    assert {"**Table 2", "**Table 3", "**Table 1"} <= {line.partition(":")[0] for line in lines}


def test_compare_tells_what_differs_warns_and_sets_scores_side_by_side(folder: Path, tell: Tell):
    code, out, _ = tell("runs", "compare", folder / "first", folder / "second")
    assert code == 0
    assert out.index("Settings that differ") < out.index("WARNING") < out.index("**Age, MAE")
    assert "| seed | 0     | 7      |" in out


MISTAKES = {
    "table 2 nowhere": "nowhere is not a run folder",
    "table 4 FIRST": "Invalid value",
    "table 2 FIRST --out x.pdf": "x.pdf: unknown suffix; use .md, .csv, .html",
    "table 2 FIRST --out nowhere/x.md": "cannot be written",
    "runs ls nowhere": "The folder nowhere does not exist",
    "runs show nowhere": "nowhere is not a run folder",
    "runs compare FIRST": "name two or more",
}


@pytest.mark.parametrize("command", MISTAKES)
def test_a_mistake_gets_one_sentence_and_exit_code_2(command: str, folder: Path, tell: Tell):
    words = [str(folder / "first") if word == "FIRST" else word for word in command.split()]
    code, out, err = tell(*words)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert MISTAKES[command] in err


def test_looking_at_runs_needs_neither_prefect_nor_torch(folder: Path):
    code = (
        "import sys; from flows.cli import enecg; from flows.run_app import run_app\n"
        "root, first, second = sys.argv[1:]\n"
        "for words in (['table', '2', first, '--extra'], ['table', 'figure3', first],\n"
        "        ['runs', 'ls', root], ['runs', 'show', first],\n"
        "        ['runs', 'compare', first, second]):\n"
        "    assert run_app(enecg(), words) == 0\n"
        "assert not {'torch', 'prefect', 'matplotlib'} & sys.modules.keys()\n"
    )
    words = [sys.executable, "-c", code, folder, folder / "first", folder / "second"]
    subprocess.run([str(word) for word in words], check=True, capture_output=True, timeout=120)
