"""A run folder, opened: its settings, its stores, whom it has seen, and its models."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from peft import PeftModel
from safetensors import SafetensorError
from torch import nn

from enecg.errors import UserError
from enecg.heads import TaskHeads
from pipeline.labels.targets import Targets
from pipeline.runs.finished import CONFIG, NEEDED, PROVENANCE
from pipeline.runs.saved_models import load_gate, load_heads, load_hidden_layer
from stores.record_ids import RecordIds, as_ids

_DAMAGED = (OSError, LookupError, TypeError, ValueError, RuntimeError, SafetensorError)
"""What json, torch, safetensors and peft raise for a file that is not there or not whole."""


@dataclass(frozen=True)
class SavedRun:
    """A run folder. Its members raise UserError where a file is not there or not whole."""

    folder: Path

    def __post_init__(self) -> None:
        if not (self.folder / CONFIG).is_file():
            raise UserError(
                f"{self.folder} is no run, it has no {CONFIG}; name the folder that a training "
                "was given by --out."
            )

    @cached_property
    def config(self) -> dict[str, Any]:
        """The data set, the settings, the experts and the tasks."""
        config: dict[str, Any] = self._read(CONFIG)
        if not isinstance(config, dict) or not config.keys() >= NEEDED:
            raise UserError(f"{self.folder / CONFIG} is of another version; train it again.")
        return config

    @property
    def experts(self) -> tuple[str, ...]:
        """The names of the experts, in the order of the gate's weights."""
        return tuple(self.config["experts"])

    @cached_property
    def stores(self) -> tuple[dict[str, Any], ...]:
        """The provenance of each store that the run was trained from."""
        return tuple(self._read(PROVENANCE).values())

    @cached_property
    def cohorts(self) -> tuple[dict[str, Any], ...]:
        """Of each repeat its `seed`, record ids by part, and `patients_seen`."""
        drawn = self._read("cohorts.json")
        if not (drawn and isinstance(drawn, list)):
            raise UserError(f"{self.folder / 'cohorts.json'} names no cohort; train the run again.")
        return tuple(drawn)

    def patients_seen(self, repeat: int) -> RecordIds:
        """The patients that a repeat was trained or validated on."""
        with self._whole():
            return as_ids(self.cohorts[repeat]["patients_seen"])

    def records_seen(self, repeat: int) -> RecordIds:
        """The records that a repeat was trained or validated on."""
        with self._whole():
            drawn = self.cohorts[repeat]
            return as_ids([*drawn["train"], *drawn["validation"]])

    def targets(self, repeat: int) -> dict[str, Targets]:
        """What a repeat fitted to the labels of its training patients, by task."""
        with self._whole():
            saved = self._saved(repeat)["targets"]
            return {name: Targets.from_document(name, document) for name, document in saved.items()}

    def thresholds(self, repeat: int) -> dict[str, dict[str, float]]:
        """From which probability on class 1 is said, by method and binary task; infinity: never."""
        with self._whole():
            return {
                method: {
                    task: float("inf") if value is None else float(value)
                    for task, value in of_tasks.items()
                }
                for method, of_tasks in self._saved(repeat)["thresholds"].items()
            }

    def heads(self, repeat: int, expert: str) -> TaskHeads:
        """The heads of an expert, ready to answer, on the CPU."""
        outputs = {name: one.outputs for name, one in self.targets(repeat).items()}
        with self._whole():
            return load_heads(self._of(repeat) / "heads" / expert, outputs)

    def hidden_layer(self, repeat: int, expert: str) -> nn.Linear:
        """The hidden layer that all tasks' heads of an expert share."""
        with self._whole():
            return load_hidden_layer(self._of(repeat) / "heads" / expert)

    def gate(self, repeat: int) -> PeftModel:
        """The gate as `enecg.gate.Gate`, ready to answer, on the CPU."""
        with self._whole():
            return load_gate(
                self._of(repeat) / "gate",
                list(self._saved(repeat)["targets"]),
                len(self.experts),
                int(self.config["settings"]["fit"]["top_k"]),
            )

    def _of(self, repeat: int) -> Path:
        if not 0 <= repeat < len(self.cohorts):
            raise UserError(
                f"{self.folder} has no repeat {repeat}; it has {len(self.cohorts)}, counted from 0."
            )
        return self.folder / f"repeat-{repeat}"

    def _saved(self, repeat: int) -> dict[str, Any]:
        saved: dict[str, Any] = self._read(f"{self._of(repeat).name}/targets.json")
        return saved

    def _read(self, name: str) -> Any:
        path = self.folder / name
        try:
            return json.loads(path.read_text())
        except OSError as error:
            raise UserError(f"{path} is not there; train the run again.") from error
        except ValueError as error:
            raise UserError(f"{path} is damaged ({error}); train the run again.") from error

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """Turn what a run lacks into a sentence."""
        try:
            yield
        except _DAMAGED as error:
            raise UserError(
                f"{self.folder} is not a whole run of this version ({type(error).__name__}: "
                f"{str(error).splitlines()[0]}); train it again."
            ) from error
