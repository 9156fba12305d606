"""Checkpoints of ECGFounder, in the format of the original implementation."""

import re
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from enecg.ecg_format import LEADS
from enecg.errors import UserError
from enecg.experts.checkpoints import read_checkpoint
from enecg.experts.definitions.ecgfounder import PUBLISHED_FILE


@dataclass(frozen=True)
class Architecture:
    """Sizes of the model; the defaults are the published ones.

    Attributes:
        stem: Output channels of the first convolution.
        widths: Output channels of each stage.
        blocks: Number of blocks of each stage.
        kernel: Kernel size of the first convolution and of the grouped convolutions.
        group_width: Channels per group of the grouped convolutions.
    """

    stem: int = 64
    widths: tuple[int, ...] = (64, 160, 160, 400, 400, 1024, 1024)
    blocks: tuple[int, ...] = (2, 2, 2, 3, 3, 4, 4)
    kernel: int = 16
    group_width: int = 16


_CLASSIFIER = "dense."
_GROUPED = re.compile(r"stage_list\.(\d+)\.block_list\.(\d+)\.conv2\.conv\.weight")


def read_ecgfounder_checkpoint(
    path: Path,
) -> tuple[Architecture, dict[str, Tensor], tuple[str, ...]]:
    """Read a checkpoint of the original implementation.

    Args:
        path: A file that contains the state dict of `Net1D`.

    Returns:
        Three values: the architecture, which is inferred from tensor shapes; the tensors by key;
        and the key prefixes that the embedding does not need: those of the classifier, and of the
        batch normalizations that the original code creates but does not use.

    Raises:
        UserError: The file is damaged, would execute code, or describes another model.
        OSError: The file does not exist or cannot be read.
    """
    tensors = read_checkpoint(path)
    architecture = _infer_architecture(tensors, path)
    blocks = [
        f"stage_list.{stage}.block_list.{block}."
        for stage, count in enumerate(architecture.blocks)
        for block in range(count)
    ]
    norms = ("first_bn.", *(f"{block}bn{number}." for block in blocks for number in (1, 2, 3)))
    counts = {f"{norm}num_batches_tracked" for norm in norms}
    trained = [key for key, tensor in tensors.items() if key in counts and tensor.any()]
    if trained:
        raise UserError(
            f"{path} was trained with batch normalization ({trained[0]} is not 0), which "
            "ECGFounder does not use; use the published checkpoint."
        )
    return architecture, tensors, (_CLASSIFIER, *norms)


def _infer_architecture(tensors: dict[str, Tensor], path: Path) -> Architecture:
    """Infer sizes from tensor shapes; raise UserError for other leads or invalid sizes."""
    first = tensors.get("first_conv.conv.weight")
    stages: dict[int, list[Tensor]] = {}
    for key, tensor in tensors.items():
        found = _GROUPED.fullmatch(key)
        if found and tensor.ndim == 3 and tensor.numel():
            stages.setdefault(int(found[1]), []).append(tensor)
    if not stages or first is None or first.ndim != 3 or not first.numel():
        # Keys are missing or have unexpected shapes. With the published sizes, loading fails with
        # an error that names them; see `build_strict`.
        return Architecture()
    if first.shape[1] != len(LEADS):
        raise UserError(
            f"{path} is an ECGFounder whose number of leads is {first.shape[1]}; use the one for "
            f"{len(LEADS)} leads, {PUBLISHED_FILE}."
        )
    grouped = [stages[stage][0] for stage in sorted(stages)]
    architecture = Architecture(
        stem=len(first),
        widths=tuple(map(len, grouped)),
        blocks=tuple(len(stages[stage]) for stage in sorted(stages)),
        kernel=first.shape[2],
        group_width=grouped[0].shape[1],
    )
    uneven = [width for width in architecture.widths if width % architecture.group_width]
    if uneven:
        raise UserError(
            f"{path} is not a checkpoint of ECGFounder: {uneven[0]} channels are not a multiple of "
            f"{architecture.group_width}, the channels per group; use the published checkpoint."
        )
    return architecture
