"""Scores of gradient boosting on the measurements, compared with a constant predictor.

    python benchmarks/measurement_scores.py --ptb-xl data/ptb-xl --ludb data/ludb

The benchmark evaluates scikit-learn's HistGradientBoosting with 200 iterations and a learning rate
of 0.05 in a 5-fold cross-validation by patient, repeated twice. An MAE is a mean (± SD) over all
folds. An AUROC is computed over all predictions of a repeat, and averaged over the repeats.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold

from enecg.experts.measurements.measure import measure
from pipeline.datasets.base import Dataset
from pipeline.datasets.ludb import Ludb
from pipeline.datasets.ptb_xl import PtbXl

FOLDS, REPEATS = 5, 2
BOOSTING = {"max_iter": 200, "learning_rate": 0.05, "random_state": 0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ptb-xl", type=Path, help="folder of PTB-XL")
    parser.add_argument("--ludb", type=Path, help="folder of LUDB 1.0.1")
    arguments = parser.parse_args()
    print("| data set | task | records | constant | measurements |\n|---|---|--:|--:|--:|")
    if arguments.ptb_xl:
        features, labels, patients = load(PtbXl(arguments.ptb_xl))
        report_age("PTB-XL", features, labels, patients)
        report_class("PTB-XL", "sex", labels["sex"], features, patients)
        norm = labels["scp_superclass"].map(lambda value: value == "NORM", na_action="ignore")
        report_class("PTB-XL", "NORM or another superclass", norm, features, patients)
    if arguments.ludb:
        features, labels, patients = load(Ludb(arguments.ludb))
        report_age("LUDB", features, labels, patients)
        fibrillation = labels["diagnosis"].str.lower() == "atrial fibrillation"
        report_class("LUDB", "atrial fibrillation", fibrillation, features, patients)


def load(data: Dataset) -> tuple[np.ndarray, pd.DataFrame, np.ndarray]:
    index = data.index()
    ecgs = np.stack([data.read(row) for row in range(len(index.record_id))])
    return measure(ecgs), data.labels(), index.patient_id


def splits(patients: np.ndarray, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield training and test rows of a cross-validation by patient."""
    folds = GroupKFold(FOLDS, shuffle=True, random_state=seed)
    yield from folds.split(patients, groups=patients)


def report_age(name: str, features: np.ndarray, labels: pd.DataFrame, patients: np.ndarray) -> None:
    """Print the MAE of age predictions, and that of predicting the median training age."""
    age = labels["age"].to_numpy(float)
    known = np.isfinite(age)
    features, age, patients = features[known], age[known], patients[known]
    errors, constant = [], []
    for seed in range(REPEATS):
        for train, test in splits(patients, seed):
            model = HistGradientBoostingRegressor(loss="absolute_error", **BOOSTING)
            predicted = model.fit(features[train], age[train]).predict(features[test])
            errors.append(np.abs(predicted - age[test]).mean())
            constant.append(np.abs(np.median(age[train]) - age[test]).mean())
    print(
        f"| {name} | age, MAE years | {len(age)} | {np.mean(constant):.1f} "
        f"| {np.mean(errors):.1f} ± {np.std(errors):.1f} |"
    )


def report_class(
    name: str, task: str, labels: pd.Series, features: np.ndarray, patients: np.ndarray
) -> None:
    """Print the AUROC of predictions of a binary label."""
    known = labels.notna().to_numpy()
    classes = labels[known].to_numpy().astype(int)
    features, patients = features[known], patients[known]
    scores = []
    for seed in range(REPEATS):
        predicted = np.zeros(len(classes))
        for train, test in splits(patients, seed):
            model = HistGradientBoostingClassifier(**BOOSTING)
            model.fit(features[train], classes[train])
            predicted[test] = model.predict_proba(features[test])[:, 1]
        scores.append(roc_auc_score(classes, predicted))
    print(f"| {name} | {task}, AUROC | {len(classes)} | 0.500 | {np.mean(scores):.3f} |")


if __name__ == "__main__":
    main()
