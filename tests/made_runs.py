"""Run folders made without training: known answers of all methods, and the documents of a run."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from enecg.tasks import TASKS
from pipeline.evaluation.predictions import CONSTANT, ENSEMBLE, ZERO_SHOT, TaskPredictions
from pipeline.evaluation.scores import compute_scores
from pipeline.runs.results import results_document

EXPERTS = ("dlinear", "moment")
METHODS = (
    CONSTANT,
    *(ZERO_SHOT + name for name in EXPERTS),
    *EXPERTS,
    "mean",
    "confidence",
    ENSEMBLE,
)
NOISE = {method: 3.0 - place / 3 for place, method in enumerate(METHODS)}
"""How far off each method is: later ones are better."""


def predict(task: str, method: str, repeat: int, *, records: int = 60) -> TaskPredictions:
    """A method's answers: the truth and its noise, two records a patient."""
    rng = np.random.default_rng([repeat, list(TASKS).index(task), METHODS.index(method)])
    truths = np.random.default_rng([repeat, list(TASKS).index(task)])
    record = np.arange(records) + 1000 * repeat
    kind = TASKS[task].kind
    if kind == "regression":
        truth = truths.normal(60, 15, records)
        said = np.full(records, 60.0) if method == CONSTANT else truth
        said = said + NOISE[method] * rng.normal(size=records)
        return TaskPredictions(TASKS[task], method, repeat, record, record // 2, truth, said)
    classes = 2 if kind == "binary" else 4
    truth = truths.integers(0, classes, records)
    logits = 2 * np.eye(classes)[truth] + NOISE[method] * rng.normal(size=(records, classes))
    told = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    said = told.argmax(1).astype(float)
    patient = record // 2
    return TaskPredictions(TASKS[task], method, repeat, record, patient, truth * 1.0, said, told)


def make_run(
    folder: Path,
    *,
    tasks: tuple[str, ...] = ("age", "sex", "arrhythmia"),
    methods: tuple[str, ...] = METHODS,
    repeats: int = 2,
    settings: dict[str, Any] | None = None,
    **config: Any,
) -> Path:
    """Write what a table is made from: dlinear untrained, moment with published weights."""
    predictions = [
        predict(task, method, repeat)
        for repeat in range(repeats)
        for method in methods
        for task in tasks
        if method != "confidence" or TASKS[task].kind != "regression"
    ]
    weights = {"dlinear": "random:0", "moment": "published", "leads": "none"}
    provenance = {
        f"{place:016x}": {"expert": name, "weights": told, "dtype": "float16", "dataset": "d/1"}
        for place, (name, told) in enumerate(weights.items())
    }
    extracted = {"started": "2026-01-02", "device": "cuda", "embedded": 90, "embedding_seconds": 3}
    document = {
        "dataset": "mimic-iv-ecg/1.0",
        "index_digest": "ab" * 32,
        "finished": "2026-01-02T03:04:05+00:00",
        "settings": {"seed": 0, "repeats": repeats, "fit": {"rank": 8}} | (settings or {}),
        "device": "cpu",
        "seeds": list(range(repeats)),
        "cohorts_digest": "cd" * 32,
        "tasks": list(tasks),
        "notes": ["The data set has no labels for potassium."],
        "experts": list(EXPERTS),
        "records": 1200,
        "patients": 600,
        "records_left_out": 3,
        "seconds": 20.0,
        "peak_memory_bytes": {"process": 1_500_000_000},
        "stores": [
            {
                "expert": told["expert"],
                "identity": identity,
                "location": f"/stores/{identity}",
                "features": 512,
                "extractions": [extracted] if told["expert"] == "moment" else [],
            }
            for identity, told in provenance.items()
        ],
        "versions": {"torch": "2.9"},
    } | config
    parameters = {"dlinear": (100, 2000), "moment": (1200, 34_000), ENSEMBLE: (1500, 37_000)}
    parameters |= {ZERO_SHOT + name: (0, parameters[name][1]) for name in EXPERTS}
    binary = [task for task in tasks if TASKS[task].kind == "binary"]
    chosen = [0.25 if number % 2 == 0 else float("inf") for number in range(repeats)]
    judged = results_document(
        *([TASKS[task] for task in tasks], parameters, compute_scores(predictions)),
        {ENSEMBLE: dict.fromkeys(binary, chosen)},
    )
    folder.mkdir(parents=True)
    for name, value in (
        ("config.json", document),
        ("provenance.json", provenance),
        ("results.json", judged),
    ):
        (folder / name).write_text(json.dumps(value, allow_nan=False))
    return folder
