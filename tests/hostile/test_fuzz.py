"""Random metadata, leases, run records, run folders and label files are read or rejected.

ENECG_FUZZ=100000 pytest -m hostile tests/hostile/test_fuzz.py runs this number of inputs in total.
"""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conformance.store_tests import random_rows, whole_status, writable_store
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_runs import make_run

from enecg.errors import UserError
from pipeline.datasets.record_table import read_record_table
from pipeline.report.comparison import list_runs
from pipeline.report.formats import to_markdown
from pipeline.report.paper_tables import all_tables
from pipeline.runs.results import read_results
from pipeline.runs.saved_run import SavedRun
from stores.errors import StoreError
from stores.garbage import find_garbage
from stores.layout import leases_folder, runs_folder
from stores.lease_record import LeaseRecord
from stores.locate import locate
from stores.opening import count_rows, open_stores
from stores.runs import read_runs

pytestmark = [pytest.mark.hostile, pytest.mark.timeout(7200)]

TESTS = 5
EXAMPLES = int(os.environ.get("ENECG_FUZZ", "200")) // TESTS

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, -1, 2**31, 2**63, 10**12, 10**30])
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["../x", "/etc/passwd", "\x1b[2J", "float16", "regular", "bytes"]),
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=8), children)
    ),
    max_leaves=8,
)
BYTES = st.binary(max_size=200)


def fuzz(test: Callable[..., None]) -> Callable[..., None]:
    checks = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]
    return settings(
        max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=checks
    )(test)


def mutate(document: Any, data: st.DataObject) -> Any:
    """Return a document in which a value at a random position is replaced."""
    if isinstance(document, dict) and document and data.draw(st.booleans()):
        key = data.draw(st.sampled_from(sorted(document)))
        return document | {key: mutate(document[key], data)}
    if isinstance(document, list) and document and data.draw(st.booleans()):
        position = data.draw(st.integers(0, len(document) - 1))
        return [*document[:position], mutate(document[position], data), *document[position + 1 :]]
    return data.draw(VALUES)


def draw_document(path: Path, original: bytes, data: st.DataObject) -> None:
    """Write random bytes, or the JSON document `original` with a random change."""
    if data.draw(st.integers(0, 9)) == 0:
        path.write_bytes(data.draw(BYTES))
    else:
        path.write_text(json.dumps(mutate(json.loads(original), data)))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("fuzz") / "root"
    with writable_store(root) as store:
        store.write_shard(0, random_rows(0), whole_status())
    return root


@pytest.fixture(autouse=True)
def nothing_outside_is_written(root: Path) -> Iterator[None]:
    yield
    assert [path.name for path in root.parent.iterdir()] == ["root"]


@fuzz
@given(data=st.data(), name=st.sampled_from(["", "embedding/", "status/", "record_id/"]))
def test_random_metadata_is_read_or_raises_store_error(root: Path, data: st.DataObject, name: str):
    (folder,) = root.glob("ludb/1.0.1/dlinear/*")
    path = folder / f"{name}zarr.json"
    original = path.read_bytes()
    draw_document(path, original, data)
    try:
        for store in open_stores(root).stores:
            count_rows(store)
            store.read(np.flatnonzero(store.status() == 1)[:3])
        find_garbage(locate(root))
    except StoreError:
        pass
    finally:
        path.write_bytes(original)


@fuzz
@given(data=st.data())
def test_random_lease_is_parsed_or_ignored(root: Path, data: st.DataObject):
    (store,) = open_stores(root).stores
    folder = Path(str(leases_folder(store.location)))
    path = folder / "00000077.json"
    draw_document(path, LeaseRecord.for_this_process(45.0).json(), data)
    try:
        record = LeaseRecord.parse(path.read_bytes())
        assert record is None or 0 < record.expires <= 3600
        str(record)
        find_garbage(locate(root))
    finally:
        path.unlink()


@fuzz
@given(data=st.data())
def test_random_run_record_is_read_or_skipped(root: Path, data: st.DataObject):
    (store,) = open_stores(root).stores
    folder = Path(str(runs_folder(store.location)))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "20260101T000000Z-00000000.json"
    draw_document(path, json.dumps({"started": "x", "embedded": 3, "failures": []}).encode(), data)
    from flows.store_report import describe

    describe(store, count_rows(store))
    assert len(read_runs(store)) <= 1
    path.unlink()


@fuzz
@given(data=st.data(), name=st.sampled_from(["config", "results", "provenance"]))
def test_random_run_folder_is_read_or_raises_user_error(
    root: Path, tmp_path: Path, data: st.DataObject, name: str
):
    folder = tmp_path / "run"
    if not folder.exists():
        make_run(folder)
    path = folder / f"{name}.json"
    original = path.read_bytes()
    draw_document(path, original, data)
    try:
        results = read_results(folder)
        list_runs([results])
        to_markdown(all_tables(results))
        saved = SavedRun(folder)
        assert saved.experts is not None
        assert saved.stores
    except UserError:
        pass
    finally:
        path.write_bytes(original)


@fuzz
@given(data=st.data())
def test_random_label_file_is_read_or_raises_user_error(
    root: Path, tmp_path: Path, data: st.DataObject
):
    suffix = data.draw(st.sampled_from([".csv", ".csv.gz", ".parquet"]))
    path = tmp_path / f"labels{suffix}"
    cells = st.text(max_size=6) | st.integers().map(str)
    rows = data.draw(st.lists(st.lists(cells, max_size=4).map(",".join), max_size=5))
    text = "\n".join(["record_id,age", *rows]).encode("utf-8", "surrogatepass")
    path.write_bytes(data.draw(BYTES) if data.draw(st.booleans()) else text)
    try:
        read_record_table(path, np.arange(5), {"age"})
    except UserError:
        pass
    finally:
        path.unlink()
