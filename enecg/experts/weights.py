"""Where an expert's weights come from: the hub, a seed, or a file."""

import re
from dataclasses import dataclass
from pathlib import Path

from enecg.errors import UserError
from enecg.experts.checkpoints import file_sha256

_HUB = re.compile(
    r"hub:(?P<repository>[^/@]+/[^/@]+)(@(?P<revision>[^/]+))?/(?P<file>[^@]+)", re.ASCII
)


@dataclass(frozen=True)
class HubFile:
    """A checkpoint on the Hugging Face hub, and the files that are read beside it if it has them.

    The hub's cache, offline mode (`HF_HUB_OFFLINE`) and mirrors (`HF_ENDPOINT`) are those of
    huggingface_hub.
    """

    repository: str
    file: str
    revision: str | None = None
    companions: tuple[str, ...] = ()

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return f"hub:{self.repository}{revision}/{self.file}"


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
        return None if self.path is None else file_sha256(self.path)


def find_weights(
    expert: str, choice: str, published: HubFile | None, *, fetch: bool = True
) -> Weights:
    """Turn a choice into weights; a checkpoint on the hub that is not here is fetched, or not.

    Raises UserError where there is no such file, no published checkpoint, or no way to it.
    """
    if choice == "random" or choice.startswith("random:"):
        seed = choice.removeprefix("random").removeprefix(":")
        if not re.fullmatch(r"[0-9]+", seed) or int(seed) >= 2**63:
            raise UserError(
                f"--weights {choice} has no seed: write random:SEED with a whole number."
            )
        return Weights(seed=int(seed))
    if choice == "published":
        if published is None:
            raise UserError(
                f"No weights of {expert} are published; give a checkpoint by "
                f"--weights {expert}@PATH, or untrained weights by --weights {expert}@random:0."
            )
        return Weights(path=download_weights(expert, published, local_only=not fetch))
    if choice.startswith("hub:"):
        found = _HUB.fullmatch(choice)
        if found is None:
            raise UserError(f"{choice!r} names no file on the hub: write hub:REPO@REVISION/FILE.")
        beside = published.companions if published else ()
        file = HubFile(found["repository"], found["file"], found["revision"], beside)
        return Weights(path=download_weights(expert, file, local_only=not fetch))
    path = Path(choice).expanduser()
    if path.is_dir() and published is not None:
        path /= published.file
    if not path.is_file():
        raise UserError(
            f"There are no weights at {choice!r} for {expert}; --weights takes published, "
            "hub:REPO@REVISION/FILE, random:SEED or the path of a checkpoint."
        )
    return Weights(path=path)


def download_weights(expert: str, wanted: HubFile, *, local_only: bool = False) -> Path:
    """A file of the hub on this machine, fetched with a progress bar where it is not here yet.

    Raises UserError where it is not here and cannot be fetched.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    def download(file: str) -> str:
        return hf_hub_download(
            wanted.repository, file, revision=wanted.revision, local_files_only=local_only
        )

    try:
        path = Path(download(wanted.file))
    except (OSError, HfHubHTTPError, ValueError) as error:
        raise UserError(
            f"The weights of {expert}, {wanted}, are not on this machine and could not be fetched "
            f"({type(error).__name__}); connect to the hub and run enecg experts fetch {expert}, "
            f"or give a file by --weights {expert}@PATH, or untrained ones by "
            f"--weights {expert}@random:0."
        ) from error
    for file in wanted.companions:
        try:
            download(file)
        except (LocalEntryNotFoundError, EntryNotFoundError):
            continue
    return path
