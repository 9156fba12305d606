"""Untrusted configurations beside checkpoints."""

import json
import os
import resource
from pathlib import Path
from typing import Any

import pytest
import torch

from enecg.errors import UserError
from enecg.experts.registry import load_expert

pytestmark = pytest.mark.hostile


def build(folder: Path) -> None:
    torch.save({"x": torch.zeros(1)}, folder / "model.pt")
    load_expert("moment", str(folder / "model.pt"))


@pytest.mark.parametrize(
    "changes",
    [
        {"d_ff": 10**6, "num_layers": 1000},
        {"num_layers": 10**6},
        {"num_heads": 10**5},
        {"d_kv": 10**6},
        {"vocab_size": 10**6},
        {"relative_attention_num_buckets": 10**6},
        {"num_layers": 10**400},
        {"d_ff": float("nan")},
    ],
    ids=lambda changes: str(changes)[:40],
)
def test_invalid_sizes_of_a_moment_model_are_rejected(changes: dict[str, Any], tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps({"t5_config": {"d_model": 512, **changes}}))
    with pytest.raises(UserError, match=r"is not valid \(maximum: "):
        build(tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 3 << 20  # in kB


@pytest.mark.parametrize("kind", ["FIFO", "device", "large"])
def test_irregular_configuration_is_rejected(kind: str, tmp_path: Path):
    config = tmp_path / "config.json"
    if kind == "FIFO":
        os.mkfifo(config)
    elif kind == "device":
        config.symlink_to("/dev/zero")
    else:
        config.write_bytes(b"")
        os.truncate(config, 1 << 30)
    with pytest.raises(UserError, match="is not a regular file of at most 1048576 bytes"):
        build(tmp_path)
