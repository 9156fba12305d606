"""Experts that compute matrix products and convolutions in a lower precision."""

import json
from pathlib import Path

import pytest
import torch

from enecg.errors import UserError
from enecg.experts import load_expert
from pipeline.extract import extract
from pipeline.extraction.options import ExtractOptions
from pipeline.extraction.request import StoreSelection, extract_command, provenance
from pipeline.training.store_selection import open_cache

EPSILON = {"bfloat16": 2**-8, "float16": 2**-11}


def random_walks(count: int) -> torch.Tensor:
    """Return random walks, (count, 12, 5000) in mV."""
    generator = torch.Generator().manual_seed(0)
    return 0.01 * torch.randn(count, 12, 5000, generator=generator).cumsum(-1)


@pytest.mark.parametrize(
    "name", ["dlinear", "timesnet", pytest.param("moment", marks=pytest.mark.slow)]
)
def test_lower_precision_changes_an_embedding_by_a_few_rounding_errors(name: str):
    ecg = random_walks(1)
    with torch.inference_mode():
        exact = load_expert(name, "random:0").embed(ecg)
        for precision, epsilon in EPSILON.items():
            rounded = load_expert(name, "random:0", precision=precision).embed(ecg)
            error = float((rounded - exact).norm() / exact.norm())
            assert rounded.dtype == torch.float32
            assert 0 < error < 4 * epsilon, precision


@pytest.mark.parametrize("precision", EPSILON)
def test_embedding_does_not_depend_on_the_batch(precision: str):
    ecg = random_walks(3)
    expert = load_expert("dlinear", "random:0", precision=precision)
    together = expert.embed(ecg)
    for position in range(3):
        alone = expert.embed(ecg[position : position + 1])[0]
        torch.testing.assert_close(
            together[position], alone, rtol=2 * EPSILON[precision], atol=1e-3
        )


def test_precision_is_part_of_the_identity_unless_it_is_float32():
    specs = {
        precision: load_expert("dlinear", "random:0", precision=precision).spec
        for precision in ("float32", *EPSILON)
    }
    documents = {name: provenance(spec, "ludb/1.0.1", "float16") for name, spec in specs.items()}
    assert "precision" not in documents["float32"]
    for precision in EPSILON:
        assert documents[precision] == {**documents["float32"], "precision": precision}


def test_unknown_precision_is_a_user_error():
    with pytest.raises(UserError, match="Unknown precision 'int8' of dlinear; available: float32"):
        load_expert("dlinear", "random:0", precision="int8")


def test_stores_are_selected_by_precision(synthetic_dir: Path, tmp_path: Path):
    dataset = f"mimic-iv-ecg:{synthetic_dir}"
    options = ExtractOptions(
        weights=("random:0",), precision=("dlinear@bfloat16",), device="cpu", limit=6
    )
    summary = extract(dataset, tmp_path, ["dlinear"], options=options)
    document = json.loads((summary.stores[0] / "zarr.json").read() or b"")
    namespace = document["attributes"]["provenance"]["dataset"]
    selection = StoreSelection(("dlinear",), ("random:0",))
    with pytest.raises(UserError, match="has no float16 embeddings of dlinear"):
        open_cache(tmp_path, namespace, selection)
    lower = StoreSelection(("dlinear",), ("random:0",), precision=("bfloat16",))
    assert open_cache(tmp_path, namespace, lower).experts["dlinear"].location == summary.stores[0]
    assert "--precision bfloat16" in extract_command(dataset, tmp_path, lower)
    assert "--precision" not in extract_command(dataset, tmp_path, selection)
