"""Run folders written without training, with synthetic predictions of all methods."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from enecg.tasks import TASKS
from pipeline.evaluation.predictions import (
    CONSTANT,
    ENSEMBLE,
    ZERO_SHOT,
    TaskPredictions,
    predictions_table,
)
from pipeline.evaluation.scores import compute_scores
from pipeline.labels.targets import Targets
from pipeline.runs.results_document import results_document

EXPERTS = ("dlinear", "moment")
METHODS = (
    CONSTANT,
    *(ZERO_SHOT + name for name in EXPERTS),
    *EXPERTS,
    "mean",
    "confidence",
    ENSEMBLE,
)
CLASS_NAMES = ("sinus rhythm", "a|b <script>alert(1)</script>", "$\\frac{$", "\x1b[2J Others")
"""Names of the classes of arrhythmia, some of which are not plain text."""
NOISE = {method: 3.0 - position / 3 for position, method in enumerate(METHODS)}
"""SD of the noise added to the truth or to the logits; later methods have less noise."""


def predict(
    task: str, method: str, repeat: int, *, records: int = 60, shuffled: bool = False
) -> TaskPredictions:
    """Predict the truth plus noise, or a constant for `CONSTANT`; patients have two records.

    Args:
        task: Name of the task.
        method: One of `METHODS`.
        repeat: Number of the repeat.
        records: Number of test records.
        shuffled: Whether to predict shuffled labels, so that no prediction is better than chance.

    Returns:
        The predictions.
    """
    rng = np.random.default_rng([repeat, list(TASKS).index(task), METHODS.index(method)])
    truth_rng = np.random.default_rng([repeat, list(TASKS).index(task)])
    record = np.arange(records) + 1000 * repeat
    patient = record // 2
    kind = TASKS[task].kind
    if kind == "regression":
        truth = truth_rng.normal(60, 15, records)
        signal = rng.permutation(truth) if shuffled else truth
        predicted = signal + NOISE[method] * rng.normal(size=records)
        if method == CONSTANT:
            predicted = np.full(records, 60.0)
        return TaskPredictions(TASKS[task], method, repeat, record, patient, truth, predicted)
    classes = 2 if kind == "binary" else 4
    truth = truth_rng.integers(0, classes, records)
    if method == CONSTANT:
        shares = np.full((records, classes), 1 / classes)
        return TaskPredictions(
            TASKS[task], method, repeat, record, patient, truth * 1.0, np.zeros(records), shares
        )
    signal = rng.permutation(truth) if shuffled else truth
    logits = 2 * np.eye(classes)[signal] + NOISE[method] * rng.normal(size=(records, classes))
    probability = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    predicted = probability.argmax(1).astype(float)
    return TaskPredictions(
        TASKS[task], method, repeat, record, patient, truth * 1.0, predicted, probability
    )


def make_run(
    folder: Path,
    *,
    tasks: tuple[str, ...] = ("age", "sex", "arrhythmia"),
    methods: tuple[str, ...] = METHODS,
    repeats: int = 2,
    records: int = 60,
    shuffled: bool = False,
    settings: dict[str, Any] | None = None,
    details: bool = False,
    **config: Any,
) -> Path:
    """Write the files of a run that tables require, in which only dlinear is untrained.

    Args:
        folder: The run folder, which must not exist.
        tasks: Names of the tasks.
        methods: Methods with predictions, among `METHODS`.
        repeats: Number of repeats.
        records: Test records per repeat.
        shuffled: Whether to predict shuffled labels.
        settings: Settings in the configuration that differ from the defaults.
        details: Whether to write the files that plots require, too.
        **config: Other entries of the configuration.

    Returns:
        The run folder.
    """
    predictions = [
        predict(task, method, repeat, records=records, shuffled=shuffled)
        for repeat in range(repeats)
        for method in methods
        for task in tasks
        if method != "confidence" or TASKS[task].kind != "regression"
    ]
    weights = {"dlinear": "random:0", "moment": "published", "leads": "none"}
    provenance = {
        f"{position:016x}": {"expert": name, "weights": one, "dtype": "float16", "dataset": "d/1"}
        for position, (name, one) in enumerate(weights.items())
    }
    extraction = {"started": "2026-01-02", "device": "cuda", "embedded": 90, "embedding_seconds": 3}
    full_config = {
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
        "repeat_records": [800] * repeats,
        "patients": 600,
        "records_left_out": 3,
        "seconds": 20.0,
        "peak_memory_bytes": {"process": 1_500_000_000},
        "stores": [
            {
                "expert": store["expert"],
                "identity": identity,
                "location": f"/stores/{identity}",
                "features": 512,
                "extractions": [extraction] if store["expert"] == "moment" else [],
            }
            for identity, store in provenance.items()
        ],
        "versions": {"torch": "2.9"},
    } | config
    parameters = {"dlinear": (100, 2000), "moment": (1200, 34_000), ENSEMBLE: (1500, 37_000)}
    parameters |= {ZERO_SHOT + name: (0, parameters[name][1]) for name in EXPERTS}
    binary = [task for task in tasks if TASKS[task].kind == "binary"]
    thresholds = [0.25 if number % 2 == 0 else float("inf") for number in range(repeats)]
    results = results_document(
        [TASKS[task] for task in tasks],
        parameters,
        compute_scores(predictions),
        {ENSEMBLE: dict.fromkeys(binary, thresholds)},
    )
    folder.mkdir(parents=True)
    for name, document in (
        ("config.json", full_config),
        ("provenance.json", provenance),
        ("results.json", results),
    ):
        (folder / name).write_text(json.dumps(document, allow_nan=False))
    if details:
        _write_details(folder, predictions, repeats)
    return folder


def _write_details(folder: Path, predictions: list[TaskPredictions], repeats: int) -> None:
    """Write predictions, targets, learning curves, and gate weights that favor the first expert."""
    pq.write_table(predictions_table(predictions), folder / "predictions.parquet")
    rng = np.random.default_rng(0)
    gate, curves = [], []
    for repeat in range(repeats):
        ours = {
            prediction.task.name: prediction
            for prediction in predictions
            if (prediction.method, prediction.repeat) == (ENSEMBLE, repeat)
        }
        documents = {}
        for name, prediction in ours.items():
            probability = prediction.probability
            shape = 0 if probability is None else probability.shape[1]
            classes = TASKS[name].classes or CLASS_NAMES[:shape]
            documents[name] = Targets(TASKS[name], classes).to_document()
            weights = rng.dirichlet([8, 2], len(prediction.truth))
            # The rows of the file need not be in the order of the predictions.
            order = rng.permutation(len(prediction.truth))
            gate.append(
                pa.table(
                    {
                        "task": [name] * len(order),
                        "repeat": [repeat] * len(order),
                        "record_id": prediction.record_id[order],
                        "weights": weights[order].tolist(),
                    }
                )
            )
        (folder / f"repeat-{repeat}").mkdir()
        targets = folder / f"repeat-{repeat}" / "targets.json"
        targets.write_text(json.dumps({"targets": documents, "thresholds": {}}))
        curves.append(
            {method: {name: [1.0, 0.6, 0.7] for name in ours} for method in (*EXPERTS, ENSEMBLE)}
        )
    pq.write_table(pa.concat_tables(gate), folder / "gate_weights.parquet")
    (folder / "learning_curves.json").write_text(json.dumps(curves))
