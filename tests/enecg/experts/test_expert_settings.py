"""Hyperparameters that the tensors of a checkpoint do not determine."""

import logging
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from enecg.errors import UserError
from enecg.experts import get_definition, list_experts, load_expert, parse_expert_settings
from enecg.experts.dlinear import DLinear
from enecg.experts.timesnet import TimesNet

MODELS = {"timesnet": TimesNet, "dlinear": DLinear}

SETTINGS = [
    ("timesnet", "top_k", "periods", 3, 5, 7),
    ("dlinear", "moving_avg", "moving_average", 25, 25, 51),
]
"""Expert, setting, key of the architecture, default for random weights, default for a checkpoint,
and another value."""

all_settings = pytest.mark.parametrize(
    ("expert", "name", "key", "random", "assumed", "other"), SETTINGS
)


def save(expert: str, path: Path, **contents: Any) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    tensors = MODELS[expert]().state_dict()
    torch.save({"state_dict": tensors, **contents}, path)
    return tensors


def test_settings_of_all_experts_are_tested():
    known = {
        (name, setting.name, setting.architecture_key)
        for name in list_experts()
        for setting in get_definition(name).settings
    }
    assert known == {setting[:3] for setting in SETTINGS}


@all_settings
def test_default_of_the_source_is_assumed_and_logged(
    expert: str,
    name: str,
    key: str,
    random: int,
    assumed: int,
    other: int,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
):
    path = tmp_path / "a.pth"
    save(expert, path)
    assert load_expert(expert, str(path)).spec.architecture[key] == assumed
    (line,) = caplog.messages
    assert line.startswith(f"{path} does not state {name} of {expert}; assumed {assumed}")
    assert f"--expert-setting {expert}.{name}=" in line
    caplog.clear()
    assert load_expert(expert, "random:0").spec.architecture[key] == random
    assert not caplog.messages


@all_settings
@pytest.mark.parametrize("weights", ["random:0", "checkpoint"])
def test_given_value_changes_embedding_and_architecture(
    weights: str,
    expert: str,
    name: str,
    key: str,
    random: int,
    assumed: int,
    other: int,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
):
    path = tmp_path / "a.pth"
    save(expert, path)
    choice = str(path) if weights == "checkpoint" else weights
    default = load_expert(expert, choice)
    caplog.clear()
    changed = load_expert(expert, choice, settings={name: other})
    assert not caplog.messages
    assert changed.spec.architecture == {**default.spec.architecture, key: other}
    assert changed.spec.weights_sha256 == default.spec.weights_sha256
    ecg = torch.randn(1, 12, 5000, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(changed.embed(ecg), default.embed(ecg))


@all_settings
@pytest.mark.parametrize("form", ["args", "hyper_parameters", "config", "safetensors"])
def test_value_in_the_checkpoint_is_used_and_logged(
    form: str,
    expert: str,
    name: str,
    key: str,
    random: int,
    assumed: int,
    other: int,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
):
    path = tmp_path / "a.pth"
    value = Namespace(**{name: other}) if form == "args" else {name: other}
    tensors = save(expert, path, **{form: value})
    if form == "safetensors":
        save_file(tensors, path, {name: str(other)})
    with caplog.at_level(logging.INFO, "enecg"):
        assert load_expert(expert, str(path)).spec.architecture[key] == other
    assert caplog.messages == [f"{path}: {name} = {other}, as stated in the checkpoint."]
    with pytest.raises(UserError, match=f"was trained with {name} = {other}, but"):
        load_expert(expert, str(path), settings={name: assumed})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("timesnet.top_k", "is not EXPERT.NAME=VALUE"),
        ("top_k=5", "is not EXPERT.NAME=VALUE"),
        ("timesnet.=5", "is not EXPERT.NAME=VALUE"),
        ("timesnet.top_k=", "is not EXPERT.NAME=VALUE"),
        ("moment.top_k=5", "'moment', which is not one of "),
        ("timesnet.kernel=5", "timesnet has no setting 'kernel'; available: top_k"),
        ("tempo.top_k=5", "tempo has no setting 'top_k'; available: none"),
        ("timesnet.top_k=0", "top_k = 0 is not an integer from 1 to 250"),
        ("timesnet.top_k=251", "top_k = 251 is not an integer from 1 to 250"),
        ("timesnet.top_k=-1", "is not an integer"),
        ("timesnet.top_k=2.5", "is not an integer"),
        ("timesnet.top_k=five", "is not an integer"),
        ("timesnet.top_k=" + 5000 * "9", "is not an integer"),
        ("dlinear.moving_avg=24", "is not an odd integer"),
        ("dlinear.moving_avg=501", "is not an odd integer from 1 to 499"),
    ],
)
def test_invalid_setting_is_an_error(text: str, expected: str):
    with pytest.raises(UserError, match=expected):
        parse_expert_settings([text], ["timesnet", "dlinear", "tempo"])


def test_setting_given_twice_is_an_error():
    with pytest.raises(UserError, match=r"sets timesnet\.top_k twice"):
        parse_expert_settings(["timesnet.top_k=5", "timesnet.top_k=6"], ["timesnet"])


def test_settings_are_parsed_by_expert():
    values = ["timesnet.top_k=5", "dlinear.moving_avg=51"]
    assert parse_expert_settings(values, ["timesnet", "dlinear"]) == {
        "timesnet": {"top_k": 5},
        "dlinear": {"moving_avg": 51},
    }
