"""Store identities of all experts are pinned: a changed identity invalidates existing stores."""

from unittest import mock

import pytest
import torch

from enecg.experts import ExpertSpec, Weights, get_definition, list_experts, load_expert
from enecg.leads import LeadsSample
from pipeline.extraction.request import provenance
from stores.identity import compute_identity

WITHOUT_WEIGHTS = {
    "dlinear": "a14ca45156dce5e2",
    "timesnet": "796849205e712408",
    "moment": "1e6524268a95aa24",
    "moment-base": "6e8a8832dee0edc4",
    "moment-large": "44446280927fc2cc",
    "moment-windows": "5da9ce4990fcd3a3",
    "moment-base-windows": "b9b18c855fdfcb85",
    "moment-large-windows": "2f2fe5843bc85d95",
    "tempo": "581f585335cf0848",
    "ecg-fm": "329cbf7f5f387218",
    "leads": "5f99adcafb5fea07",
}
"""Identities with `random:0`, without the SHA-256 of the drawn weights."""

SMALL = {
    "dlinear": "646f23a493a3c5ef",
    "timesnet": "da72b08e9de317e4",
    "moment": "be09f89b5bb86b48",
    "moment-windows": "cfd4bd9a35ed7d37",
}
LARGE = {
    "moment-base": "c32aaf1293351607",
    "moment-large": "c73177e1c14ce4b5",
    "tempo": "e3224d9bbe9f2a77",
    "ecg-fm": "8927307c44d62fd4",
}
"""Full identities with `random:0`."""

needs_avx2 = pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"),
    reason="without AVX2, torch draws other random numbers from the same seed",
)


def identify(spec: ExpertSpec) -> str:
    return compute_identity(provenance(spec, "ludb/1.0.1", "float16"))


def check(name: str, spec: ExpertSpec, expected: str) -> None:
    assert identify(spec) == expected, (
        f"The store identity of {name} changed, so every existing store of it would be computed "
        "again. If its numbers were meant to change, raise its code_version and update the "
        "identity here; otherwise undo the change."
    )


def spec_without_weights(name: str) -> ExpertSpec:
    """The default spec of an expert, built on the meta device: no weights are drawn."""
    if name == "leads":
        return LeadsSample.spec
    definition = get_definition(name)
    with torch.device("meta"), mock.patch("enecg.experts.base.model_sha256", return_value=""):
        return definition.build(definition, Weights(seed=0), definition.pooling).spec


@pytest.mark.parametrize("name", [*list_experts(), "leads"])
def test_identity_without_weights_is_pinned(name: str):
    check(name, spec_without_weights(name), WITHOUT_WEIGHTS[name])


@needs_avx2
@pytest.mark.parametrize("name", SMALL)
def test_identity_with_random_weights_is_pinned(name: str):
    check(name, load_expert(name, "random:0").spec, SMALL[name])


@needs_avx2
@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_identity_of_a_large_expert_with_random_weights_is_pinned(name: str):
    check(name, load_expert(name, "random:0").spec, LARGE[name])


@pytest.mark.parametrize("name", ["dlinear", "timesnet"])
def test_random_weights_do_not_depend_on_the_number_of_threads(name: str):
    threads = torch.get_num_threads()
    specs = []
    for count in (1, 4):
        torch.set_num_threads(count)
        specs.append(load_expert(name, "random:0").spec)
    torch.set_num_threads(threads)
    assert specs[0] == specs[1]
