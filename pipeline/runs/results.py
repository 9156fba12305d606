"""Results of a finished run: `results.json`, `config.json` and `provenance.json`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from enecg.errors import UserError
from pipeline.evaluation.differences import Difference
from pipeline.evaluation.label_fractions import LabelFraction
from pipeline.evaluation.predictions import BASELINES, RANDOM, RIDGE, WITHOUT, ZERO_SHOT
from pipeline.evaluation.scores import Score
from pipeline.runs.pretraining_data import find_pretraining_data
from pipeline.runs.results_document import (
    Thresholds,
    parse_difference,
    parse_fraction,
    parse_parameters,
    parse_score,
    parse_task,
    parse_thresholds,
)
from pipeline.runs.run_documents import Config, Provenance, damaged_message, open_document
from pipeline.runs.task_summary import TaskSummary

CONFIG = "config.json"
RESULTS = "results.json"
PAGE_WITH_ECGS = "results-with-ecgs.html"
PROVENANCE = "provenance.json"
PREDICTIONS = "predictions.parquet"


@dataclass(frozen=True)
class RunResults:
    """Results of a finished run or evaluation.

    Attributes:
        folder: The run folder.
        config: Contents of `config.json`, or of `evaluation.json` for an evaluation.
        provenance: Provenance of each store, by store identity, or by index for an evaluation.
        tasks: Tasks by name.
        parameters: Numbers of trainable and of all parameters by method; empty for an evaluation.
        scores: Scores of all methods and tasks.
        thresholds: See `Thresholds`; empty for an evaluation.
        differences: Differences between EnECG and other methods; empty for an evaluation and for
            runs of earlier versions.
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
        """Weights by expert in the gate's order, such as ``"checkpoint"`` or ``"random:0"``."""
        weights = {store["expert"]: store["weights"] for store in self.provenance.values()}
        return {expert: weights[expert] for expert in self.config["experts"]}

    @property
    def untrained(self) -> list[str]:
        """Names of experts with random weights."""
        return [name for name, weights in self.weights.items() if weights.startswith("random:")]

    @property
    def random_baselines(self) -> dict[str, str]:
        """Random weights that an expert is compared with, by expert; empty if there are none."""
        stores = self.config.get("random_baselines", ())
        return {store["expert"]: store["weights"] for store in stores}

    @property
    def pretrained(self) -> dict[str, list[str]]:
        """Names of pretraining data sets that contain patients of the run's data set, by expert."""
        return find_pretraining_data(self.config["dataset"], self.weights)

    @property
    def methods(self) -> list[str]:
        """All methods, in the order of the scores."""
        return list(dict.fromkeys(score.method for score in self.scores))

    @property
    def ensembles(self) -> list[str]:
        """Methods that combine all experts, including EnECG."""
        return [
            method
            for method in self.methods
            if method not in (*BASELINES, RIDGE)
            and method not in self.weights
            and not method.startswith((ZERO_SHOT, RANDOM, WITHOUT))
        ]

    def score(self, method: str, task: str) -> Score | None:
        """Return the score of a method on a task.

        Args:
            method: Name of the method.
            task: Name of the task.

        Returns:
            The score; None if the run has none.
        """
        for score in self.scores:
            if (score.method, score.task) == (method, task):
                return score
        return None


def check_run_folder(folder: Path) -> None:
    """Check that a folder is a run folder.

    Args:
        folder: The folder.

    Raises:
        UserError: The folder contains no `config.json`.
    """
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
    with open_document(folder / CONFIG) as config:
        Config.model_validate(config)
    with open_document(folder / PROVENANCE) as provenance:
        stores = [Provenance.model_validate(store) for store in provenance.values()]
        known = {store["identity"] for store in config["stores"]} <= provenance.keys()
        if not known or not {store.expert for store in stores} >= set(config["experts"]):
            raise UserError(damaged_message(folder / PROVENANCE))
    with open_document(folder / RESULTS) as document:
        tasks = {task["name"]: parse_task(task) for task in document["tasks"]}
        scores = tuple(parse_score(score) for score in document["scores"])
        repeats = len(config["seeds"])
        for score in scores:
            lengths = {len(score.values), len(score.n), len(score.patients)}
            if score.task not in tasks or lengths != {repeats}:
                raise UserError(damaged_message(folder / RESULTS))
        return RunResults(
            folder=folder,
            config=config,
            provenance=provenance,
            tasks=tasks,
            parameters=parse_parameters(document["parameters"]),
            scores=scores,
            thresholds=parse_thresholds(document.get("thresholds", {})),
            differences=tuple(map(parse_difference, document.get("differences", ()))),
            label_fractions=tuple(map(parse_fraction, document.get("label_fractions", ()))),
        )
