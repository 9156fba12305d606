from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from enecg.errors import UserError
from enecg.experts.weights import WeightsChoice, digest, fill, find, read_checkpoint


def test_one_choice_for_all_and_others_for_single_experts():
    choice = WeightsChoice.parse(["random:0", "moment@published", "tempo@/a/b.pth"])
    assert choice.choice("dlinear") == "random:0"
    assert choice.choice("moment") == "published"
    assert choice.choice("tempo") == "/a/b.pth"
    assert WeightsChoice.parse([]).choice("moment") == "published"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["random:0", "published"], "2 choices for all experts"),
        (["moment@random:0", "moment@random:1"], "names 'moment' twice"),
    ],
)
def test_two_choices_for_the_same_are_refused(options: list[str], words: str):
    with pytest.raises(UserError, match=words):
        WeightsChoice.parse(options)


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ("random:x", "no seed"),
        ("published", "No weights of dlinear are published"),
        ("/no/such/file.pth", "There are no weights at '/no/such/file.pth'"),
    ],
)
def test_weights_that_cannot_be_had_are_told_with_the_remedy(choice: str, words: str):
    with pytest.raises(UserError, match=words):
        find("dlinear", choice, None)


def test_published_weights_that_are_not_here_are_not_fetched_in_training(
    tmp_path: Path, monkeypatch
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match="are not on this machine"):
        find("moment", "published", ("AutonLab/nothing", "model.safetensors"), fetch=False)


def test_a_checkpoint_is_read_in_either_format(tmp_path: Path):
    tensors = nn.Linear(3, 2).state_dict()
    save_file(tensors, tmp_path / "a.safetensors")
    torch.save(tensors, tmp_path / "b.pth")
    torch.save({"state_dict": tensors, "epoch": 3}, tmp_path / "c.pth")
    for name in ("a.safetensors", "b.pth", "c.pth"):
        read = read_checkpoint(tmp_path / name)
        assert {key: value.shape for key, value in read.items()} == {"weight": (2, 3), "bias": (2,)}


class Surprise:
    def __reduce__(self):
        return print, ("code was run",)


def test_a_file_that_would_run_code_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    torch.save({"weight": Surprise()}, tmp_path / "bad.pth")
    with pytest.raises(UserError, match="would run code"):
        read_checkpoint(tmp_path / "bad.pth")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["cut.safetensors", "cut.pth"])
def test_a_truncated_file_is_refused(tmp_path: Path, name: str):
    path = tmp_path / name
    tensors = {"weight": torch.zeros(100, 100)}
    save_file(tensors, path) if path.suffix == ".safetensors" else torch.save(tensors, path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UserError, match=name):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"bias": None}, r"1 keys missing \(bias\)"),
        ({"gain": torch.zeros(1)}, r"1 keys unexpected \(gain\)"),
        ({"weight": torch.zeros(2, 4)}, r"weight \(2, 4\) instead of \(2, 3\)"),
    ],
)
def test_a_checkpoint_that_does_not_fit_names_its_first_keys(change, words: str):
    tensors = nn.Linear(3, 2).state_dict() | change
    given = {key: value for key, value in tensors.items() if value is not None}
    with pytest.raises(UserError, match=words):
        fill(nn.Linear(3, 2), given, Path("x.pth"))


def test_the_digest_changes_with_a_weight_and_with_nothing_else():
    model = nn.Linear(3, 2)
    before = digest(model)
    assert digest(model.requires_grad_(False).eval()) == before
    with torch.no_grad():
        model.weight[0, 0] += 1e-6
    assert digest(model) != before
