"""Sources of an expert's weights: the Hugging Face hub, a local file, or a random seed."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from enecg.errors import UserError
from enecg.experts.digests import file_sha256
from enecg.pretraining import METADATA_KEY, Pretraining

_HUB = re.compile(
    r"hub:(?P<repository>[^/@]+/[^/@]+)(@(?P<revision>[^/]+))?/(?P<file>[^@]+)", re.ASCII
)


@dataclass(frozen=True)
class HubFile:
    """A checkpoint on the Hugging Face hub.

    It is downloaded by huggingface_hub, which caches files and reads the environment variables
    `HF_HUB_OFFLINE` (offline mode) and `HF_ENDPOINT` (URL of a mirror).

    Attributes:
        repository: Repository, `OWNER/NAME`.
        file: Path of the checkpoint in the repository.
        revision: Branch, tag or commit. Default: the default branch of the repository.
        companions: Paths of further files to download, such as `config.json`. Files that are not
            in the repository are skipped.
    """

    repository: str
    file: str
    revision: str | None = None
    companions: tuple[str, ...] = ()

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return f"hub:{self.repository}{revision}/{self.file}"


@dataclass(frozen=True)
class ManualFile:
    """A published checkpoint that is not on the hub. Users download it from a web page.

    Attributes:
        file: File name of the checkpoint.
        page: URL of the web page with the download link.
    """

    file: str
    page: str

    def __str__(self) -> str:
        return f"{self.file} from {self.page}"


@dataclass(frozen=True)
class Weights:
    """Resolved weights: a seed, a checkpoint file, or neither for an expert without weights.

    Attributes:
        seed: Seed of random weights; None for a checkpoint or no weights.
        path: Path of a checkpoint file; None for random weights or no weights.
    """

    seed: int | None = None
    path: Path | None = None

    @property
    def label(self) -> str:
        """`random:SEED` for untrained weights, `checkpoint` for a file, `none` for no weights."""
        if self.path is not None:
            return "checkpoint"
        return "none" if self.seed is None else f"random:{self.seed}"

    def sha256(self) -> str | None:
        """Return the hexadecimal SHA-256 of the checkpoint file; None if there is no file."""
        return None if self.path is None else file_sha256(self.path)

    def pretraining(self) -> Pretraining | None:
        """Return the pretraining metadata of the checkpoint; None if there are none."""
        return None if self.path is None else read_pretraining(self.path)


def read_pretraining(path: Path) -> Pretraining | None:
    """Read the pretraining metadata of a checkpoint. Its tensors are not loaded.

    Args:
        path: Checkpoint file, in the format of safetensors or torch.

    Returns:
        The metadata; None if there are none, as in torch files and in published checkpoints.

    Raises:
        UserError: The file is in another format, or the file or its metadata is damaged.
        OSError: The file does not exist or cannot be read.
    """
    # Imported here because it imports torch.
    from enecg.experts.checkpoint_file import detect_format

    if detect_format(path) != "safetensors":
        return None
    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(METADATA_KEY)
    except SafetensorError as error:
        raise UserError(
            f"{path} is not a valid safetensors file ({error}); download it again."
        ) from error
    if text is None:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    return Pretraining.from_json(value, path)


def find_weights(
    expert: str, choice: str, published: HubFile | ManualFile | None, *, fetch: bool = True
) -> Weights:
    """Resolve the value of `--weights` for an expert.

    Args:
        expert: Name of the expert, for error messages.
        choice: `published`, `hub:REPO@REVISION/FILE`, `random:SEED`, the path of a checkpoint, or
            the path of a folder that contains a checkpoint with the file name of the published one.
            REPO is `OWNER/NAME`; `@REVISION` is optional.
        published: The expert's published checkpoint; None if there is none.
        fetch: Whether to download a hub file that is not in the local cache.

    Returns:
        The seed, or the path of the checkpoint.

    Raises:
        UserError: The value is malformed, no weights are published, or the file does not exist or
            cannot be read or downloaded.
    """
    if choice == "random" or choice.startswith("random:"):
        seed = choice.removeprefix("random").removeprefix(":")
        # Python raises ValueError for an integer of several thousand digits.
        if not re.fullmatch(r"[0-9]{1,19}", seed) or int(seed) >= 2**63:
            raise UserError(
                f"--weights {choice} has no valid seed; use random:SEED with an integer from 0 to "
                "2**63 - 1."
            )
        return Weights(seed=int(seed))
    if choice == "published":
        if published is None:
            raise UserError(
                f"No weights of {expert} are published; pass a checkpoint with "
                f"--weights {expert}@PATH, or untrained weights with --weights {expert}@random:0."
            )
        if isinstance(published, ManualFile):
            raise UserError(
                f"The weights of {expert} are not on the hub; download {published} and pass the "
                f"file with --weights {expert}@PATH, or use untrained weights with --weights "
                f"{expert}@random:0."
            )
        return Weights(path=download_weights(expert, published, local_only=not fetch))
    if choice.startswith("hub:"):
        found = _HUB.fullmatch(choice)
        if found is None:
            raise UserError(
                f"{choice!r} is not a hub file; use hub:REPO@REVISION/FILE, where REPO is "
                "OWNER/NAME and @REVISION is optional."
            )
        companions = published.companions if isinstance(published, HubFile) else ()
        file = HubFile(found["repository"], found["file"], found["revision"], companions)
        return Weights(path=download_weights(expert, file, local_only=not fetch))
    path = Path(choice).expanduser()
    try:
        if path.is_dir() and published is not None:
            path /= published.file
        if not path.is_file():
            raise UserError(
                f"Weights {choice!r} for {expert} do not exist: {path} is not a file; use "
                "published, hub:REPO@REVISION/FILE, random:SEED or the path of a checkpoint."
            )
        path.open("rb").close()
    except OSError as error:
        raise UserError(
            f"Weights {choice!r} for {expert}: {path} cannot be read ({error.strerror}); change "
            "the permissions of the file and its folders, or use the path of another checkpoint."
        ) from error
    return Weights(path=path)


def download_weights(expert: str, file: HubFile, *, local_only: bool = False) -> Path:
    """Download a checkpoint from the hub, with a progress bar, unless it is cached.

    Args:
        expert: Name of the expert, for error messages.
        file: The checkpoint.
        local_only: Whether to use only the local cache, without a request to the hub.

    Returns:
        The path of the checkpoint in the local cache.

    Raises:
        UserError: The repository has no such file, or the checkpoint or a companion is not cached
            and cannot be downloaded.
    """
    from huggingface_hub import _CACHED_NO_EXIST, hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, RemoteEntryNotFoundError

    def download(name: str) -> Path | None:
        """Return the path of a file; None if the repository has no such file."""
        try:
            return Path(
                hf_hub_download(
                    file.repository, name, revision=file.revision, local_files_only=local_only
                )
            )
        except (OSError, HfHubHTTPError, ValueError) as error:
            cached = try_to_load_from_cache(file.repository, name, revision=file.revision)
            if isinstance(error, RemoteEntryNotFoundError) or cached is _CACHED_NO_EXIST:
                return None
            raise UserError(
                f"{file.repository}/{name}, which the weights of {expert} require, is not cached "
                f"and could not be downloaded ({type(error).__name__}); connect to the hub and run "
                f"enecg experts fetch {expert}, pass a file with --weights {expert}@PATH, or use "
                f"untrained weights with --weights {expert}@random:0."
            ) from error

    path = download(file.file)
    if path is None:
        raise UserError(
            f"{file}, the weights of {expert}, does not exist on the hub; "
            f"pass a file with --weights {expert}@PATH."
        )
    # Companions that the repository does not contain are skipped. If a download fails, `download`
    # raises an error, because the model could be different without the companion.
    for companion in file.companions:
        download(companion)
    return path
