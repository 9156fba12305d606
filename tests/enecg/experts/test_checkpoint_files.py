"""Checkpoints that are wrapped, renamed, in another format or damaged."""

import gzip
import io
import json
import logging
import pickle
import tarfile
import zipfile
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from enecg.errors import UserError
from enecg.experts import load_expert, moment
from enecg.experts.checkpoints import load_strict, read_checkpoint
from enecg.experts.dlinear import DLinear

Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def tensors() -> Tensors:
    torch.manual_seed(0)
    return DLinear().state_dict()


def error_message(path: Path, expert: str = "dlinear") -> str:
    with pytest.raises(UserError) as caught:
        load_expert(expert, str(path))
    message = str(caught.value)
    assert message.startswith(str(path.parent))
    assert message.endswith(".")
    assert "\n" not in message
    return message


def prefixed(tensors: Tensors, prefix: str) -> Tensors:
    return {prefix + key: tensor for key, tensor in tensors.items()}


PREFIXES = (
    "module.",
    "_orig_mod.",
    "model.",
    "module._orig_mod.",
    "_orig_mod.module.",
    "model.module.",
    "_fsdp_wrapped_module.",
)


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_prefixes_of_wrappers_are_removed_and_logged(
    prefix: str, suffix: str, tensors: Tensors, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    path = tmp_path / f"checkpoint{suffix}"
    wrapped = prefixed(tensors, prefix)
    save_file(wrapped, path) if suffix == ".safetensors" else torch.save(wrapped, path)
    with caplog.at_level(logging.INFO, "enecg"):
        read = read_checkpoint(path)
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[key], tensor) for key, tensor in tensors.items())
    (line,) = [line for line in caplog.messages if line.startswith(str(path))]
    assert all(f"{part}." in line for part in prefix.split(".") if part)


def test_prefix_within_keys_is_removed(tensors: Tensors, tmp_path: Path):
    inner = {key.replace(".", "._orig_mod.", 1): tensor for key, tensor in tensors.items()}
    torch.save(inner, tmp_path / "a.pth")
    assert read_checkpoint(tmp_path / "a.pth").keys() == tensors.keys()


def test_prefix_of_some_keys_is_kept(tensors: Tensors, tmp_path: Path):
    torch.save({**prefixed(tensors, "model."), "loss.weight": torch.ones(1)}, tmp_path / "a.pth")
    assert "model.Linear_Trend.bias" in read_checkpoint(tmp_path / "a.pth")


def test_model_whose_own_keys_have_a_prefix_loads(tmp_path: Path):
    model = nn.ModuleDict({"model": nn.Linear(3, 2)})
    torch.save(model.state_dict(), tmp_path / "a.pth")
    loaded = nn.ModuleDict({"model": nn.Linear(3, 2)})
    load_strict(loaded, read_checkpoint(tmp_path / "a.pth"), tmp_path / "a.pth")
    assert torch.equal(loaded.state_dict()["model.bias"], model.state_dict()["model.bias"])


@pytest.mark.parametrize(
    "contents",
    [
        lambda state: {"epoch": 3, "model_state_dict": state, "optimizer_state_dict": {}},
        lambda state: {"epoch": 3, "model": state},
        lambda state: {"state_dict": prefixed(state, "model."), "hyper_parameters": {"lr": 1}},
        lambda state: {"state_dict": state, "args": Namespace(top_k=5)},
        lambda state: {"net": state},
        lambda state: {"module": state},
    ],
)
def test_state_dict_is_found_in_training_checkpoints(
    contents: Callable[[Tensors], Any], tensors: Tensors, tmp_path: Path
):
    torch.save(contents(tensors), tmp_path / "a.pth")
    assert read_checkpoint(tmp_path / "a.pth").keys() == tensors.keys()


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt", "a.bin"])
@pytest.mark.parametrize("form", ["safetensors", "torch", "torch before 1.6"])
def test_format_is_detected_by_content(name: str, form: str, tensors: Tensors, tmp_path: Path):
    path = tmp_path / name
    if form == "safetensors":
        save_file(tensors, tmp_path / "x.safetensors")
        (tmp_path / "x.safetensors").rename(path)
    else:
        torch.save(tensors, path, _use_new_zipfile_serialization=form == "torch")
    assert read_checkpoint(path).keys() == tensors.keys()


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weights/model.safetensors", b"")


def _damaged_zip(path: Path) -> None:
    torch.save({"bias": torch.zeros(3)}, path)
    path.write_bytes(path.read_bytes().replace(b"PK\x01\x02", b"PK\x01\x00"))


def _tar(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("model.pth"), io.BytesIO())


def _write(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def _write_array(save: Callable[..., None]) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        with path.open("wb") as file:
            save(file, np.zeros(3))

    return write


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 4689536\n"
OTHER_FORMATS: dict[str, tuple[Callable[[Path], object], str]] = {
    "Git LFS pointer": (_write(LFS), "is a Git LFS pointer.*git lfs pull"),
    "HTML": (_write(b"<!DOCTYPE html><title>Sign in</title>"), "is a web page.*download it again"),
    "HTML after spaces": (_write(b"\n  <html><body>401"), "is a web page"),
    "XML": (_write(b'\xef\xbb\xbf<?xml version="1.0"?><Error/>'), "is a web page"),
    "text": (_write(b"Not Found\n"), "is a text file.*starts with 'Not Found'"),
    "JSON index": (_write(b'{"weight_map": {}}'), "is a text file.*contains the weights"),
    "empty": (_write(b""), "is empty; download it again"),
    "gzip": (_write(gzip.compress(b"tensors")), "is a gzip archive; unpack it"),
    "zip": (_zip, r"torch.save did not write \(it contains weights/model.safetensors\); unpack it"),
    "damaged zip": (_damaged_zip, "is not a valid torch checkpoint.*download it again"),
    "tar": (_tar, "is a tar archive; unpack it"),
    "HDF5": (_write(b"\x89HDF\r\n\x1a\n" + b"\0" * 100), "is an HDF5 file.*export"),
    "npy": (_write_array(np.save), "is a NumPy array; export"),
    "npz": (_write_array(np.savez), r"is a NumPy archive \(npz\); export"),
    "plain pickle": (
        _write(pickle.dumps({"bias": [1.0]})),
        "is a bare Python pickle",
    ),
    "TorchScript": (
        lambda path: torch.jit.save(torch.jit.script(nn.Linear(3, 2)), path),
        "is a TorchScript archive.*save the state_dict",
    ),
    "whole model": (
        lambda path: torch.save(nn.Linear(3, 2), path),
        r"of type torch\.nn\.modules\.linear\.Linear\).*save only its state_dict",
    ),
    "a tensor": (
        lambda path: torch.save(torch.zeros(3), path),
        "contains a Tensor instead of a state_dict",
    ),
    "only an optimizer": (
        lambda path: torch.save({"epoch": 3, "optimizer": {}}, path),
        r"contains no state_dict \(its keys: epoch, optimizer\)",
    ),
    "noise": (_write(bytes(range(255, 0, -1))), "download it again"),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("kind", OTHER_FORMATS)
def test_error_for_another_format_names_the_format_and_the_remedy(
    kind: str, suffix: str, tmp_path: Path
):
    write, expected = OTHER_FORMATS[kind]
    path = tmp_path / f"checkpoint{suffix}"
    write(path)
    with pytest.raises(UserError, match=expected):
        load_expert("dlinear", str(path))
    runs_code = kind in ("whole model", "plain pickle")
    assert ("execute code" in error_message(path)) == runs_code


@pytest.mark.parametrize("kind", ["Git LFS pointer", "HTML", "empty", "zip"])
@pytest.mark.parametrize("expert", ["timesnet", "moment", "tempo", "ecg-fm"])
def test_errors_of_other_experts_name_the_format(expert: str, kind: str, tmp_path: Path):
    write, expected = OTHER_FORMATS[kind]
    write(tmp_path / "checkpoint.pt")
    with pytest.raises(UserError, match=expected):
        load_expert(expert, str(tmp_path / "checkpoint.pt"))


@pytest.mark.parametrize(
    ("contents", "expected"),
    [
        ({"cfg": None, "args": None}, "its cfg is None instead of a dictionary, so"),
        ({"cfg": None, "args": Namespace(arch="wav2vec2")}, "None .*it has the key args"),
        ({"cfg": "{'model': {}}"}, "its cfg is a str"),
    ],
)
def test_unsupported_cfg_of_ecg_fm_is_named(
    contents: dict[str, Any], expected: str, tmp_path: Path
):
    torch.save({**contents, "model": {"mask_emb": torch.zeros(3)}}, tmp_path / "a.pt")
    with pytest.raises(UserError, match=expected):
        load_expert("ecg-fm", str(tmp_path / "a.pt"))


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(torch.full((96,), float("nan")), id="NaN"),
        pytest.param(torch.full((96,), float("inf")), id="infinity"),
        pytest.param(torch.full((96,), float("nan"), dtype=torch.float16), id="half"),
        pytest.param(torch.full((96,), 1e300, dtype=torch.float64), id="overflow"),
        pytest.param(torch.tensor([*[0.0] * 95, float("nan")]), id="one value"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_non_finite_weights_are_rejected(
    value: torch.Tensor, suffix: str, tensors: Tensors, tmp_path: Path
):
    path = tmp_path / f"checkpoint{suffix}"
    changed = tensors | {"Linear_Trend.bias": value}
    save_file(changed, path) if suffix == ".safetensors" else torch.save(changed, path)
    message = error_message(path)
    assert "1 of 4 tensors contain NaN or infinity (Linear_Trend.bias)" in message


@pytest.mark.parametrize(
    ("expert", "key"),
    [("timesnet", "layer_norm.weight"), ("dlinear", "Linear_Seasonal.weight")],
)
def test_non_finite_weights_of_timesnet_and_dlinear_are_rejected(
    expert: str, key: str, tmp_path: Path
):
    own = load_expert(expert, "random:0").model.state_dict()  # type: ignore[attr-defined]
    torch.save(own | {key: torch.full_like(own[key], float("nan"))}, tmp_path / "a.pth")
    assert f"NaN or infinity ({key})" in error_message(tmp_path / "a.pth", expert)


def test_unused_tensors_may_be_non_finite():
    model = nn.Linear(3, 2)
    load_strict(
        model,
        model.state_dict() | {"head.bias": torch.tensor([float("nan")])},
        Path("x.pth"),
        unused=("head.",),
    )


def test_timesnet_for_forecasting_is_rejected(tmp_path: Path):
    torch.save({"predict_linear.weight": torch.zeros(192, 96)}, tmp_path / "a.pth")
    assert "is a TimesNet for forecasting" in error_message(tmp_path / "a.pth", "timesnet")


T5 = moment._default_config("small")["t5_config"]
CONFIGS = {
    "[]": r"contains \[\] instead of a JSON object",
    "null": r"contains null instead of a JSON object",
    '"text"': r'contains "text" instead of a JSON object',
    "3": r"contains 3 instead of a JSON object",
    "": "is not valid JSON",
    "<html>": "is not valid JSON",
    "\udcff": "is not valid JSON",
}
MOMENT_CONFIGS = CONFIGS | {
    '{"t5_config": null}': "t5_config is null instead of an object",
    '{"t5_config": []}': r"t5_config is \[\] instead of an object",
    '{"t5_config": "small"}': 't5_config is "small" instead of an object',
    '{"t5_config": {}}': "describes a MOMENT of width None",
    json.dumps({"t5_config": T5 | {"d_model": "512"}}): "describes a MOMENT of width 512",
    json.dumps({"t5_config": T5 | {"num_heads": None}}): "does not describe a valid MOMENT",
    json.dumps({"patch_len": "long"}): "does not describe a valid MOMENT",
    json.dumps({"patch_len": 0}): "does not describe a valid MOMENT",
}


# Without these tensors, a TEMPO of the published size is built.
SMALL_TEMPO = {
    "gpt2_trend.h.0.ln_1.weight": torch.ones(24),
    "gpt2_trend.ln_f.weight": torch.ones(24),
    "gpt2_trend.wte.weight": torch.ones(100, 24),
}


@pytest.mark.parametrize(
    ("expert", "content", "expected"),
    [
        *(("moment", content, expected) for content, expected in MOMENT_CONFIGS.items()),
        *(("tempo", content, expected) for content, expected in CONFIGS.items()),
    ],
)
def test_invalid_config_is_an_error_that_names_the_file(
    expert: str, content: str, expected: str, tmp_path: Path
):
    path = tmp_path / "model.safetensors"
    save_file(SMALL_TEMPO, path)
    (tmp_path / "config.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=expected):
        load_expert(expert, str(path))
    assert "config.json" in error_message(path, expert)
