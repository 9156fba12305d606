"""MOMENT against momentfm itself, on a checkpoint that momentfm writes, and its conformance."""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from conformance.expert_tests import ExpertTests, make_ecgs
from momentfm import MOMENTPipeline
from safetensors.torch import load_file, save_file

from enecg.errors import UserError
from enecg.experts import Expert, FrozenExpert, load_expert, moment
from enecg.signal import resample

TINY = {"d_model": 32, "d_ff": 48, "num_heads": 2, "num_layers": 2}


@pytest.fixture(scope="module", autouse=True)
def tiny() -> Iterator[None]:
    """MOMENT-1-small with the sizes of a toy: the code is the same for every size."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(moment._T5_SIZES, "small", TINY)
        yield


# momentfm warns whenever a head is not the pretrained one.
pytestmark = pytest.mark.filterwarnings("ignore:Only reconstruction head is pre-trained")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, tiny: None) -> Path:
    """A folder as on the hub, written by momentfm: config.json and model.safetensors."""
    config = moment._config("small") | {
        "task_name": "reconstruction",
        "d_model": None,
        "transformer_backbone": "google/flan-t5-small",
        "enable_gradient_checkpointing": False,
    }
    torch.manual_seed(3)
    model = MOMENTPipeline(config, model_kwargs={"task_name": "reconstruction"})
    folder = tmp_path_factory.mktemp("hub")
    model.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_it_computes_what_momentfm_computes(published: Path):
    source = MOMENTPipeline.from_pretrained(
        str(published), model_kwargs={"task_name": "embedding"}, local_files_only=True
    )
    source.init()
    source.eval()
    ecgs = make_ecgs(3)
    with torch.inference_mode():
        theirs = source(x_enc=resample(ecgs, moment.STEPS)).embeddings
        ours = load_expert("moment", str(published), "mean").embed(ecgs)
    assert ours.shape == (3, TINY["d_model"] + 24)
    torch.testing.assert_close(ours[:, : TINY["d_model"]], theirs, rtol=0, atol=1e-5)


def test_the_file_and_its_folder_are_the_same_weights(published: Path):
    folder, file = (
        load_expert("moment", str(p)) for p in (published, published / "model.safetensors")
    )
    assert folder.spec == file.spec
    assert folder.spec.weights == "checkpoint"


def test_windows_are_read_one_by_one(published: Path):
    ecgs = make_ecgs(2)
    other = ecgs.clone()
    other[:, :, 2500:] = other[:, :, 2500:].flip(-1)
    windowed = load_expert("moment-windows", str(published))
    assert isinstance(windowed, FrozenExpert)
    with torch.inference_mode():
        one, two = (windowed.states(each) for each in (ecgs, other))
    assert one.shape == (2, 12, 4 * 64, TINY["d_model"])
    torch.testing.assert_close(one[:, :, :128], two[:, :, :128])
    assert (one[:, :, 128:] - two[:, :, 128:]).abs().max() > 0.1


def test_a_checkpoint_of_another_size_is_refused(published: Path):
    with pytest.raises(UserError, match="width 32, but MOMENT-1-base has 768"):
        load_expert("moment-base", str(published))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"encoder.final_layer_norm.weight": None}, r"1 keys missing \(encoder.final_layer_norm"),
        ({"more": torch.zeros(1)}, r"1 keys unexpected \(more\)"),
        ({"patch_embedding.value_embedding.weight": torch.zeros(3, 3)}, r"\(3, 3\) instead of"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(
    change: dict[str, torch.Tensor | None], words: str, published: Path, tmp_path: Path
):
    tensors = load_file(published / "model.safetensors") | change
    whole = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    save_file(whole, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=words):
        load_expert("moment", str(tmp_path))


def test_a_cut_checkpoint_is_refused(published: Path, tmp_path: Path):
    cut = tmp_path / "model.safetensors"
    cut.write_bytes((published / "model.safetensors").read_bytes()[:5000])
    with pytest.raises(UserError, match="is no whole safetensors file"):
        load_expert("moment", str(cut))


def test_without_momentfm_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "momentfm.models.moment", None)
    with pytest.raises(UserError, match="pip install --no-deps momentfm"):
        load_expert("moment", "random:0")


@pytest.fixture(scope="module")
def expert() -> Expert:
    return load_expert("moment", "random:0")


@pytest.fixture(scope="module")
def others(published: Path) -> Sequence[Expert]:
    return [
        load_expert("moment", "random:1"),
        load_expert("moment", "random:0", "segments"),
        load_expert("moment-windows", "random:0"),
        load_expert("moment", str(published)),
    ]


class TestMomentConforms(ExpertTests):
    pass
