"""Lazy access to a run folder: configuration, cohorts, targets and trained models."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast, get_args

import pandas as pd
from safetensors import SafetensorError
from torch import nn

from enecg.errors import UserError
from enecg.gate import Mixture
from enecg.heads import TaskHeads
from enecg.single_expert_gate import SingleExpertGate
from pipeline.evaluation.thresholds import Threshold
from pipeline.labels.targets import Targets
from pipeline.runs.calibration import VALIDATION, read_validation
from pipeline.runs.checkpoints import load_gate, load_heads, load_hidden_layer
from pipeline.runs.domains import DOMAIN, load_domains
from pipeline.runs.results import CONFIG, PROVENANCE, check_run_folder
from pipeline.runs.run_documents import CONFIG_KEYS, read_document
from pipeline.training.domain import EmbeddingDomain
from stores.errors import UnsafeFile
from stores.record_ids import RecordIds, as_ids

_LOAD_ERRORS = (OSError, LookupError, TypeError, ValueError, RuntimeError, SafetensorError)
"""Errors of json, torch, safetensors, peft and pyarrow for a missing or damaged file."""


@dataclass(frozen=True)
class SavedRun:
    """A run folder whose files are read on first access.

    All methods and properties raise UserError if a file is missing or damaged.

    Attributes:
        folder: Run folder; ``~`` is not expanded.

    Raises:
        UserError: The folder contains no `config.json`.
    """

    folder: Path

    def __post_init__(self) -> None:
        check_run_folder(self.folder)

    @cached_property
    def config(self) -> dict[str, Any]:
        """Contents of `config.json`."""
        config: dict[str, Any] = self._read(CONFIG)
        if not isinstance(config, dict) or not config.keys() >= CONFIG_KEYS:
            raise UserError(
                f"{self.folder / CONFIG} is damaged or was written by another version of EnECG. "
                "Train again."
            )
        return config

    @property
    def experts(self) -> tuple[str, ...]:
        """Names of the experts, in the order of the gate's outputs."""
        return tuple(self.config["experts"])

    @cached_property
    def stores(self) -> tuple[dict[str, Any], ...]:
        """Provenance of each store that the run was trained from."""
        document = self._read(PROVENANCE)
        stores = tuple(document.values()) if isinstance(document, dict) else ()
        if not stores or not all(isinstance(store, dict) and "expert" in store for store in stores):
            raise UserError(f"{self.folder / PROVENANCE} is damaged. Train again.")
        return stores

    @cached_property
    def cohorts(self) -> tuple[dict[str, Any], ...]:
        """For each repeat: seed, record ids of each part, training and validation patients."""
        cohorts = self._read("cohorts.json")
        if not (cohorts and isinstance(cohorts, list)):
            raise UserError(f"{self.folder / 'cohorts.json'} contains no cohorts. Train again.")
        return tuple(cohorts)

    def patients_seen(self, repeat: int) -> RecordIds:
        """Return the ids of the training and validation patients of a repeat."""
        with self._translate_errors():
            return as_ids(self.cohorts[repeat]["patients_seen"])

    def records_seen(self, repeat: int) -> RecordIds:
        """Return the ids of the training and validation records of a repeat."""
        with self._translate_errors():
            cohort = self.cohorts[repeat]
            return as_ids([*cohort["train"], *cohort["validation"]])

    def targets(self, repeat: int) -> dict[str, Targets]:
        """Return the targets by task, fitted on the training records of a repeat."""
        with self._translate_errors():
            documents = self._targets_file(repeat)["targets"]
            return {
                name: Targets.from_document(name, document) for name, document in documents.items()
            }

    def thresholds(self, repeat: int) -> dict[str, dict[str, Threshold]]:
        """Return the decision thresholds of a repeat, by method and binary or multilabel task."""
        with self._translate_errors():
            return {
                method: {task: _parse_threshold(value) for task, value in by_task.items()}
                for method, by_task in self._targets_file(repeat)["thresholds"].items()
            }

    def heads(self, repeat: int, expert: str) -> TaskHeads:
        """Load the heads of an expert.

        Args:
            repeat: Index of the repeat.
            expert: Name of the expert.

        Returns:
            The heads, on the CPU and in evaluation mode.
        """
        outputs = {task: targets.outputs for task, targets in self.targets(repeat).items()}
        with self._translate_errors():
            return load_heads(self._repeat_folder(repeat) / "heads" / expert, outputs)

    def ridge(self, repeat: int) -> dict[str, tuple[str, TaskHeads]]:
        """Load the ridge regression baseline.

        Args:
            repeat: Index of the repeat.

        Returns:
            Expert and regressions by task; empty for runs of earlier versions.
        """
        outputs = {task: targets.outputs for task, targets in self.targets(repeat).items()}
        with self._translate_errors():
            chosen: dict[str, str] = self._targets_file(repeat).get("ridge", {})
            folder = self._repeat_folder(repeat) / "ridge"
            heads = {
                expert: load_heads(folder / expert, outputs)
                for expert in self.experts
                if expert in chosen.values()
            }
            return {task: (expert, heads[expert]) for task, expert in chosen.items()}

    def hidden_layer(self, repeat: int, expert: str) -> nn.Linear:
        """Load the hidden layer that all heads of an expert share.

        Args:
            repeat: Index of the repeat.
            expert: Name of the expert.

        Returns:
            The frozen layer, on the CPU.
        """
        with self._translate_errors():
            return load_hidden_layer(self._repeat_folder(repeat) / "heads" / expert)

    @property
    def mixture(self) -> Mixture:
        """Whether the gate averages ``"probabilities"`` (the default) or ``"logits"``."""
        with self._translate_errors():
            given = self.config["settings"]["fit"].get("mixture", "probabilities")
        if given not in get_args(Mixture):
            raise UserError(
                f"{self.folder / CONFIG} has the unknown mixture {given!r}; it must be "
                f"{' or '.join(get_args(Mixture))}. Train again."
            )
        return cast(Mixture, given)

    @property
    def is_calibrated(self) -> bool:
        """Whether the run supports intervals, prediction sets and distances of new records."""
        return (self.folder / VALIDATION).exists()

    @cached_property
    def validation(self) -> pd.DataFrame:
        """EnECG's predictions for the validation records; see `read_validation`."""
        with self._translate_errors():
            return read_validation(self.folder / VALIDATION)

    def domains(self, repeat: int) -> dict[str, EmbeddingDomain]:
        """Load the distributions of the training embeddings of a repeat, by expert."""
        with self._translate_errors():
            return load_domains(self._repeat_folder(repeat) / DOMAIN, self.experts)

    def gate(self, repeat: int) -> nn.Module:
        """Load the gate on the CPU: a `Gate` in evaluation mode, or `SingleExpertGate`."""
        folder = self._repeat_folder(repeat) / "gate"
        with self._translate_errors():
            tasks = list(self._targets_file(repeat)["targets"])
            if len(self.experts) == 1 and not folder.exists():
                return SingleExpertGate(tasks)
            gate: nn.Module = load_gate(
                folder,
                tasks,
                len(self.experts),
                int(self.config["settings"]["fit"]["top_k"]),
            )
        return gate

    def _repeat_folder(self, repeat: int) -> Path:
        if not 0 <= repeat < len(self.cohorts):
            raise UserError(
                f"{self.folder} has no repeat {repeat}; valid repeats are 0 to "
                f"{len(self.cohorts) - 1}."
            )
        return self.folder / f"repeat-{repeat}"

    def _targets_file(self, repeat: int) -> dict[str, Any]:
        document: dict[str, Any] = self._read(f"{self._repeat_folder(repeat).name}/targets.json")
        return document

    def _read(self, name: str) -> Any:
        path = self.folder / name
        try:
            return read_document(path)
        except UnsafeFile as error:
            raise UserError(str(error)) from error
        except OSError as error:
            raise UserError(f"{path} is missing or unreadable. Train again.") from error
        except ValueError as error:
            raise UserError(f"{path} is damaged ({error}). Train again.") from error

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        """Convert errors of a missing or damaged file to a UserError."""
        try:
            yield
        except UnsafeFile as error:
            raise UserError(str(error)) from error
        except _LOAD_ERRORS as error:
            raise UserError(
                f"{self.folder} is incomplete, damaged or was written by another version of EnECG "
                f"({type(error).__name__}: {str(error).splitlines()[0]}). Train again."
            ) from error


def _parse_threshold(value: float | list[float] | None) -> Threshold:
    if isinstance(value, list):
        return tuple(map(float, value))
    return float("inf") if value is None else float(value)
