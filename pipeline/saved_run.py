"""A run folder, opened: its settings, its stores, whom it has seen, and its models."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from peft import PeftModel
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from enecg.errors import UserError
from enecg.gate import Gate
from enecg.heads import TaskHeads
from pipeline.runs import CONFIG, PROVENANCE
from pipeline.targets import Targets, from_document

ADAPTER = "adapter_config.json"
_PEFTS_OWN = (".base_layer", ".original_module")
"""What peft puts into the names of the tensors that it wraps."""


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
        return tuple(self._read("cohorts.json"))

    def patients_seen(self, repeat: int) -> Int[np.ndarray, " patient"]:
        """The patients that a repeat was trained or validated on."""
        with self._whole():
            return np.array(self.cohorts[repeat]["patients_seen"], np.int64)

    def targets(self, repeat: int) -> dict[str, Targets]:
        """What a repeat fitted to the labels of its training patients, by task."""
        with self._whole():
            saved = self._saved(repeat)["targets"]
            return {name: from_document(name, document) for name, document in saved.items()}

    def thresholds(self, repeat: int) -> dict[str, dict[str, float]]:
        """From which probability on class 1 is said, by method and binary task."""
        thresholds: dict[str, dict[str, float]] = self._saved(repeat)["thresholds"]
        return thresholds

    def heads(self, repeat: int, expert: str) -> nn.Module:
        """The heads of an expert as `enecg.heads.TaskHeads`, ready to answer, on the CPU."""

        def like(features: int, outputs: dict[str, int], hidden: int, depth: int) -> nn.Module:
            return TaskHeads(features, outputs, hidden=hidden, dropout=0.0, depth=depth)

        return self._model(repeat, f"heads/{expert}", like)

    def gate(self, repeat: int) -> nn.Module:
        """The gate as `enecg.gate.Gate`, ready to answer, on the CPU."""
        experts, top_k = len(self.experts), int(self.config["settings"]["fit"]["top_k"])

        def like(features: int, outputs: dict[str, int], hidden: int, depth: int) -> nn.Module:
            sets = {task: size // experts for task, size in outputs.items()}
            return Gate(
                features, sets, experts, hidden=hidden, dropout=0.0, depth=depth, top_k=top_k
            )

        return self._model(repeat, "gate", like)

    def _model(
        self, repeat: int, name: str, like: Callable[[int, dict[str, int], int, int], nn.Module]
    ) -> nn.Module:
        """A model as it was trained: the base that the run saved, and peft's adapter if any.

        `like` makes one of the same shape: its features, the outputs of each task, its hidden
        units, and how many hidden layers it has.
        """
        folder = self._of(repeat) / name
        with self._whole():
            state = {_plain(key): value for key, value in load_file(_base(folder)).items()}
            tasks = list(self._saved(repeat)["targets"])
            outputs = {task: len(state[f"ffn.{task}.prediction.bias"]) for task in tasks}
            first = f"ffn.{tasks[0]}."
            layers = [key for key in state if key.startswith(first) and key.endswith(".bias")]
            hidden = len(state[f"{first}hidden.bias"]) if len(layers) > 1 else 0
            # Building draws weights, which are then written over.
            with torch.random.fork_rng():
                model = like(len(state["standardise.mean"]), outputs, hidden, len(layers) - 1)
            model.load_state_dict(state)
            if (folder / ADAPTER).is_file():
                model = PeftModel.from_pretrained(model, str(folder))
            return model.eval()

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
        with self._whole():
            return json.loads((self.folder / name).read_text())

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """Turn what a run lacks into a sentence."""
        try:
            yield
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise UserError(
                f"{self.folder} is not a whole run of this version ({type(error).__name__}: "
                f"{str(error).splitlines()[0]}); train it again."
            ) from error


def _base(folder: Path) -> Path:
    path = folder / "base.safetensors"
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}")
    return path


def _plain(key: str) -> str:
    for part in _PEFTS_OWN:
        key = key.replace(part, "")
    return key
