"""`enecg doctor` on a healthy setup, and with one fault at a time."""

import json
import socket
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from command_outcomes import RunCommand
from prefect.settings import PREFECT_API_URL, temporary_settings

from enecg.experts import get_definition
from enecg.leads import LeadsSample
from flows.doctor import data_checks, services, software, store_checks
from flows.doctor.command import check_all
from flows.doctor.finding import Check, Finding, run_check
from pipeline.datasets.registry import open_dataset
from stores.local import LocalRoot
from stores.objects import ObjectRoot


def by_name(check: Check) -> dict[str, Finding]:
    return {finding.name: finding for finding in run_check("check", check)}


def test_healthy_setup_passes(synthetic_dir: Path, tmp_path: Path, run_enecg: RunCommand):
    (tmp_path / "store").mkdir()
    arguments = ("--dataset", f"mimic-iv-ecg:{synthetic_dir}", "--store", tmp_path / "store")
    done = run_enecg("doctor", *arguments, "--json")
    document = json.loads(done.out)
    failed = [check for check in document["checks"] if check["status"] == "failed"]
    assert (done.code, failed) == (0, [])
    assert {check["name"] for check in document["checks"]} >= {
        *("Python", "packages", "torch", "GPU", "CPU", "memory", "proxies", "Prefect"),
        *("Prefect home", "Prefect server", "hub", "weights", "data set: index"),
        *("data set: records", "labels: tables", "labels", "store: list", "store: write"),
        *("store: read", "store: conditional put", "store: lease", "disk space"),
    }
    assert not list((tmp_path / "store").iterdir())


def test_lines_have_a_status_and_the_last_counts_failures(tmp_path: Path, run_enecg: RunCommand):
    (tmp_path / "file").touch()
    done = run_enecg(
        *("doctor", "--dataset", f"ludb:{tmp_path}/none", "--store", tmp_path / "file" / "store")
    )
    assert done.code == 1
    *lines, total = done.out_lines
    assert {line.split()[0] for line in lines} <= {"ok", "warning", "failed"}
    failed = [line for line in lines if line.startswith("failed")]
    assert len(failed) == 2
    assert "data set: index: " in failed[0]
    assert "file is not a writable folder; choose another --store" in failed[1]
    assert total.startswith(f"{len(lines)} checks, 2 failed, ")


def test_missing_and_unsupported_packages_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "fastapi-0.200.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: fastapi\nVersion: 0.200.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = by_name(software.check_packages)
    assert found["package fastapi"].status == "failed"
    assert "0.200.0 is installed, but EnECG requires fastapi<0.151" in (
        found["package fastapi"].detail
    )
    assert 'pip install --constraint constraints.txt "fastapi<0.151"' in (
        found["package fastapi"].remedy
    )
    assert "packages" not in found
    monkeypatch.setattr(software, "CONSTRAINTS", tmp_path / "constraints.txt")
    installed = by_name(software.check_packages)["package fastapi"]
    assert installed.remedy.startswith('run pip install "fastapi<0.151"')
    monkeypatch.setattr(software, "version", _fail)
    assert "is not installed" in by_name(software.check_packages)["package zarr"].detail


def _fail(name: str) -> str:
    raise software.PackageNotFoundError(name)


def test_unresponsive_prefect_server_fails():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/api"
    with temporary_settings({PREFECT_API_URL: url}):
        found = by_name(services.check_prefect)["Prefect server"]
    assert (found.status, found.remedy) == (
        "failed",
        "start it, or correct or unset PREFECT_API_URL",
    )
    assert f"{url} does not respond" in found.detail


def test_proxies_are_checked(monkeypatch: pytest.MonkeyPatch):
    def check(**environ: str) -> Finding:
        return next(iter(by_name(lambda: services.check_proxies(environ)).values()))

    assert check().status == "ok"
    assert check(https_proxy="http://proxy:3128").status == "warning"
    assert check(https_proxy="http://proxy:3128", NO_PROXY="localhost,127.0.0.1").status == "ok"
    monkeypatch.setattr("flows.preflight.importlib.util.find_spec", lambda _: None)
    socks = check(ALL_PROXY="socks5://127.0.0.1:1080")
    assert socks.status == "failed"
    assert "socksio" in socks.remedy


def test_unreachable_hub_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    found = by_name(services.check_weights)
    assert found["hub"].status == "warning"
    assert "http://127.0.0.1:9 does not respond" in found["hub"].detail


def test_store_without_conditional_put_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def replace(self: LocalRoot, key: str, value: bytes) -> bool:
        self.write(key, value)
        return True

    monkeypatch.setattr(LocalRoot, "create", replace)
    found = by_name(lambda: store_checks.check_store(str(tmp_path)))
    assert found["store: conditional put"].status == "failed"
    assert "If-None-Match" in found["store: conditional put"].remedy


def test_store_on_s3_passes_and_a_missing_bucket_fails(s3_root: str, s3_server: str):
    found = by_name(lambda: store_checks.check_store(s3_root))
    assert [finding.status for finding in found.values()] == ["ok"] * 5
    assert list(ObjectRoot.connect(s3_root).sizes("")) == []
    missing = by_name(lambda: store_checks.check_store("s3://none/x"))
    assert [finding.status for finding in missing.values()] == ["failed"]


def test_disk_space_is_compared_with_the_embeddings(tmp_path: Path):
    def check(records: int) -> Finding:
        return next(store_checks.check_space(str(tmp_path / "new"), "a/1", records, ("dlinear",)))

    assert check(1).status == "ok"
    assert check(10**12).status == "failed"


def test_disk_space_includes_rows_that_fill_a_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    features = get_definition("dlinear").embedding_size + LeadsSample.spec.embedding_size
    shard = 1024 * features * np.dtype(np.float16).itemsize

    def check(free: int) -> Finding:
        monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=free))
        return next(store_checks.check_space(str(tmp_path), "a/1", 1025, ("dlinear",)))

    assert check(2 * shard - 1).status == "failed"
    assert check(2 * shard).status == "ok"


def test_disk_space_excludes_embeddings_in_existing_stores(
    synthetic_dir: Path, synthetic_stores: Path, monkeypatch: pytest.MonkeyPatch
):
    name = open_dataset(f"mimic-iv-ecg:{synthetic_dir}").namespace
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=0))

    def check(records: int, *experts: str) -> Finding:
        return next(store_checks.check_space(str(synthetic_stores), name, records, experts))

    assert check(1024, "dlinear").status == "ok"
    assert check(1025, "dlinear").status == "failed"
    assert check(1024, "dlinear", "tempo").status == "failed"


def test_unknown_expert_is_an_error(run_enecg: RunCommand):
    done = run_enecg("doctor", "--experts", "dlinear,foo")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("Unknown expert 'foo'; available: ")


def test_unreadable_records_are_reported(synthetic_dir: Path, tmp_path: Path):
    dataset = open_dataset(f"mimic-iv-ecg:{synthetic_dir}")
    for row in range(len(dataset.index())):
        path = Path(str(dataset.read_leads(row).location)) if row == 3 else None
        if path is not None:
            (tmp_path / "one.hea").write_text(path.with_suffix(".hea").read_text())
            break
    broken = open_dataset(f"wfdb:broken={tmp_path}")
    found = by_name(lambda: data_checks.check_records(broken))["data set: records"]
    assert found.status == "failed"
    assert "0 of 1 decoded (missing_file 1)" in found.detail
    assert found.remedy == "run enecg data check"


def test_error_of_a_check_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch):
    def broken() -> None:
        raise RuntimeError("no such symbol\nsecond line")

    monkeypatch.setattr("flows.doctor.machine.check_torch", broken)
    found = {finding.name: finding for finding in check_all(None, None, ())}
    assert found["torch"].detail == "RuntimeError: no such symbol"
    assert found["weights"].status in ("ok", "warning")
