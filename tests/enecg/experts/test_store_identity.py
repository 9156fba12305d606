"""Store identities of all experts are pinned: a changed identity invalidates existing stores."""

from unittest import mock

import pytest
import torch

from enecg.experts import ExpertSpec, Weights, get_definition, load_expert, registry
from enecg.leads import LeadsSample
from enecg.names import LEADS_SAMPLE
from pipeline.extraction.request import provenance
from stores.identity import compute_identity

WITHOUT_WEIGHTS = {
    "dlinear": "49bfac4ab0ad58cd",
    "timesnet": "c8089cd1c21bd469",
    "moment": "1effdba7da9abc96",
    "moment-base": "e820a48d827fa572",
    "moment-large": "a5627f157bb190b9",
    "moment-windows": "66c76dc593da8394",
    "moment-base-windows": "8456e56f9d253159",
    "moment-large-windows": "fc9d11e285e4c79d",
    "tempo": "511f55870972e395",
    "ecg-fm": "4715f93c7fbb0211",
    "leads": "1ed84f4aa7dee2a5",
}
"""Identities with `random:0`, without the SHA-256 of the drawn weights."""

SMALL = {
    "dlinear": "07cb0cb2658c08d7",
    "timesnet": "a7da92f0a5614497",
    "moment": "a1370375be797c74",
    "moment-windows": "eb0bfb37d718d87b",
}
LARGE = {
    "moment-base": "47217fd1988cf189",
    "moment-large": "ed901304e9c1d6fa",
    "tempo": "da721b0df3eacc74",
    "ecg-fm": "f02352c5548752f2",
}
"""Identities with `random:0`.

They also change if a release of torch, transformers or momentfm initializes weights differently.
"""

needs_avx2 = pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"),
    reason="without AVX2, torch draws other random numbers from the same seed",
)


def identify(spec: ExpertSpec) -> str:
    return compute_identity(provenance(spec, "ludb/1.0.1", "float16"))


def check(name: str, spec: ExpertSpec, expected: str) -> None:
    assert identify(spec) == expected, (
        f"The store identity of {name} changed, so that all of its stores would be recomputed. If "
        "its numbers were meant to change, raise its code_version (DECODE_VERSION for decoding) "
        "and update the identity here. Otherwise undo the change."
    )


def spec_without_weights(name: str) -> ExpertSpec:
    """Build the default spec of an expert on the meta device, without drawing weights."""
    if name == LEADS_SAMPLE:
        return LeadsSample.spec
    definition = get_definition(name)
    with torch.device("meta"), mock.patch("enecg.experts.base.model_sha256", return_value=""):
        return definition.build(definition, Weights(seed=0), definition.pooling).spec


@pytest.mark.parametrize("name", [*registry._BUILT_IN, LEADS_SAMPLE])
def test_identity_without_weights_is_pinned(name: str):
    check(name, spec_without_weights(name), WITHOUT_WEIGHTS.get(name, "not pinned"))


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
