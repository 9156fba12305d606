"""Pinned store identities of all experts; existing stores are not used if an identity changes."""

import os
import subprocess
import sys
from unittest import mock

import pytest
import torch

from enecg.experts import ExpertSpec, Weights, get_definition, load_expert, registry
from enecg.leads import LeadsSample
from enecg.names import LEADS_SAMPLE
from pipeline.extraction.request import provenance
from stores.identity import compute_identity

WITHOUT_WEIGHTS = {
    "dlinear": "572ee56dccca8d89",
    "timesnet": "1b8e1eb435694321",
    "moment": "17416b98c71b73bf",
    "moment-base": "613327da10712d2e",
    "moment-large": "ee4d4b8ed52996d5",
    "moment-windows": "59e6c8c124526f59",
    "moment-base-windows": "a813bd3275811b76",
    "moment-large-windows": "f8c3fc5f06c44563",
    "tempo": "461a5fb11abe80eb",
    "ecg-fm": "79dedb1f4e57bf99",
    "ecgfounder": "9a6c4d2aea06889d",
    "ecg-jepa": "b660c963c280bb27",
    "measurements": "78d7407906b9e6b8",
    "leads": "d721e779dd81b81b",
}
"""Identities with `random:0`, without the SHA-256 of the randomly initialized weights."""

SMALL = {
    "dlinear": "f921d990ec97907c",
    "timesnet": "156f752251333b05",
    "moment": "ee000a01f80587d5",
    "moment-windows": "ea5e512fcef58c7a",
    "ecgfounder": "e4ae1d76d420a63a",
}
LARGE = {
    "moment-base": "182b04a8ee1ddc1f",
    "moment-large": "891ade01d04f6866",
    "tempo": "ec5e63ee9c0e76e7",
    "ecg-fm": "e72d4e05451e97a9",
    "ecg-jepa": "e95e3ed8d2ef5679",
}
"""Identities of small and large experts with `random:0`, with the SHA-256 of the weights.

They also change if a release of torch, transformers or momentfm initializes weights differently.
"""

needs_avx2 = pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"),
    reason="without AVX2, torch generates other random numbers from the same seed",
)


def identify(spec: ExpertSpec) -> str:
    return compute_identity(provenance(spec, "ludb/1.0.1", "float16"))


def check(name: str, spec: ExpertSpec, expected: str | None) -> None:
    identity = identify(spec)
    assert expected is not None, (
        f"The store identity of {name} is not pinned yet; add {identity!r} to this file."
    )
    assert identity == expected, (
        f"The store identity of {name} changed, so all stores of this expert would be recomputed. "
        "If its embeddings were meant to change, increase its code_version (or DECODE_VERSION if "
        "the decoding changed), and update the identity in this file. Otherwise, undo the change."
    )


def spec_without_weights(name: str) -> ExpertSpec:
    """Build the default spec of an expert on the meta device, without initializing weights."""
    if name == LEADS_SAMPLE:
        return LeadsSample.spec
    definition = get_definition(name)
    with torch.device("meta"), mock.patch("enecg.experts.definition.model_sha256", return_value=""):
        return definition.build(definition, Weights(seed=0), definition.pooling).spec


@pytest.mark.parametrize("name", [*registry._BUILT_IN, LEADS_SAMPLE])
def test_identity_without_weights_is_pinned(name: str):
    check(name, spec_without_weights(name), WITHOUT_WEIGHTS.get(name))


@needs_avx2
@pytest.mark.parametrize("name", SMALL)
def test_identity_with_random_weights_is_pinned(name: str):
    check(name, load_expert(name, "random:0").spec, SMALL[name])


@needs_avx2
@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_identity_of_a_large_expert_with_random_weights_is_pinned(name: str):
    check(name, load_expert(name, "random:0").spec, LARGE[name])


@pytest.mark.parametrize("name", ["dlinear", "timesnet", "ecgfounder"])
def test_random_weights_do_not_depend_on_the_number_of_threads(name: str):
    threads = torch.get_num_threads()
    specs = []
    for count in (1, 4):
        torch.set_num_threads(count)
        specs.append(load_expert(name, "random:0").spec)
    torch.set_num_threads(threads)
    assert specs[0] == specs[1]


@pytest.mark.slow
def test_random_weights_of_moment_do_not_depend_on_the_code_branch_of_mkl():
    # MKL's functions and factorizations differ between CPUs in their last bits.
    program = (
        "from enecg.experts import load_expert\n"
        "print(load_expert('moment', 'random:0').spec.weights_sha256)"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"MKL_CBWR": branch},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for branch in ("COMPATIBLE", "AUTO")
    }
    assert len(found) == 1


@needs_avx2
@pytest.mark.slow
@pytest.mark.parametrize("name", ["ecgfounder", "ecg-jepa"])
def test_weights_drawn_in_float64_do_not_depend_on_vector_instructions(name: str):
    program = (
        "import sys\n"
        "from enecg.experts import load_expert\n"
        "print(load_expert(sys.argv[1], 'random:0').spec.weights_sha256)"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program, name],
            env=os.environ | {"ATEN_CPU_CAPABILITY": capability},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for capability in ("default", "avx2")
    }
    assert len(found) == 1
