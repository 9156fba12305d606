"""Where an expert's weights come from, and what they are: `published`, `random:SEED` or a path."""

import hashlib
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from enecg.errors import UserError


@dataclass(frozen=True)
class Weights:
    """Weights that were asked for and found: a seed to draw them from, or a checkpoint file."""

    seed: int | None = None
    path: Path | None = None

    @property
    def label(self) -> str:
        """`random:SEED` for untrained weights, `checkpoint` for a file."""
        return "checkpoint" if self.seed is None else f"random:{self.seed}"

    def sha256(self) -> str | None:
        """SHA-256 of the checkpoint file, hexadecimal; None for weights yet to be drawn."""
        if self.path is None:
            return None
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class WeightsChoice:
    """The `--weights` option: one choice for all experts, and others for single ones."""

    default: str
    of_expert: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, options: Sequence[str]) -> "WeightsChoice":
        """Read `published`, `random:SEED` or a path, each also as `EXPERT@...` for one expert.

        Raises UserError where two options speak of the same expert, or of all.
        """
        default: list[str] = []
        of_expert: dict[str, str] = {}
        for option in options:
            expert, at, choice = option.partition("@")
            if not at or "/" in expert:
                default.append(option)
            elif expert in of_expert:
                raise UserError(f"--weights names {expert!r} twice; give it one choice.")
            else:
                of_expert[expert] = choice
        if len(default) > 1:
            raise UserError(
                f"--weights has {len(default)} choices for all experts ({', '.join(default)}); "
                "give one, and others as EXPERT@CHOICE."
            )
        return cls(default[0] if default else "published", tuple(of_expert.items()))

    def choice(self, expert: str) -> str:
        """The choice that holds for an expert."""
        return dict(self.of_expert).get(expert, self.default)


def find(
    expert: str, choice: str, published: tuple[str, str] | None, *, fetch: bool = True
) -> Weights:
    """Turn a choice into weights; a published checkpoint that is not here is fetched, or not.

    Raises UserError where there is no such file, no published checkpoint, or no way to it.
    """
    if choice.startswith("random:"):
        seed = choice.removeprefix("random:")
        if not seed.isdecimal():
            raise UserError(f"{choice!r} is no seed: write random:SEED with a whole number.")
        return Weights(seed=int(seed))
    if choice == "published":
        if published is None:
            raise UserError(
                f"No weights of {expert} are published; give a checkpoint by "
                f"--weights {expert}@PATH, or untrained weights by --weights {expert}@random:0."
            )
        return Weights(path=_fetch(expert, *published, local_only=not fetch))
    path = Path(choice)
    if not path.exists():
        raise UserError(
            f"There are no weights at {choice!r} for {expert}; "
            "--weights takes published, random:SEED or the path of a checkpoint."
        )
    return Weights(path=path)


def _fetch(expert: str, repository: str, file: str, *, local_only: bool) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(repository, file, local_files_only=local_only))
    except (OSError, HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise UserError(
            f"The published weights of {expert} ({repository}, {file}) are not on this machine "
            f"and could not be fetched ({type(error).__name__}); connect to the hub once, give "
            f"a file by --weights {expert}@PATH, or untrained ones by "
            f"--weights {expert}@random:0."
        ) from error


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint, from safetensors or a torch file that holds nothing but them.

    Raises UserError for a file that is damaged, or that would run code to be read.
    """
    if path.suffix != ".safetensors":
        tensors = read_torch_file(path, remedy="save its state_dict alone, best as safetensors")
    else:
        try:
            return load_file(path)
        except SafetensorError as error:
            raise UserError(
                f"{path} is no whole safetensors file ({error}); fetch it anew."
            ) from error
    if isinstance(tensors, dict) and isinstance(tensors.get("state_dict"), dict):
        tensors = tensors["state_dict"]
    if not isinstance(tensors, dict) or not all(isinstance(t, Tensor) for t in tensors.values()):
        raise UserError(f"{path} holds no state_dict; save the model's state_dict in it.")
    return tensors


def read_torch_file(path: Path, *, remedy: str, harmless: Sequence[Any] = ()) -> Any:
    """What a torch file holds: tensors in plain containers, and types named in `harmless`.

    `remedy` tells what to do about a file that holds more; `harmless` is in the form that
    `torch.serialization.safe_globals` takes.
    Raises UserError for a file that is damaged, or that would run code to be read.
    """
    try:
        with torch.serialization.safe_globals(list(harmless)):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} holds more than tensors and would run code to be read, so it is refused; "
            f"{remedy}."
        ) from error
    except Exception as error:  # torch's reader meets damage with whatever error comes first
        raise UserError(
            f"{path} is no whole torch checkpoint ({type(error).__name__}: {error}); fetch it anew."
        ) from error


def fill(
    model: nn.Module,
    tensors: dict[str, Tensor],
    path: Path,
    unused: Sequence[str] = (),
    published_name: Callable[[str], str] = str,
) -> None:
    """Load tensors into a model, every one of them, and no other.

    `unused` are the prefixes of keys that the published model has and its embedding does not need;
    `published_name` gives a checkpoint's name for one of the model's own keys.
    Raises UserError naming the first missing, unexpected or misshapen keys, as in the checkpoint.
    """
    own = model.state_dict()
    own_keys = {published_name(key): key for key in own}
    wanted = {name: own[key] for name, key in own_keys.items()}
    given = {k: v for k, v in tensors.items() if not k.startswith(tuple(unused))}
    missing = sorted(wanted.keys() - given.keys())
    unexpected = sorted(given.keys() - wanted.keys())
    misshapen = sorted(
        f"{key} {tuple(given[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in wanted.keys() & given.keys()
        if wanted[key].shape != given[key].shape
    )
    faults = [
        f"{len(keys)} {kind} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
        for kind, keys in (
            ("keys missing", missing),
            ("keys unexpected", unexpected),
            ("of another shape", misshapen),
        )
        if keys
    ]
    if faults:
        raise UserError(f"{path} does not fit {type(model).__name__}: {'; '.join(faults)}.")
    model.load_state_dict({own_keys[name]: tensor for name, tensor in given.items()})


def digest(model: nn.Module) -> str:
    """SHA-256 of a model's parameters and buffers: names, dtypes, shapes and bytes, by name."""
    sha = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        sha.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()
