"""Sweeps over stores of the synthetic data set, made once by the training's fixtures."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
from test_train import RANDOM, extract_random

from enecg.errors import UserError
from pipeline.report.sweep_page import plot_trials, write_sweep
from pipeline.training.settings import FitSettings, TrainSettings
from pipeline.training.sweep import Sweep, SweepSettings, sweep
from pipeline.training.sweep_space import Space, check_space
from pipeline.training.sweep_study import tabulate_trials

SETTINGS = TrainSettings(
    weights=RANDOM, tasks=("rr_interval", "sex"), fit=FitSettings(epochs=2, hidden=8)
)
SPACE = Space(rank=(2, 4), adaptation=("lora", "linear"), gate_depth=(1,))


@pytest.fixture(scope="module")
def dataset(synthetic_dir: Path) -> str:
    return f"mimic-iv-ecg:{synthetic_dir}"


@pytest.fixture(scope="module")
def store(dataset: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("stores")
    extract_random(dataset, root, "timesnet")
    return root


def run(dataset: str, store: Path, out: Path, trials: int, **change: object) -> Sweep:
    settings = replace(SETTINGS, **change)  # type: ignore[arg-type]
    return sweep(dataset, store, out, SweepSettings(settings, SPACE, trials, batch=4))


def test_a_sweep_goes_on_where_it_was_and_tells_every_trial(
    dataset: str, store: Path, tmp_path: Path
):
    first = run(dataset, store, tmp_path / "sweep", 4)
    assert len(first.trials) == 4
    more = run(dataset, store, tmp_path / "sweep", 6)
    assert len(more.trials) == 6
    assert set(first.trials["loss"]) <= set(more.trials["loss"])
    assert more.loss == more.trials["loss"].min() <= first.loss
    assert len(set(more.trials["learning_rate"])) == 6  # none is tried twice
    kept = pd.read_csv(tmp_path / "sweep" / "trials.csv")
    assert kept["loss"].tolist() == pytest.approx(more.trials["loss"].tolist())
    text, page = write_sweep(more), (tmp_path / "sweep" / "sweep.html").read_text()
    assert "Best trials" in text
    assert "data:image/png" in page
    for told in (
        "RR interval, Sex. Data: ",
        f" patients of {more.summary.dataset}.",
        "timesnet (random:0)",
        "Untrained experts: timesnet. Their weights are random",
    ):
        assert told in text
        assert told in page


def finished(params: list[dict[str, object]]) -> pd.DataFrame:
    """The table of trials with these settings, the first the best."""
    return tabulate_trials(
        [
            optuna.trial.create_trial(
                value=number / 10,
                params=of_one,
                distributions={
                    name: optuna.distributions.CategoricalDistribution([value])  # type: ignore[list-item]
                    for name, value in of_one.items()
                },
            )
            for number, of_one in enumerate(params)
        ]
    )


def test_a_rank_is_a_whole_number_also_beside_trials_that_have_none():
    table = finished([{"adaptation": "lora", "rank": 8}, {"adaptation": "full"}])
    assert [line.rpartition(",")[2] for line in table.to_csv(index=False).split()] == [
        *("rank", "8", "")
    ]


def test_the_figure_has_settings_that_vary_their_values_in_order_and_whole_decades():
    table = finished(
        [
            {"gate_depth": 2, "rank": 16, "pooling": "default", "learning_rate": 2e-4},
            {"gate_depth": 1, "rank": 2, "pooling": "default", "learning_rate": 3e-3},
            {"gate_depth": 1, "pooling": "default", "learning_rate": 5e-4},
        ]
    )
    panels = {axes.get_xlabel(): axes for axes in plot_trials(table).axes if axes.get_visible()}
    assert list(panels)[1:] == ["gate depth", "rank", "learning rate"]
    for name, values in (("gate depth", ["1", "2"]), ("rank", ["2", "16"])):
        assert [label.get_text() for label in panels[name].get_xticklabels()] == values
    np.testing.assert_array_equal(panels["rank"].lines[0].get_xdata(), [1, 0])
    np.testing.assert_allclose(panels["learning rate"].get_xlim(), [1e-4, 1e-2])
    assert len(panels["learning rate"].get_xticks(minor=True)) == 0


def test_a_folder_of_another_question_is_refused(dataset: str, store: Path, tmp_path: Path):
    run(dataset, store, tmp_path / "sweep", 1)
    with pytest.raises(UserError, match="holds a sweep with other options"):
        run(dataset, store, tmp_path / "sweep", 2, seed=5)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("")
    with pytest.raises(UserError, match="is not a sweep and not empty"):
        run(dataset, store, tmp_path / "thesis", 1)


def test_trials_in_one_pass_lose_what_they_would_alone(dataset: str, store: Path, tmp_path: Path):
    alone = Space(rank=(4,), adaptation=("lora",), gate_depth=(1,))
    settings = replace(SETTINGS, fit=replace(SETTINGS.fit, dropout=0.0))
    together = sweep(dataset, store, tmp_path / "a", SweepSettings(settings, alone, trials=3))
    for _, trial in together.trials.iterrows():
        rate = trial["learning_rate"]
        fixed = replace(alone, learning_rate=(rate, rate))
        one = sweep(dataset, store, tmp_path / f"{rate}", SweepSettings(settings, fixed, trials=1))
        assert one.loss == pytest.approx(trial["loss"], rel=1e-3)


def test_an_adaptation_that_is_none_is_told(dataset: str, store: Path, tmp_path: Path):
    settings = SweepSettings(SETTINGS, Space(adaptation=("magic",)), trials=1)
    with pytest.raises(UserError, match=r"Unknown adaptation 'magic' .*available: lora, full"):
        sweep(dataset, store, tmp_path / "x", settings)


def test_a_question_of_ones_own_is_swept(
    dataset: str, store: Path, synthetic_dir: Path, tmp_path: Path
):
    labels = str(synthetic_dir / "machine_measurements.csv")
    own = {"tasks": (), "own_tasks": ("qrs_axis:regression:degrees",), "labels": labels}
    assert len(run(dataset, store, tmp_path / "sweep", 2, **own).trials) == 2


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"rank": (0,)}, r"--ranks \(0,\) is invalid; give integers of at least 1"),
        ({"gate_depth": ()}, r"--gate-depths \(\) is invalid"),
        ({"learning_rate": (1e-2, 1e-4)}, "--learning-rates 0.01 0.0001 is invalid"),
        ({"learning_rate": (1e-2, float("inf"))}, "--learning-rates 0.01 inf is invalid"),
        ({"adaptation": ("lore",)}, r"Unknown adaptation 'lore' .*available: lora, full"),
        ({"pooling": ()}, "nothing to try"),
    ],
)
def test_what_cannot_be_tried_is_told_before_anything_is(change: dict[str, object], told: str):
    with pytest.raises(UserError, match=told):
        check_space(replace(SPACE, **change))  # type: ignore[arg-type]
