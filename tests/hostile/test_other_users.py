"""Other users of a store root, and tables that decompress to over 100 times their size."""

import contextlib
import gzip
import io
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from conformance.store_tests import random_rows, whole_status, writable_store

from enecg.errors import UserError
from enecg.experts.weights import find_weights
from flows.cli import enecg
from flows.run_app import run_app
from pipeline.datasets.label_rules import LabelRules
from pipeline.datasets.mimic_tables.potassium import read_potassium_labels
from pipeline.runs.find_runs import find_runs
from stores.opening import open_stores
from stores.runs import write_run
from stores.verify import verify

pytestmark = pytest.mark.hostile

NOBODY = 65_534
LAB_HEADER = b"subject_id,itemid,charttime,valuenum,ref_range_lower,ref_range_upper,flag\n"


def run_as(user: int, group: int, function: Callable[[], None]) -> None:
    """Call a function in a forked process of another user, and assert that it succeeds."""
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(group)
            os.setuid(user)
            function()
            os._exit(0)
        except BaseException:
            traceback.print_exc(file=sys.__stderr__)
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def make_searchable(path: Path) -> None:
    """Let all users open files in a folder."""
    for folder in (path, *path.parents):
        if not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can change the user"
)
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_users_of_one_group_write_to_one_store(tmp_path: Path):
    root = tmp_path / "root"
    root.mkdir()
    os.chown(root, 0, NOBODY)
    root.chmod(0o2775)
    make_searchable(tmp_path)

    def write(shard: int) -> None:
        os.umask(0o002)
        with writable_store(root) as store:
            store.write_shard(shard, random_rows(shard), whole_status())

    before = os.umask(0o002)
    try:
        write(0)
        run_as(NOBODY, NOBODY, lambda: write(1))
        write(0)
    finally:
        os.umask(before)
    (store,) = open_stores(root).stores
    assert (store.status()[:8] == 1).all()
    assert verify(store).intact


HIDDEN = {
    "a data set": "ludb",
    "a version": "ludb/1.0.1",
    "an expert": "ludb/1.0.1/dlinear",
    "a store": "ludb/1.0.1/dlinear/{identity}",
    "an array": "ludb/1.0.1/dlinear/{identity}/embedding",
    "leases": "ludb/1.0.1/leases/dlinear/{identity}",
    "a lease": "ludb/1.0.1/leases/dlinear/{identity}/00000001.json",
    "runs": "ludb/1.0.1/runs",
    "runs of a store": "ludb/1.0.1/runs/dlinear/{identity}",
}


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can change the user"
)
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("location", HIDDEN)
def test_unreadable_files_of_a_user_do_not_stop_the_commands_of_others(
    location: str, tmp_path: Path
):
    root = tmp_path / "root"
    for dataset in ("ludb/1.0.1", "other/1"):
        with writable_store(root, dataset=dataset) as store:
            store.write_shard(0, random_rows(0), whole_status())
            write_run(store, {})
    make_searchable(tmp_path)
    identity = next((root / "ludb/1.0.1/dlinear").iterdir()).name
    (root / HIDDEN[location].format(identity=identity)).chmod(0)
    # Run the commands once to import their modules, which the other user may be unable to read.
    for command in ("ls", "show", "verify", "gc"):
        run_app(enecg(), ["store", command, str(root)])

    def use() -> None:
        for command in ("ls", "show", "verify"):
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                assert run_app(enecg(), ["store", command, str(root)]) in (0, 1)
            assert "other/1" in out.getvalue()
        assert run_app(enecg(), ["store", "gc", str(root)]) == 0
        assert run_app(enecg(), ["store", "gc", str(root), "--remove"]) == 0

    run_as(NOBODY, NOBODY, use)


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can change the user"
)
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("hidden", ["weights", "weights/dlinear.pth"])
def test_unreadable_weights_are_a_user_error(hidden: str, tmp_path: Path):
    path = tmp_path / "weights" / "dlinear.pth"
    path.parent.mkdir()
    path.write_bytes(b"weights")
    make_searchable(path.parent)
    (tmp_path / hidden).chmod(0)

    def use() -> None:
        with pytest.raises(UserError, match=r"dlinear\.pth cannot be read \(Permission denied\)"):
            find_weights("dlinear", str(path), None)

    run_as(NOBODY, NOBODY, use)


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can change the user"
)
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_private_runs_of_a_user_are_not_found_by_others(tmp_path: Path):
    for name in ("private", "shared"):
        folder = tmp_path / name
        folder.mkdir()
        for file in ("config.json", "results.json"):
            (folder / file).write_text("{}")
    make_searchable(tmp_path)
    tmp_path.chmod(0o755)
    (tmp_path / "private").chmod(0o700)
    (tmp_path / "shared").chmod(0o755)

    def use() -> None:
        assert list(find_runs(tmp_path)) == [tmp_path / "shared"]
        with pytest.raises(UserError, match="cannot be read"):
            list(find_runs(tmp_path / "private"))

    run_as(NOBODY, NOBODY, use)


@pytest.mark.parametrize("mask", [0o077, 0o777])
def test_writer_can_read_its_rows_with_any_umask(mask: int, tmp_path: Path):
    before = os.umask(mask)
    try:
        with writable_store(tmp_path / "root") as store:
            store.write_shard(0, random_rows(0), whole_status())
    finally:
        os.umask(before)
    (opened,) = open_stores(tmp_path / "root").stores
    assert (opened.status()[:4] == 1).all()


def write_compressed(path: Path, body: bytes) -> tuple[Path, pd.DataFrame]:
    """Write a compressed lab table; return its path and a table with one record to label."""
    path.write_bytes(gzip.compress(LAB_HEADER + body, 1))
    assert path.stat().st_size < len(body) / 100
    time = pd.to_datetime(["2150-03-01"]).astype("datetime64[s]")
    return path, pd.DataFrame({"record_id": [7], "patient_id": [1], "ecg_time": time})


def test_lab_table_of_many_short_rows_is_read(tmp_path: Path):
    body = b"1,2,,,,,\n" * 7_000_000
    labels, skipped = read_potassium_labels(
        *write_compressed(tmp_path / "labevents.csv.gz", body), LabelRules()
    )
    assert labels["potassium"].isna().all()
    assert not +skipped


@pytest.mark.parametrize("size", [3_000_000, 9_000_000, 60_000_000])
def test_lab_table_with_a_very_long_row_is_a_user_error(size: int, tmp_path: Path):
    body = b"1" * size + b"\n1,2,,,,,\n"
    table, records = write_compressed(tmp_path / "labevents.csv.gz", body)
    with pytest.raises(UserError):
        read_potassium_labels(table, records, LabelRules())
