"""What is fitted on whom within a repeat, seen by what the parts are given."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from enecg.ensembles import ENSEMBLES
from enecg.ensembles.base import EnsembleOutput, HeadOutputs
from enecg.tasks import TASKS
from pipeline.evaluation.thresholds import choose_threshold
from pipeline.training import repeat as module
from pipeline.training.cohorts import draw_cohort
from pipeline.training.features import Features
from pipeline.training.inputs import Inputs
from pipeline.training.labeled_repeat import label_repeat
from pipeline.training.predictions import PredictionBuilder
from pipeline.training.repeat import run_repeats
from pipeline.training.settings import FitSettings

RECORDS = 240
IDS = np.arange(1000, 1000 + RECORDS)
PATIENTS = np.repeat(np.arange(RECORDS // 2), 2)
FEATURES = Features(
    IDS,
    {name: torch.randn(RECORDS, 12, generator=torch.Generator().manual_seed(place))
     for place, name in enumerate(("one", "other"))},
    torch.randn(RECORDS, 6, generator=torch.Generator().manual_seed(9)),
)  # fmt: skip
QUICK = FitSettings(epochs=3, hidden=8)


@pytest.fixture
def inputs() -> Inputs:
    random = np.random.default_rng(0)
    labels = pd.DataFrame(
        {
            "patient_id": PATIENTS,
            "age": random.normal(60, 10, RECORDS),
            "potassium": (random.random(RECORDS) < 0.3).astype(float),
        },
        index=IDS,
    )
    tasks = (TASKS["age"], TASKS["potassium"])
    return Inputs(None, None, IDS, 0, labels, tasks)  # type: ignore[arg-type]


def test_halves_of_the_training_records_share_no_patient(inputs: Inputs):
    labelled = label_repeat(draw_cohort(IDS, PATIENTS, patients=120, seed=0), inputs, FEATURES)
    first, second = (set(PATIENTS[labelled.rows[half].numpy()].tolist()) for half in labelled.folds)
    assert first
    assert second
    assert not first & second
    assert sorted(torch.cat(labelled.folds).tolist()) == labelled.train.tolist()


def test_gate_and_ensembles_learn_from_answers_on_patients_that_the_heads_had_not_seen(
    inputs: Inputs, monkeypatch: pytest.MonkeyPatch
):
    given: list[HeadOutputs] = []
    to_the_gates: list[dict[str, torch.Tensor]] = []

    def spy(outputs: HeadOutputs, seed: int) -> EnsembleOutput | None:
        given.append(outputs)
        return None

    def spied_gates(
        leads: Any, repeats: Any, out_of_fold: Sequence[dict[str, Any]], rest: Any
    ) -> Any:
        to_the_gates.extend(out_of_fold)
        return fit_gates(leads, repeats, out_of_fold, rest)

    fit_gates = module.fit_gates
    monkeypatch.setattr(module, "ENSEMBLES", dict.fromkeys(ENSEMBLES, spy))
    monkeypatch.setattr(module, "fit_gates", spied_gates)
    cohort = draw_cohort(IDS, PATIENTS, patients=120, seed=0)
    run_repeats([cohort], inputs, FEATURES, QUICK, lambda name, fits: None)
    assert len(given) == len(ENSEMBLES) * 2
    for one in given:
        train = one.train
        others = torch.cat([one.validation, torch.arange(len(one.encoded))[-24:]])
        assert torch.equal(one.out_of_fold[:, others], one.outputs[:, others])
        assert not torch.isclose(one.out_of_fold[:, train], one.outputs[:, train]).any()
    for task, out_of_fold in to_the_gates[0].items():
        assert any(torch.equal(out_of_fold, one.out_of_fold) for one in given), task


def test_the_threshold_is_chosen_on_validation_records(inputs: Inputs):
    cohort = draw_cohort(IDS, PATIENTS, patients=120, seed=0)
    labelled = label_repeat(cohort, inputs, FEATURES)
    judge = PredictionBuilder(0, cohort.record_id, inputs.labels, labelled)
    share = torch.rand(RECORDS, generator=torch.Generator().manual_seed(5))
    output = torch.stack([1 - share, share], 1)
    truth = labelled.encoded["potassium"].numpy().astype(int)
    by_part = {
        part: choose_threshold(share.numpy()[rows], truth[rows])
        for part in ("train", "validation", "test")
        for rows in [getattr(labelled, part).numpy()]
    }
    assert len(set(by_part.values())) == 3
    assert judge.choose_threshold("potassium", output) == by_part["validation"]
