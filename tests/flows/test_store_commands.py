"""The commands `enecg store`: output and exit codes."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conformance.store_tests import damage, random_rows, whole_status, writable_store

from stores.embeddings import EmbeddingStore
from stores.layout import leases_folder, runs_folder
from stores.lease import acquire
from stores.opening import open_store, open_stores
from stores.runs import write_run
from stores.status import WHOLE


def filled_store(root: Path, **change: str) -> EmbeddingStore:
    """Return a store of ten rows, of which six are complete, one failed and three are missing."""
    with writable_store(root, **change) as writable:
        writable.write_shard(0, random_rows(0), whole_status())
        status = np.array([1, 3, 0, 1], np.uint8)
        data = np.where((status == 1)[:, None], random_rows(1), np.float16("nan"))
        writable.write_shard(1, data, status)
        run = {"embedded": 60, "embedding_seconds": 2.0, "rows_failed": 1, "device": "cpu"}
        write_run(writable, run | {"started": "2026-01-02T03:04:05"})
    return writable


def flip_bit(store: EmbeddingStore) -> None:
    shard = bytearray((store.location / "embedding/c/0/0").read() or b"")
    shard[5] ^= 1
    damage(store.location, "embedding/c/0/0", bytes(shard))


def test_ls_lists_counts_writers_and_damaged_stores(tmp_path: Path, run_enecg):
    good = filled_store(tmp_path, weights="random:0")
    bad = filled_store(tmp_path, expert="tempo")
    damage(bad.location, "zarr.json", b"garbage")
    with acquire(leases_folder(good.location)) as lease:
        listing = run_enecg("store", "ls", tmp_path)
        assert lease.record.who in listing.out_lines[1]
    assert listing.code == 1
    line = listing.out_lines[1].split()
    assert line[:9] == ["ludb/1.0.1", "dlinear", "random:0", "-", "float16", "10", "6", "3", "1"]
    assert good.identity in line
    assert len(listing.out_lines) == 2
    assert listing.err.startswith(f"{bad.location} is damaged")
    assert run_enecg("store", "ls", tmp_path).out_lines[1].endswith("  -")
    single = run_enecg("store", "ls", good.location)
    assert (single.code, len(single.out_lines)) == (0, 2)


def test_show_prints_provenance_runs_and_failures(tmp_path: Path, run_enecg):
    store = filled_store(tmp_path, weights="random:0")
    shown = run_enecg("store", "show", store.location, "--failed")
    lines = [" ".join(line.split()) for line in shown.out_lines]
    assert lines[0] == str(store.location)
    assert "rows 10: 6 complete, 3 missing, 1 failed (1 flat_lead)" in lines
    assert "weights random:0" in lines
    assert any("30.0 records/s" in line and "2026-01-02" in line for line in lines)
    assert "failed 5 flat_lead" in lines
    without_failures = run_enecg("store", "show", store.location).out_lines
    assert not any("flat_lead" in line for line in without_failures[2:])
    filled_store(tmp_path, expert="tempo")
    both = run_enecg("store", "show", tmp_path).out_lines
    assert sum(line.startswith(str(tmp_path)) for line in both) == 2


def test_show_reports_unreadable_stores_to_stderr_and_exits_with_1(tmp_path: Path, run_enecg):
    good = filled_store(tmp_path)
    bad = filled_store(tmp_path, expert="tempo")
    damage(bad.location, "zarr.json", b"garbage")
    shown = run_enecg("store", "show", tmp_path)
    assert shown.code == 1
    assert shown.out.startswith(str(good.location))
    assert str(bad.location) not in shown.out
    assert shown.err.startswith(f"{bad.location} is damaged")


def test_show_skips_invalid_run_records(tmp_path: Path, run_enecg):
    store = filled_store(tmp_path)
    folder = runs_folder(store.location).path
    (folder / "20990101T000000Z-abcd.json").write_text('{"embedded": 7, "b')
    (folder / "20990101T000001Z-abcd.json").write_text("[7]")
    (folder / "0123456789abcdef.partial").write_text('{"embedded": 7}')
    shown = run_enecg("store", "show", store.location)
    assert shown.code == 0
    assert sum(line.startswith("  run ") for line in shown.out_lines) == 1


def test_verify_exits_with_1_until_damage_is_repaired(tmp_path: Path, run_enecg):
    store = filled_store(tmp_path)
    filled_store(tmp_path, expert="tempo")
    assert run_enecg("store", "verify", tmp_path).code == 0
    flip_bit(store)
    damaged = run_enecg("store", "verify", tmp_path)
    assert damaged.code == 1
    assert "damaged, 2 of 10 rows complete" in damaged.out_lines[0]
    assert damaged.out_lines[1] == ("  shard 0: 4 rows in chunks that do not match their checksum")
    assert damaged.out_lines[2] == "  4 rows are lost; --repair sets them to absent."
    assert "intact" in damaged.out_lines[3]
    repaired = run_enecg("store", "verify", store.location, "--repair")
    assert repaired.code == 0
    assert "repaired" in repaired.out_lines[0]
    assert run_enecg("store", "verify", store.location).code == 0
    assert open_store(store.location).status(0).tolist() == [0, 0, 0, 0]


def test_verify_reports_an_unreadable_store_and_verifies_the_others(tmp_path: Path, run_enecg):
    store = filled_store(tmp_path)
    filled_store(tmp_path, expert="tempo")
    damage(store.location, "zarr.json", b"garbage")
    verified = run_enecg("store", "verify", tmp_path)
    assert verified.code == 1
    assert "is damaged" in verified.out_lines[0]
    assert "tempo" in verified.out_lines[1]
    assert "intact" in verified.out_lines[1]


def test_gc_removes_only_with_remove(tmp_path: Path, run_enecg):
    store = filled_store(tmp_path)
    extra = store.location.path / "embedding/c/7"
    extra.mkdir()
    (extra / "0").write_bytes(b"x" * 2500)
    listing = run_enecg("store", "gc", tmp_path).out_lines
    assert listing[0].startswith("    2.5 kB")
    assert listing[-1] == "Total: 1 item, 2.5 kB. Run with --remove to delete."
    assert extra.exists()
    removal = run_enecg("store", "gc", tmp_path, "--remove").out_lines
    assert removal[-1] == "Removed 1 item, 2.5 kB."
    assert not extra.exists()
    assert run_enecg("store", "gc", tmp_path).out_lines == ["Nothing to remove."]


def test_copy_prints_counts_and_progress(tmp_path: Path, run_enecg):
    filled_store(tmp_path / "a")
    filled_store(tmp_path / "a", expert="tempo")
    command = ("store", "copy", tmp_path / "a", tmp_path / "b", "--experts", "tempo,nosuch")
    copied = run_enecg(*command, "--dataset-name", "ludb/1.0.1")
    assert copied.code == 0
    assert len(copied.out_lines) == 1
    assert "/tempo/" in copied.out
    assert "6 rows copied, 1 failed rows recorded, 0 rows already present" in copied.out
    assert copied.err_lines[-1].startswith("copy: 7 of 7 rows")
    assert "0 rows copied" in run_enecg(*command).out_lines[0]
    assert len(open_stores(tmp_path / "b").stores) == 1


def test_copy_exits_with_1_if_a_shard_of_the_source_is_damaged(tmp_path: Path, run_enecg):
    flip_bit(filled_store(tmp_path / "a"))
    copied = run_enecg("store", "copy", tmp_path / "a", tmp_path / "b")
    assert copied.code == 1
    assert "2 rows copied" in copied.out_lines[0]
    assert "does not match its checksum" in copied.err_lines[-1]


USER_ERRORS = {
    "ls": (["nowhere"], "There are no stores below"),
    "show": (["nowhere"], "There are no stores below"),
    "verify": (["nowhere"], "There are no stores below"),
    "copy": (["nowhere", "there"], "There are no stores below"),
    "gc": (["gopher://x"], "not a valid store URL"),
    "verify x --sample 3": ([], "--recompute requires --dataset"),
    "verify x --recompute": ([], "--recompute requires --dataset"),
    "verify x --dataset ludb:x": ([], "--recompute requires --dataset"),
}


@pytest.mark.parametrize("command", USER_ERRORS)
def test_user_error_exits_with_2_and_one_line(command: str, run_enecg):
    arguments, message = USER_ERRORS[command]
    outcome = run_enecg("store", *command.split(), *arguments)
    assert (outcome.code, outcome.out, len(outcome.err_lines)) == (2, "", 1)
    assert message in outcome.err


def test_store_commands_import_neither_prefect_nor_torch(tmp_path: Path):
    filled_store(tmp_path / "a")
    code = (
        "import sys; from flows.cli import enecg; from flows.run_app import run_app\n"
        "a, b = sys.argv[1:]\n"
        "for arguments in (['ls', a], ['show', a], ['verify', a], ['gc', a], ['copy', a, b]):\n"
        "    assert run_app(enecg(), ['store', *arguments]) == 0\n"
        "assert not {'torch', 'prefect', 'wfdb', 'dask', 'xarray'} & sys.modules.keys()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a"), str(tmp_path / "b")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def extracted(synthetic_stores: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of the stores of an extraction with untrained DLinear, and of the gate's leads."""
    # Imported here because it imports torch, and most tests of this file do not need it.
    from quick_runs import copy_stores

    return copy_stores(synthetic_stores, tmp_path_factory.mktemp("extracted"), "dlinear")


@pytest.fixture
def recompute_options(synthetic_dir: Path) -> tuple[object, ...]:
    return ("--recompute", "--sample", 5, "--dataset", f"mimic-iv-ecg:{synthetic_dir}")


def test_recomputed_rows_are_equal(extracted: Path, recompute_options, run_enecg):
    verified = run_enecg("store", "verify", extracted, *recompute_options)
    assert verified.code == 0
    equal = "  5 rows recomputed: 5 equal, 0 within the tolerance, 0 different"
    assert verified.out_lines.count(equal) == 2


def test_recompute_reports_other_weights_and_different_rows(
    extracted: Path, recompute_options, run_enecg
):
    stores = {store.location.parent.name: store for store in open_stores(extracted).stores}
    other_weights = run_enecg(
        *("store", "verify", stores["dlinear"].location, *recompute_options),
        *("--weights", "random:1"),
    )
    assert other_weights.code == 2
    assert "weights (now random:1, in the store random:0)" in other_weights.err_lines[-1]
    assert "weights_sha256" in other_weights.err_lines[-1]
    leads = stores["leads"].location
    with acquire(leases_folder(leads)) as lease:
        writable = open_store(leads, lease.ticket)
        for shard in range(writable.shards):
            changed = writable.read_shard(shard)
            changed[writable.status(shard) == WHOLE, 7] += 1
            writable.write_shard(shard, changed, writable.status(shard))
    verified = run_enecg("store", "verify", leads, *recompute_options)
    assert verified.code == 1
    assert "0 equal, 0 within the tolerance, 5 different" in verified.out_lines[1]
    assert "differs by up to 1" in verified.out_lines[2]
