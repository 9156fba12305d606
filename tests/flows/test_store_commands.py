"""`enecg store`, as it is typed: what it prints, and with which exit code it leaves."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from conformance.store_tests import damage, make, rows, whole

from flows.cli import enecg
from flows.run_app import run_app
from flows.tables import format_bytes, format_table
from stores.embeddings import EmbeddingStore
from stores.layout import leases_folder, runs_folder
from stores.lease import acquire
from stores.opening import open_store, open_stores
from stores.runs import write_run
from stores.status import WHOLE


@dataclass
class Told:
    """What a command left behind: its exit code, and its lines on both outputs."""

    code: int
    out: list[str]
    err: list[str]


@pytest.fixture
def store(capfd: pytest.CaptureFixture[str]):
    """Runs `enecg store` with these words."""

    def run(*words: object) -> Told:
        capfd.readouterr()
        code = run_app(enecg(), ["store", *map(str, words)])
        told = capfd.readouterr()
        return Told(code, told.out.splitlines(), told.err.splitlines())

    return run


def filled(root: Path, **change: str) -> EmbeddingStore:
    """Ten rows, of which one is flat and three are missing."""
    with make(root, **change) as writable:
        writable.write_shard(0, rows(0), whole())
        status = np.array([1, 3, 0, 1], np.uint8)
        data = np.where((status == 1)[:, None], rows(1), np.float16("nan"))
        writable.write_shard(1, data, status)
        run = {"embedded": 60, "embedding_seconds": 2.0, "rows_failed": 1, "device": "cpu"}
        write_run(writable, run | {"started": "2026-01-02T03:04:05"})
    return writable


def spoil(of: EmbeddingStore) -> None:
    shard = bytearray((of.location / "embedding/c/0/0").read() or b"")
    shard[5] ^= 1
    damage(of.location, "embedding/c/0/0", bytes(shard))


def test_ls_tells_what_is_there_who_writes_and_what_is_damaged(tmp_path: Path, store):
    good = filled(tmp_path, weights="random:0")
    bad = filled(tmp_path, expert="tempo")
    damage(bad.location, "zarr.json", b"garbage")
    with acquire(leases_folder(good.location)) as lease:
        told = store("ls", tmp_path)
        assert lease.record.who in told.out[1]
    assert told.code == 1
    line = told.out[1].split()
    assert line[:9] == ["ludb/1.0.1", "dlinear", "random:0", "-", "float16", "10", "6", "3", "1"]
    assert good.identity in line
    assert str(bad.location) in told.out[2]
    assert "is damaged" in told.out[2]
    assert store("ls", tmp_path).out[1].endswith("  -")
    alone = store("ls", good.location)
    assert (alone.code, len(alone.out)) == (0, 2)


def test_show_tells_provenance_runs_and_every_failure(tmp_path: Path, store):
    one = filled(tmp_path, weights="random:0")
    told = store("show", one.location, "--failed")
    lines = [" ".join(line.split()) for line in told.out]
    assert lines[0] == str(one.location)
    assert "rows 10: 6 whole, 3 missing, 1 failed (1 flat_lead)" in lines
    assert "weights random:0" in lines
    assert any("30.0 records/s" in line and "2026-01-02" in line for line in lines)
    assert "failed 5 flat_lead" in lines
    assert not any("flat_lead" in line for line in store("show", one.location).out[2:])
    filled(tmp_path, expert="tempo")
    locations = [line for line in store("show", tmp_path).out if line.startswith(str(tmp_path))]
    assert len(locations) == 2


def test_show_leaves_out_a_run_that_is_told_in_half(tmp_path: Path, store):
    one = filled(tmp_path)
    folder = runs_folder(one.location).path
    (folder / "20990101T000000Z-abcd.json").write_text('{"embedded": 7, "b')
    (folder / "20990101T000001Z-abcd.json").write_text("[7]")
    (folder / "0123456789abcdef.partial").write_text('{"embedded": 7}')
    told = store("show", one.location)
    assert told.code == 0
    assert sum(line.startswith("  run ") for line in told.out) == 1


def test_verify_leaves_with_1_where_something_is_damaged_until_it_is_mended(tmp_path: Path, store):
    one = filled(tmp_path)
    filled(tmp_path, expert="tempo")
    assert store("verify", tmp_path).code == 0
    spoil(one)
    told = store("verify", tmp_path)
    assert told.code == 1
    assert "damaged, 2 of 10 rows whole" in told.out[0]
    assert told.out[1] == "  shard 0: 4 rows in chunks that do not match their checksum"
    assert told.out[2] == "  4 rows are lost; --mend sets them back to absent."
    assert "sound" in told.out[3]
    told = store("verify", one.location, "--mend")
    assert told.code == 0
    assert "mended" in told.out[0]
    assert store("verify", one.location).code == 0
    assert open_store(one.location).status(0).tolist() == [0, 0, 0, 0]


def test_verify_tells_of_a_store_that_does_not_open_and_reads_the_others(tmp_path: Path, store):
    one = filled(tmp_path)
    filled(tmp_path, expert="tempo")
    damage(one.location, "zarr.json", b"garbage")
    told = store("verify", tmp_path)
    assert told.code == 1
    assert "is damaged" in told.out[0]
    assert "tempo" in told.out[1]
    assert "sound" in told.out[1]


def test_gc_lists_and_removes_only_when_asked(tmp_path: Path, store):
    one = filled(tmp_path)
    extra = one.location.path / "embedding/c/7"
    extra.mkdir()
    (extra / "0").write_bytes(b"x" * 2500)
    told = store("gc", tmp_path)
    assert told.out[0].startswith("    2.5 kB")
    assert told.out[-1] == "In all 1 things, 2.5 kB; --remove removes them."
    assert extra.exists()
    assert store("gc", tmp_path, "--remove").out[-1] == "Removed: 1 things, 2.5 kB."
    assert not extra.exists()
    assert store("gc", tmp_path).out == ["There is nothing to remove."]


def test_copy_tells_what_it_copied_and_how_far_it_is(tmp_path: Path, store):
    filled(tmp_path / "a")
    filled(tmp_path / "a", expert="tempo")
    words = ("copy", tmp_path / "a", tmp_path / "b", "--experts", "tempo,nosuch")
    told = store(*words, "--dataset-name", "ludb/1.0.1")
    assert told.code == 0
    assert len(told.out) == 1
    assert "/tempo/" in told.out[0]
    assert "6 rows copied, 1 failures noted, 0 already there" in told.out[0]
    assert told.err[-1].startswith("copy: 7 of 7 rows")
    assert "0 rows copied" in store(*words).out[0]
    assert len(open_stores(tmp_path / "b").stores) == 1


def test_copy_leaves_with_1_where_some_of_the_source_is_damaged(tmp_path: Path, store):
    spoil(filled(tmp_path / "a"))
    told = store("copy", tmp_path / "a", tmp_path / "b")
    assert told.code == 1
    assert "2 rows copied" in told.out[0]
    assert "does not match its checksum" in told.err[-1]


MISTAKES = {
    "ls": (["nowhere"], "There are no stores below"),
    "show": (["nowhere"], "There are no stores below"),
    "verify": (["nowhere"], "There are no stores below"),
    "copy": (["nowhere", "there"], "There are no stores below"),
    "gc": (["gopher://x"], "not a valid store URL"),
    "verify x --sample 3": ([], "--recompute needs --dataset"),
    "verify x --recompute": ([], "--recompute needs --dataset"),
    "verify x --dataset ludb:x": ([], "--recompute needs --dataset"),
}


@pytest.mark.parametrize("command", MISTAKES)
def test_a_mistake_gets_one_sentence_and_exit_code_2(command: str, tmp_path: Path, store):
    words, sentence = MISTAKES[command]
    told = store(*command.split(), *words)
    assert (told.code, told.out, len(told.err)) == (2, [], 1)
    assert sentence in told.err[0]


def test_looking_after_stores_needs_neither_prefect_nor_torch(tmp_path: Path):
    filled(tmp_path / "a")
    code = (
        "import sys; from flows.cli import enecg; from flows.run_app import run_app\n"
        "a, b = sys.argv[1:]\n"
        "for words in (['ls', a], ['show', a], ['verify', a], ['gc', a], ['copy', a, b]):\n"
        "    assert run_app(enecg(), ['store', *words]) == 0\n"
        "assert not {'torch', 'prefect', 'wfdb', 'dask', 'xarray'} & sys.modules.keys()\n"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "a"), str(tmp_path / "b")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def extracted(synthetic_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a real extraction by DLinear with untrained weights, and the leads."""
    from pipeline.extract import extract
    from pipeline.extraction.options import ExtractOptions

    root = tmp_path_factory.mktemp("extracted")
    dataset = f"mimic-iv-ecg:{synthetic_dir}"
    options = ExtractOptions(weights=("random:0",), device="cpu")
    extract(dataset, root, ["dlinear"], options=options)
    return root


def test_rows_computed_again_are_equal_to_the_last_bit(extracted: Path, synthetic_dir: Path, store):
    asked = ("--recompute", "--sample", 5, "--dataset", f"mimic-iv-ecg:{synthetic_dir}")
    told = store("verify", extracted, *asked)
    assert told.code == 0
    equal = (
        "  5 rows computed again: 5 equal to the last bit, 0 within one unit of float16, 0 differ"
    )
    assert sum(line.startswith(equal) for line in told.out) == 2


def test_other_numbers_and_other_weights_are_told(extracted: Path, synthetic_dir: Path, store):
    asked = ("--recompute", "--sample", 5, "--dataset", f"mimic-iv-ecg:{synthetic_dir}")
    there = {one.location.parent.name: one for one in open_stores(extracted).stores}
    told = store("verify", there["dlinear"].location, *asked, "--weights", "random:1")
    assert told.code == 2
    assert "weights (now random:1, in the store random:0)" in told.err[-1]
    assert "weights_sha256" in told.err[-1]
    leads = there["leads"]
    with acquire(leases_folder(leads.location)) as lease:
        writable = open_store(leads.location, lease.ticket)
        for shard in range(writable.shards):
            changed = writable.read_shard(shard)
            changed[writable.status(shard) == WHOLE, 7] += 1
            writable.write_shard(shard, changed, writable.status(shard))
    told = store("verify", leads.location, *asked)
    assert told.code == 1
    assert "0 equal to the last bit, 0 within one unit of float16, 5 different" in told.out[1]
    assert "differs by up to 1" in told.out[2]


def test_columns_line_up_and_sizes_are_in_units():
    lines = format_table(["name", "rows"], [["a", 1_000_000], ["longer", 7]])
    assert lines == ["name         rows", "a       1,000,000", "longer          7"]
    assert [format_bytes(count) for count in (7, 1500, 2.5e6, 3e9)] == [
        "7 B",
        "1.5 kB",
        "2.5 MB",
        "3.0 GB",
    ]
