"""Data of a run for experiment trackers: parameters, metrics with intervals, and files."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipeline.evaluation.predictions import CONSTANT, ENSEMBLE, RANDOM, RIDGE
from pipeline.evaluation.scores import Measure
from pipeline.runs.export import export_run
from pipeline.runs.results import CONFIG, RunResults, read_results

FILES = ("results.html", "results.md", "MODEL_CARD.md", CONFIG)
"""Files that are logged if the run has them."""
MAX_VALUE_LENGTH = 500
"""Maximum length of a parameter's value; MLflow accepts 500 characters in all versions."""

_FORBIDDEN = re.compile(r"[^\w./ -]")


@dataclass(frozen=True)
class TrackedRun:
    """Data of a run for an experiment tracker.

    Attributes:
        name: Name of the run folder.
        folder: The run folder.
        parameters: Settings, data set, experts, device and versions, cut to `MAX_VALUE_LENGTH`.
        metrics: Mean and ends of the 95% interval of each metric, such as ``age/MAE/EnECG`` and
            ``age/MAE/EnECG_low``, without undefined ones; and the duration ``seconds``.
        files: Copies of the page and other files without record and patient ids.
    """

    name: str
    folder: Path
    parameters: dict[str, str]
    metrics: dict[str, float]
    files: tuple[Path, ...]


@contextmanager
def open_tracked(folder: Path) -> Iterator[TrackedRun]:
    """Collect the data of a run. The files exist only within the ``with`` block.

    Args:
        folder: Run folder.

    Yields:
        The run.

    Raises:
        UserError: `folder` is not a run folder, or is damaged.
    """
    run = read_results(folder)
    with TemporaryDirectory() as temporary:
        copy = Path(temporary) / "run"
        export_run(folder, copy)
        yield TrackedRun(
            folder.resolve().name,
            folder,
            _parameters(run),
            _metrics(run),
            tuple(copy / name for name in FILES if (copy / name).is_file()),
        )


def _parameters(run: RunResults) -> dict[str, str]:
    config = run.config
    values: dict[str, Any] = {
        **config["settings"],
        "dataset": config["dataset"],
        "cohorts_digest": config["cohorts_digest"],
        "records": config["records"],
        "patients": config["patients"],
        "seeds": config["seeds"],
        "device": config["device"],
        "versions": config["versions"],
        "expert": run.weights,
        "untrained_experts": run.untrained,
    }
    return {key: value[:MAX_VALUE_LENGTH] for key, value in _flatten("", values)}


def _flatten(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        name = _clean(f"{prefix}{key}")
        if isinstance(value, Mapping):
            yield from _flatten(f"{name}.", value)
        elif isinstance(value, str):
            yield name, value
        else:
            yield name, json.dumps(value)


def _metrics(run: RunResults) -> dict[str, float]:
    """Return all metrics of EnECG, the main metric of experts and baselines, and the duration."""
    metrics: dict[str, float] = {}
    for task in run.tasks:
        for method in (
            ENSEMBLE,
            *run.weights,
            *(RANDOM + expert for expert in run.random_baselines),
            RIDGE,
            CONSTANT,
        ):
            score = run.score(method, task)
            if score is None:
                continue
            measures: list[Measure] = [score, *(score.others if method == ENSEMBLE else ())]
            for measure in measures:
                name = _clean(f"{task}/{measure.metric}/{method}")
                values = {
                    name: measure.mean,
                    f"{name}_low": measure.low,
                    f"{name}_high": measure.high,
                }
                metrics |= {key: value for key, value in values.items() if math.isfinite(value)}
    metrics["seconds"] = float(run.config["seconds"])
    return metrics


def _clean(name: str) -> str:
    """Replace characters that MLflow does not accept in names."""
    return _FORBIDDEN.sub("_", name)
