"""Weights: options, sources, checkpoint files and digests."""

import hashlib
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from enecg.errors import UserError
from enecg.experts.checkpoints import load_strict, read_checkpoint
from enecg.experts.digests import file_sha256, model_sha256
from enecg.experts.options import ExpertOption
from enecg.experts.weights import HubFile, find_weights


def test_option_has_one_value_for_all_and_overrides_for_single_experts():
    option = ExpertOption.parse(
        "--weights", ["hub:a/b@v1/c.pth", "moment@published", "tempo@/a/b@c.pth"]
    )
    assert option.get("dlinear") == "hub:a/b@v1/c.pth"
    assert option.get("moment") == "published"
    assert option.get("tempo") == "/a/b@c.pth"
    assert ExpertOption.parse("--weights", []).get("moment") == "published"
    assert ExpertOption.parse("--weights", ["/a/b@c.pth"]).get("moment") == "/a/b@c.pth"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["random:0", "published"], "2 values for all experts"),
        (["moment@random:0", "moment@random:1"], "names expert 'moment' twice"),
    ],
)
def test_two_values_for_the_same_expert_are_an_error(values: list[str], message: str):
    with pytest.raises(UserError, match=message):
        ExpertOption.parse("--weights", values)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("random:x", "has no valid seed"),
        ("random", "has no valid seed"),
        ("random:" + 5000 * "9", "has no valid seed"),
        ("hub:nothing", "is not a hub file"),
        ("published", "No weights of dlinear are published"),
        ("/no/such/file.pth", "Weights '/no/such/file.pth' for dlinear do not exist"),
    ],
)
def test_invalid_or_unavailable_weights_are_an_error(choice: str, message: str):
    with pytest.raises(UserError, match=message):
        find_weights("dlinear", choice, None)


def test_weights_are_not_downloaded_without_fetch(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    published = HubFile("AutonLab/nothing", "model.safetensors")
    with pytest.raises(UserError, match=r"AutonLab/nothing/model\.safetensors, .* is not cached"):
        find_weights("moment", "published", published, fetch=False)


def test_checkpoint_is_read_from_safetensors_and_torch_files(tmp_path: Path):
    tensors = nn.Linear(3, 2).state_dict()
    save_file(tensors, tmp_path / "a.safetensors")
    torch.save(tensors, tmp_path / "b.pth")
    torch.save({"state_dict": tensors, "epoch": 3}, tmp_path / "c.pth")
    for name in ("a.safetensors", "b.pth", "c.pth"):
        read = read_checkpoint(tmp_path / name)
        assert {key: value.shape for key, value in read.items()} == {"weight": (2, 3), "bias": (2,)}


class ExecutesCode:
    def __reduce__(self):
        return print, ("code was executed",)


def test_file_that_would_execute_code_is_rejected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    torch.save({"weight": ExecutesCode()}, tmp_path / "bad.pth")
    with pytest.raises(UserError, match="may execute code"):
        read_checkpoint(tmp_path / "bad.pth")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["truncated.safetensors", "truncated.pth"])
def test_truncated_file_is_rejected(tmp_path: Path, name: str):
    path = tmp_path / name
    tensors = {"weight": torch.zeros(100, 100)}
    save_file(tensors, path) if path.suffix == ".safetensors" else torch.save(tensors, path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UserError, match=name):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bias": None}, r"1 missing keys \(bias\)"),
        ({"gain": torch.zeros(1)}, r"1 unexpected keys \(gain\)"),
        ({"weight": torch.zeros(2, 4)}, r"weight \(2, 4\) instead of \(2, 3\)"),
    ],
)
def test_mismatched_keys_and_shapes_are_named(change, message: str):
    tensors = nn.Linear(3, 2).state_dict() | change
    given = {key: value for key, value in tensors.items() if value is not None}
    with pytest.raises(UserError, match=message):
        load_strict(nn.Linear(3, 2), given, Path("x.pth"))


def test_model_digest_depends_only_on_weights():
    model = nn.Linear(3, 2)
    before = model_sha256(model)
    assert model_sha256(model.requires_grad_(False).eval()) == before
    with torch.no_grad():
        model.weight[0, 0] += 1e-6
    assert model_sha256(model) != before


def test_file_digest_is_cached_until_the_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("enecg.experts.digests.SMALL_FILE_BYTES", 0)
    path = tmp_path / "a.pth"
    path.write_bytes(b"one")
    first = file_sha256(path)
    assert first == hashlib.sha256(b"one").hexdigest()
    with monkeypatch.context() as patch:
        patch.setattr("hashlib.file_digest", None)
        assert file_sha256(path) == first
    path.write_bytes(b"other")
    assert file_sha256(path) == hashlib.sha256(b"other").hexdigest()


def test_digests_that_are_computed_at_the_same_time_are_all_cached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("enecg.experts.digests.SMALL_FILE_BYTES", 0)
    paths = [tmp_path / str(number) for number in range(8)]
    for path in paths:
        path.write_bytes(path.name.encode())
    compute, barrier = hashlib.file_digest, threading.Barrier(len(paths))

    def compute_together(*arguments):
        barrier.wait()  # until all threads have read the cache and none has written to it
        return compute(*arguments)

    with monkeypatch.context() as patch, ThreadPoolExecutor(len(paths)) as threads:
        patch.setattr(hashlib, "file_digest", compute_together)
        digests = list(threads.map(file_sha256, paths))
    monkeypatch.setattr(hashlib, "file_digest", lambda *_: pytest.fail("not cached"))
    assert [file_sha256(path) for path in paths] == digests


class _Hub(BaseHTTPRequestHandler):
    """A server with one repository and the headers of the Hugging Face Hub."""

    files: ClassVar = {"weights.safetensors": b"tensors", "config.json": b"{}"}
    requests: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        self.requests.append(self.path)
        name = self.path.rpartition("/")[2]
        if name not in self.files:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("X-Repo-Commit", "c" * 40)
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha256(self.files[name]).hexdigest()}"')
        self.send_header("X-Repo-Commit", "c" * 40)
        self.send_header("Content-Length", str(len(self.files[name])))
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(self.files[self.path.rpartition("/")[2]])

    def log_message(self, *_: object) -> None:
        pass


FETCH = """
import sys
from enecg.experts.weights import HubFile, find_weights
published = HubFile("lab/model", "weights.safetensors", companions=("config.json", "absent.json"))
for choice in sys.argv[1:]:
    print(find_weights("mine", choice, published).path)
"""


def test_weights_and_companions_from_a_mirror_are_available_offline(tmp_path: Path):
    revisions = {"published": "main", "hub:lab/model@v2/weights.safetensors": "v2"}
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
    _Hub.requests.clear()
    environment = os.environ | {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HOME": str(tmp_path),
        "HF_HUB_DISABLE_XET": "1",
        "no_proxy": "127.0.0.1",
    }

    def fetch(*choices: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", FETCH, *choices],
            env=environment | variables,
            capture_output=True,
            text=True,
            check=False,
        )

    try:
        first = fetch(*revisions)
        assert first.returncode == 0, first.stderr
        paths = [Path(line) for line in first.stdout.splitlines()]
        assert len(paths) == 2
        for path, revision in zip(paths, revisions.values(), strict=True):
            assert path.read_bytes() == b"tensors"
            assert (path.parent / "config.json").read_bytes() == b"{}"
            assert f"/lab/model/resolve/{revision}/weights.safetensors" in _Hub.requests
    finally:
        server.shutdown()
        server.server_close()
    assert fetch(*revisions, HF_HUB_OFFLINE="1").stdout == first.stdout
    # The configuration determines the model, so weights without it are incomplete.
    (paths[0].parent / "config.json").unlink()
    incomplete = fetch("published", HF_HUB_OFFLINE="1")
    assert incomplete.returncode == 1
    assert "lab/model/config.json, which the weights of mine require, is not" in incomplete.stderr
