"""MOMENT, compared with momentfm on a checkpoint written by momentfm."""

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
    """Reduce the sizes of MOMENT-1-small; the code does not depend on them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(moment.T5_SIZES, "small", TINY)
        yield


# momentfm warns about tasks other than reconstruction, whose heads are not pretrained.
pytestmark = pytest.mark.filterwarnings("ignore:Only reconstruction head is pre-trained")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, tiny: None) -> Path:
    """A folder as on the hub, with config.json and model.safetensors written by momentfm."""
    config = moment._default_config("small") | {
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


def test_embeddings_equal_those_of_momentfm(published: Path):
    source = MOMENTPipeline.from_pretrained(
        str(published), model_kwargs={"task_name": "embedding"}, local_files_only=True
    )
    source.init()
    source.eval()
    ecgs = make_ecgs(3)
    with torch.inference_mode():
        expected = source(x_enc=resample(ecgs, moment.STEPS)).embeddings
        actual = load_expert("moment", str(published), "mean").embed(ecgs)
    assert actual.shape == (3, TINY["d_model"] + 24)
    torch.testing.assert_close(actual[:, : TINY["d_model"]], expected, rtol=0, atol=1e-5)


def test_file_and_its_folder_have_the_same_spec(published: Path):
    folder, file = (
        load_expert("moment", str(p)) for p in (published, published / "model.safetensors")
    )
    assert folder.spec == file.spec
    assert folder.spec.weights == "checkpoint"


def test_windows_are_processed_independently(published: Path):
    ecgs = make_ecgs(2)
    changed = ecgs.clone()
    changed[:, :, 2500:] = changed[:, :, 2500:].flip(-1)
    windowed = load_expert("moment-windows", str(published))
    assert isinstance(windowed, FrozenExpert)
    with torch.inference_mode():
        before, after = (windowed.states(records) for records in (ecgs, changed))
    assert before.shape == (2, 12, 4 * 64, TINY["d_model"])
    torch.testing.assert_close(before[:, :, :128], after[:, :, :128])
    assert (before[:, :, 128:] - after[:, :, 128:]).abs().max() > 0.1


def test_checkpoint_of_another_size_is_rejected(published: Path):
    with pytest.raises(UserError, match="width 32, but MOMENT-1-base has 768"):
        load_expert("moment-base", str(published))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder.final_layer_norm.weight": None}, r"1 missing keys \(encoder.final_layer_norm"),
        ({"more": torch.zeros(1)}, r"1 unexpected keys \(more\)"),
        ({"patch_embedding.value_embedding.weight": torch.zeros(3, 3)}, r"\(3, 3\) instead of"),
    ],
)
def test_mismatched_checkpoint_is_rejected(
    change: dict[str, torch.Tensor | None], message: str, published: Path, tmp_path: Path
):
    tensors = load_file(published / "model.safetensors") | change
    changed = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    save_file(changed, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=message):
        load_expert("moment", str(tmp_path))


def test_truncated_checkpoint_is_rejected(published: Path, tmp_path: Path):
    truncated = tmp_path / "model.safetensors"
    truncated.write_bytes((published / "model.safetensors").read_bytes()[:5000])
    with pytest.raises(UserError, match="is not a valid safetensors file"):
        load_expert("moment", str(truncated))


def test_missing_momentfm_is_reported_with_the_install_command(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "momentfm.models.moment", None)
    with pytest.raises(UserError, match="pip install --no-deps momentfm"):
        load_expert("moment", "random:0")


@pytest.fixture(scope="module")
def expert() -> Expert:
    return load_expert("moment", "random:0")


@pytest.fixture(scope="module")
def variants(published: Path) -> Sequence[Expert]:
    return [
        load_expert("moment", "random:1"),
        load_expert("moment", "random:0", "segments"),
        load_expert("moment-windows", "random:0"),
        load_expert("moment", str(published)),
    ]


class TestMomentConforms(ExpertTests):
    pass
