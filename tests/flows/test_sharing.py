"""Sharing of stores: card, Croissant metadata, and the hub's client with a hub on loopback."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hub import serve_hub
from markdown_it import MarkdownIt
from quick_runs import copy_stores

from pipeline.report.store_card import SharedStore, build_card
from stores.opening import open_stores
from stores.status import WHOLE

URL = "https://huggingface.co/datasets/lab/ecg"


@pytest.fixture(scope="module")
def root(synthetic_stores: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_stores(synthetic_stores, tmp_path_factory.mktemp("stores"), "dlinear")


def test_card_names_weights_and_stores(root: Path, run_enecg):
    done = run_enecg("store", "card", root, "--name", "ECGs", "--license", "odbl", "--url", URL)
    assert done.code == 0
    assert done.out_lines == [f"Wrote {root / 'README.md'}.", f"Wrote {root / 'croissant.json'}."]
    text = (root / "README.md").read_text()
    assert text.startswith('---\nlicense: "odbl"\n')
    assert "**Untrained weights:** dlinear." in text
    croissant = json.loads((root / "croissant.json").read_text())
    paths = [file["includes"].removesuffix("/**") for file in croissant["distribution"][1:]]
    assert len(paths) == 2
    for path in paths:
        assert (root / path / "zarr.json").is_file()
        assert path in text
    assert run_enecg("store", "ls", root).code == 0


def test_folder_without_stores_is_an_error(tmp_path: Path, run_enecg):
    done = run_enecg("store", "card", tmp_path, "--name", "x", "--license", "x", "--url", URL)
    assert done.code == 2
    assert "contains no stores" in done.err


@pytest.mark.parametrize(
    ("license_name", "url", "message"),
    [
        ("CC BY 4.0", URL, "--license 'CC BY 4.0' is not a license identifier of the hub"),
        ("ODbL", URL, "--license 'ODbL' is not a license identifier of the hub"),
        ("odbl", "lab/ecg", "--url 'lab/ecg' is not an address"),
    ],
)
def test_invalid_licenses_and_addresses_are_errors(
    license_name: str, url: str, message: str, tmp_path: Path, run_enecg
):
    arguments = ("--name", "x", "--license", license_name, "--url", url)
    done = run_enecg("store", "card", tmp_path, *arguments)
    assert done.code == 2
    assert message in done.err


@pytest.mark.hostile
def test_names_in_a_card_are_not_interpreted_as_markup():
    hostile = "<img src=x> ![x](https://host/x)\n# a"
    provenance = {"expert": hostile, "weights": f"random:0 {hostile}", "pooling": hostile}
    card = build_card([SharedStore(hostile, provenance, 1, 1, 1)], hostile, hostile)
    front, body = card.split("\n---\n", 1)
    assert len(front.splitlines()) == 4
    tokens = MarkdownIt("commonmark").enable("table").parse(body)
    inline = [child for token in tokens for child in token.children or ()]
    assert not {"html_inline", "image", "link_open"} & {child.type for child in inline}
    assert [token.type for token in tokens].count("heading_open") == 1


SHARE = """
from huggingface_hub import HfApi, snapshot_download
api = HfApi(token="hf_test")
api.create_repo("lab/ecg", repo_type="dataset", private=True, exist_ok=True)
api.upload_folder(
    repo_id="lab/ecg",
    repo_type="dataset",
    folder_path={root!r},
    ignore_patterns=["*/leases/*", "*/runs/*"],
)
snapshot_download("lab/ecg", repo_type="dataset", local_dir={copy!r}, token="hf_test")
"""


def test_hub_client_uploads_and_downloads_stores(root: Path, tmp_path: Path, run_enecg):
    card = run_enecg("store", "card", root, "--name", "ECGs", "--license", "odbl", "--url", URL)
    assert card.code == 0
    with serve_hub() as hub:
        variables = {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "home")}
        code = SHARE.format(root=str(root), copy=str(tmp_path / "copy"))
        # The client reads the address of the hub when it is imported.
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, **variables}, check=True, timeout=60
        )
        assert hub.files.keys() >= {"README.md", "croissant.json"}
        assert not [name for name in hub.files if "/leases/" in name or "/runs/" in name]
    verified = run_enecg("store", "verify", tmp_path / "copy")
    assert verified.code == 0
    assert verified.out.count("intact") == 2
    for one, other in zip(
        open_stores(root).stores, open_stores(tmp_path / "copy").stores, strict=True
    ):
        assert one.identity == other.identity
        rows = np.flatnonzero(one.status() == WHOLE)
        np.testing.assert_array_equal(one.read(rows), other.read(rows))
