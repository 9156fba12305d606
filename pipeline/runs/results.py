"""Results of a finished run: `results.json`, `config.json` and `provenance.json`."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from enecg.errors import UserError
from enecg.metrics import NAN
from enecg.tasks import Kind, Task
from pipeline.evaluation.differences import Difference
from pipeline.evaluation.label_fractions import LabelFraction
from pipeline.evaluation.predictions import BASELINES, RIDGE, ZERO_SHOT
from pipeline.evaluation.scores import Score
from pipeline.runs.pretraining import find_pretrained
from stores.documents import parse_document
from stores.errors import UnsafeFile
from stores.regular_files import read_regular

CONFIG = "config.json"
RESULTS = "results.json"
PROVENANCE = "provenance.json"
CONFIG_KEYS = {
    *("dataset", "index_digest", "finished", "settings", "device", "seeds", "cohorts_digest"),
    *("tasks", "notes", "experts", "records", "patients", "records_left_out"),
    *("seconds", "peak_memory_bytes", "stores", "versions"),
}
"""Required keys of `config.json`."""
Thresholds = Mapping[str, Mapping[str, Sequence[float]]]
"""Thresholds by method, binary task and repeat. Class 1 is predicted if its probability is at least
the threshold; if the threshold is infinite, class 1 is never predicted."""
MAX_DOCUMENT_BYTES = 1 << 28
"""Maximum size of a JSON document in a run folder; record ids of large cohorts take megabytes."""

MAX_CLASSES = 1000
"""Maximum number of classes of a task in a run folder."""

SEARCH_DEPTH = 3
"""Levels of subfolders that `find_runs` searches."""


_Number = Annotated[float, Field(ge=0)]


class _Strict(BaseModel):
    """Base of models that convert no values, because readers use the document as it is."""

    model_config = ConfigDict(strict=True)


class _Extraction(_Strict):
    started: str | None = None
    device: str | None = None
    embedded: _Number | None = None
    embedding_seconds: _Number | None = None


class _Store(_Strict):
    expert: str
    identity: str
    location: str
    features: int
    extractions: list[_Extraction]


class _Memory(_Strict):
    process: int


class _Config(_Strict):
    """Types of the required keys of `config.json`, which is validated because it is not trusted."""

    dataset: str
    index_digest: str
    finished: str
    settings: dict[str, Any]
    device: str
    seeds: list[int]
    cohorts_digest: str
    tasks: list[str]
    notes: list[str]
    experts: Annotated[list[str], Field(min_length=1)]
    records: int
    patients: int
    records_left_out: int
    seconds: _Number
    peak_memory_bytes: _Memory
    stores: list[_Store]
    versions: dict[str, str]


class _Provenance(_Strict):
    expert: str
    weights: str
    dtype: Literal["float16", "float32"]


@dataclass(frozen=True)
class TaskSummary:
    """Summary of an `enecg.tasks.Task`, as stored in `results.json` for tables and plots.

    Attributes:
        name: Name in files and command-line options.
        title: Name in tables and plots.
        kind: ``"regression"``, ``"binary"`` or ``"multiclass"``.
        unit: Unit of a regression task; empty for other kinds.
        metric_name: Name of the main metric.
        higher_is_better: Whether higher values of the main metric are better.
        classes: Class names of a binary task. Empty for regression tasks, which have no classes,
            and for multiclass tasks, whose classes differ between repeats.
    """

    name: str
    title: str
    kind: Kind
    unit: str
    metric_name: str
    higher_is_better: bool
    classes: tuple[str, ...]

    @classmethod
    def from_task(cls, task: Task) -> Self:
        """Copy the fields of a task."""
        return cls(**{field.name: getattr(task, field.name) for field in fields(cls)})


@dataclass(frozen=True)
class RunResults:
    """Results of a finished run or evaluation.

    Attributes:
        folder: The run folder.
        config: Contents of `config.json`, or of `evaluation.json` for an evaluation.
        provenance: Provenance of each store, keyed by store identity.
        tasks: Tasks by name.
        parameters: Numbers of trainable and of all parameters by method; empty for an evaluation.
        scores: Scores of all methods and tasks.
        thresholds: See `Thresholds`; empty for an evaluation.
        differences: Differences between EnECG and other methods; empty for an evaluation and for
            runs of versions without them.
        label_fractions: Scores after training on fractions of the patients; empty for a run
            without `--label-fractions`.
    """

    folder: Path
    config: dict[str, Any]
    provenance: dict[str, dict[str, Any]]
    tasks: dict[str, TaskSummary]
    parameters: dict[str, tuple[int, int]]
    scores: tuple[Score, ...]
    thresholds: Thresholds = field(default_factory=dict)
    differences: tuple[Difference, ...] = ()
    label_fractions: tuple[LabelFraction, ...] = ()

    @property
    def weights(self) -> dict[str, str]:
        """Weights by expert, such as ``"published"`` or ``"random:0"``, in the gate's order."""
        weights = {store["expert"]: store["weights"] for store in self.provenance.values()}
        return {expert: weights[expert] for expert in self.config["experts"]}

    @property
    def untrained(self) -> list[str]:
        """Names of experts with random weights."""
        return [name for name, weights in self.weights.items() if weights.startswith("random:")]

    @property
    def pretrained(self) -> dict[str, list[str]]:
        """Experts that were pretrained on patients of the data set; see `find_pretrained`."""
        return find_pretrained(self.config["dataset"], self.weights)

    @property
    def methods(self) -> list[str]:
        """All methods, in the order of the scores."""
        return list(dict.fromkeys(score.method for score in self.scores))

    @property
    def ensembles(self) -> list[str]:
        """Methods that combine experts, including EnECG."""
        return [
            method
            for method in self.methods
            if method not in (*BASELINES, RIDGE)
            and method not in self.weights
            and not method.startswith(ZERO_SHOT)
        ]

    def score(self, method: str, task: str) -> Score | None:
        """Return the score of a method on a task; None if there is none."""
        for score in self.scores:
            if (score.method, score.task) == (method, task):
                return score
        return None


def results_document(
    tasks: Sequence[Task],
    parameters: Mapping[str, tuple[int, int]],
    scores: Sequence[Score],
    thresholds: Thresholds | None = None,
    *,
    differences: Sequence[Difference] = (),
    label_fractions: Sequence[LabelFraction] = (),
) -> dict[str, Any]:
    """Build the contents of `results.json`.

    Args:
        tasks: Tasks in the order of the columns of tables.
        parameters: Numbers of trainable and of all parameters by method.
        scores: Scores of all methods and tasks.
        thresholds: See `Thresholds`.
        differences: Differences between EnECG and other methods.
        label_fractions: Scores after training on fractions of the patients.

    Returns:
        JSON-serializable values, with None in place of NaN and infinity.
    """
    document: dict[str, Any] = _replace_nonfinite(
        {
            "tasks": [asdict(TaskSummary.from_task(task)) for task in tasks],
            "parameters": {name: list(counts) for name, counts in parameters.items()},
            "thresholds": thresholds or {},
            "scores": [asdict(score) for score in scores],
            "differences": [asdict(difference) for difference in differences],
            "label_fractions": [asdict(fraction) for fraction in label_fractions],
        }
    )
    return document


def check_run_folder(folder: Path) -> None:
    """Raise UserError if `folder` is not a run folder."""
    if not (folder / CONFIG).is_file():
        raise UserError(
            f"{folder} is not a run folder: {CONFIG} is missing. Pass the folder that was given "
            "as --out to enecg train."
        )


def read_results(folder: Path) -> RunResults:
    """Read the results of a run.

    Args:
        folder: Run folder.

    Returns:
        Its configuration, provenance and scores.

    Raises:
        UserError: `folder` is not a run folder, a file is missing, or a file is damaged or was
            written by another version.
    """
    folder = folder.expanduser()
    check_run_folder(folder)
    with _open_json(folder / CONFIG) as config:
        _Config.model_validate(config)
    with _open_json(folder / PROVENANCE) as provenance:
        stores = [_Provenance.model_validate(store) for store in provenance.values()]
        known = {store["identity"] for store in config["stores"]} <= provenance.keys()
        if not known or not {store.expert for store in stores} >= set(config["experts"]):
            raise UserError(_damaged_message(folder / PROVENANCE))
    with _open_json(folder / RESULTS) as document:
        tasks = {task["name"]: _parse_task(task) for task in document["tasks"]}
        scores = tuple(_parse_score(score) for score in document["scores"])
        repeats = len(config["seeds"])
        for score in scores:
            lengths = {len(score.values), len(score.n), len(score.patients)}
            if score.task not in tasks or lengths != {repeats}:
                raise UserError(_damaged_message(folder / RESULTS))
        return RunResults(
            folder=folder,
            config=config,
            provenance=provenance,
            tasks=tasks,
            parameters=_PARAMETERS.validate_python(document["parameters"]),
            scores=scores,
            thresholds=_parse_thresholds(document.get("thresholds", {})),
            differences=tuple(map(_parse_difference, document.get("differences", ()))),
            label_fractions=tuple(map(_parse_fraction, document.get("label_fractions", ()))),
        )


def read_document(file: Path) -> Any:
    """Read a JSON document of a run folder.

    Args:
        file: The document.

    Returns:
        The parsed value.

    Raises:
        ValueError: The file is not JSON, or is nested too deeply.
        UnsafeFile: The file is not a regular file, or is too large.
        OSError: The file cannot be read.
    """
    return parse_document(read_regular(file, MAX_DOCUMENT_BYTES), finite=False)


@contextmanager
def _open_json(file: Path) -> Iterator[Any]:
    """Yield a JSON document; turn errors in the `with` block into a UserError naming the file."""
    try:
        yield read_document(file)
    except FileNotFoundError as error:
        raise UserError(
            f"{file.parent} is incomplete: {file.name} is missing. Train again."
        ) from error
    except UnsafeFile as error:
        raise UserError(str(error)) from error
    except (OSError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise UserError(_damaged_message(file)) from error


def _damaged_message(file: Path) -> str:
    return f"{file} is damaged or was written by another version of EnECG. Train again."


_TASK = TypeAdapter(TaskSummary)
_SCORE = TypeAdapter(Score)
_DIFFERENCE = TypeAdapter(Difference)
_PARAMETERS = TypeAdapter(dict[str, tuple[int, int]])


def find_runs(folder: Path) -> Iterator[Path]:
    """Find run folders in a folder and in up to `SEARCH_DEPTH` levels of its subfolders.

    Args:
        folder: Folder to search; may be a run folder itself.

    Yields:
        Run folders, sorted by path. Subfolders of a run folder are not searched.

    Raises:
        UserError: The folder does not exist.
    """
    folder = folder.expanduser()
    if not folder.is_dir():
        raise UserError(f"The folder {folder} does not exist; pass one that contains runs.")
    yield from _find_runs(folder, SEARCH_DEPTH)


def _find_runs(folder: Path, depth: int) -> Iterator[Path]:
    if (folder / CONFIG).is_file() and (folder / RESULTS).is_file():
        yield folder
    elif depth:
        for subfolder in sorted(path for path in folder.iterdir() if path.is_dir()):
            yield from _find_runs(subfolder, depth - 1)


def _parse_task(document: dict[str, Any]) -> TaskSummary:
    classes = tuple(map(str, document["classes"]))
    expected = range(2, 3) if document["kind"] == "binary" else range(MAX_CLASSES + 1)
    if len(classes) not in expected:
        raise ValueError(f"{len(classes)} classes")
    return _TASK.validate_python(document | {"classes": classes})


def _parse_score(document: dict[str, Any]) -> Score:
    others = [_parse_measure(measure) for measure in document["others"]]
    return _SCORE.validate_python(_parse_measure(document) | {"others": others})


def _parse_difference(document: dict[str, Any]) -> Difference:
    return _DIFFERENCE.validate_python(_parse_measure(document))


def _parse_fraction(document: dict[str, Any]) -> LabelFraction:
    return LabelFraction(
        float(document["fraction"]),
        tuple(map(int, document["patients"])),
        tuple(map(_parse_score, document["scores"])),
    )


def _parse_thresholds(document: dict[str, dict[str, list[float | None]]]) -> Thresholds:
    return {
        method: {
            task: tuple(math.inf if value is None else value for value in values)
            for task, values in by_task.items()
        }
        for method, by_task in document.items()
    }


def _parse_measure(document: dict[str, Any]) -> dict[str, Any]:
    numbers = {
        name: NAN if document[name] is None else document[name] for name in ("mean", "low", "high")
    }
    values = tuple(NAN if value is None else value for value in document["values"])
    return document | numbers | {"values": values}


def _replace_nonfinite(value: Any) -> Any:
    """Replace NaN and infinity, which JSON does not support, by None, and tuples by lists."""
    if isinstance(value, dict):
        return {key: _replace_nonfinite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_replace_nonfinite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
