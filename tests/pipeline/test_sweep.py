"""Hyperparameter search on the stores of the synthetic data set."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
from quick_runs import RANDOM, copy_stores

from enecg.errors import UserError
from pipeline.report.sweep_page import plot_trials, write_sweep
from pipeline.training.settings import FitSettings, TrainSettings
from pipeline.training.sweep import TABLE, Sweep, SweepSettings, sweep
from pipeline.training.sweep_space import Space, check_space
from pipeline.training.sweep_study import DEFINITION, JOURNAL, tabulate_trials

SETTINGS = TrainSettings(
    weights=RANDOM, tasks=("rr_interval", "sex"), fit=FitSettings(epochs=2, hidden=8)
)
SPACE = Space(rank=(2, 4), adaptation=("lora", "linear"), gate_depth=(1,))


@pytest.fixture(scope="module")
def dataset(synthetic_dir: Path) -> str:
    return f"mimic-iv-ecg:{synthetic_dir}"


@pytest.fixture(scope="module")
def store(synthetic_stores: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_stores(synthetic_stores, tmp_path_factory.mktemp("stores"), "timesnet")


def run(dataset: str, store: Path, out: Path, trials: int, **overrides: object) -> Sweep:
    settings = replace(SETTINGS, **overrides)  # type: ignore[arg-type]
    return sweep(dataset, store, out, SweepSettings(settings, SPACE, trials, batch=4))


def test_sweep_resumes_and_reports_all_trials(dataset: str, store: Path, tmp_path: Path):
    first = run(dataset, store, tmp_path / "sweep", 4)
    assert len(first.trials) == 4
    resumed = run(dataset, store, tmp_path / "sweep", 6)
    assert len(resumed.trials) == 6
    assert set(first.trials["loss"]) <= set(resumed.trials["loss"])
    assert resumed.loss == resumed.trials["loss"].min() <= first.loss
    assert len(set(resumed.trials["learning_rate"])) == 6  # no trial is repeated
    definition = tmp_path / "sweep" / DEFINITION
    older = json.loads(definition.read_text())
    # Remove settings that earlier versions did not have.
    del (
        older["settings"]["records"],
        older["settings"]["decoding"],
        older["settings"]["fit"]["balance"],
    )
    definition.write_text(json.dumps(older))
    assert len(run(dataset, store, tmp_path / "sweep", 6).trials) == 6
    definition.write_text(json.dumps(older | {"settings": older["settings"] | {"seed": 7}}))
    with pytest.raises(UserError, match="contains a sweep with other options"):
        run(dataset, store, tmp_path / "sweep", 6)
    definition.write_text("[]")
    with pytest.raises(UserError, match="contains a sweep with other options"):
        run(dataset, store, tmp_path / "sweep", 6)
    saved = pd.read_csv(tmp_path / "sweep" / "trials.csv")
    assert saved["loss"].tolist() == pytest.approx(resumed.trials["loss"].tolist())
    text, page = write_sweep(resumed), (tmp_path / "sweep" / "sweep.html").read_text()
    assert "Best trials" in text
    assert 'aria-label="Relative loss by trial and by setting"' in page
    for expected in (
        "RR interval, Sex. Data: ",
        f" patients of {resumed.summary.dataset}.",
        "timesnet (random:0)",
        "Untrained experts: timesnet. Their weights are random",
    ):
        assert expected in text
        assert expected in page


def make_table(hyperparameters: list[dict[str, object]]) -> pd.DataFrame:
    """Tabulate one trial for each dictionary of hyperparameters, with increasing losses."""
    return tabulate_trials(
        [
            optuna.trial.create_trial(
                value=number / 10,
                params=params,
                distributions={
                    name: optuna.distributions.CategoricalDistribution([value])  # type: ignore[list-item]
                    for name, value in params.items()
                },
            )
            for number, params in enumerate(hyperparameters)
        ]
    )


def test_ranks_are_integers_even_if_some_trials_have_no_rank():
    table = make_table([{"adaptation": "lora", "rank": 8}, {"adaptation": "full"}])
    last_cells = [line.rpartition(",")[2] for line in table.to_csv(index=False).split()]
    assert last_cells == ["rank", "8", ""]


def test_plot_has_a_panel_with_sorted_values_for_each_varied_hyperparameter():
    table = make_table(
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


def test_folder_of_a_different_sweep_or_with_other_files_is_rejected(
    dataset: str, store: Path, tmp_path: Path
):
    run(dataset, store, tmp_path / "sweep", 1)
    with pytest.raises(UserError, match="contains a sweep with other options"):
        run(dataset, store, tmp_path / "sweep", 2, seed=5)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("")
    with pytest.raises(UserError, match="is not empty and does not contain a sweep"):
        run(dataset, store, tmp_path / "thesis", 1)


@pytest.mark.parametrize("name", [TABLE, JOURNAL])
def test_unwritable_file_is_a_user_error_and_the_sweep_resumes(
    name: str, dataset: str, store: Path, tmp_path: Path
):
    folder = tmp_path / "sweep"
    first = run(dataset, store, folder, 1)
    saved = (folder / name).rename(tmp_path / "saved")
    (folder / name).symlink_to(tmp_path / "missing" / "file")
    with pytest.raises(UserError, match=f"{folder} cannot be written .*repeat the command"):
        run(dataset, store, folder, 1)
    saved.rename(folder / name)
    assert run(dataset, store, folder, 1).loss == first.loss


def test_kill_while_the_definition_is_written_does_not_prevent_a_sweep(
    dataset: str, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def write_a_part(path: Path, text: str, encoding: str) -> None:
        path.write_bytes(text.encode(encoding)[:20])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", write_a_part)
        with pytest.raises(KeyboardInterrupt):
            run(dataset, store, tmp_path / "sweep", 1)
    assert len(run(dataset, store, tmp_path / "sweep", 1).trials) == 1


def test_kill_while_a_result_is_written_loses_only_that_trial(
    dataset: str, store: Path, tmp_path: Path
):
    first = run(dataset, store, tmp_path / "sweep", 2).trials.set_index("trial")["loss"]
    journal = tmp_path / "sweep" / JOURNAL
    os.truncate(journal, journal.stat().st_size - 10)
    for trials in (2, 3):
        resumed = run(dataset, store, tmp_path / "sweep", trials).trials
        assert len(resumed) == trials
        assert first[0] in resumed["loss"].tolist()


def test_trials_trained_in_one_pass_equal_trials_trained_separately(
    dataset: str, store: Path, tmp_path: Path
):
    space = Space(rank=(4,), adaptation=("lora",), gate_depth=(1,))
    settings = replace(SETTINGS, fit=replace(SETTINGS.fit, dropout=0.0))
    together = sweep(dataset, store, tmp_path / "a", SweepSettings(settings, space, trials=3))
    for _, trial in together.trials.iterrows():
        rate = trial["learning_rate"]
        fixed = replace(space, learning_rate=(rate, rate))
        separate = sweep(
            dataset, store, tmp_path / f"{rate}", SweepSettings(settings, fixed, trials=1)
        )
        assert separate.loss == pytest.approx(trial["loss"], rel=1e-3)


def test_unknown_adaptation_is_rejected(dataset: str, store: Path, tmp_path: Path):
    settings = SweepSettings(SETTINGS, Space(adaptation=("magic",)), trials=1)
    with pytest.raises(
        UserError, match=r"Unknown adaptation 'magic' .*available: linear-lora, lora"
    ):
        sweep(dataset, store, tmp_path / "x", settings)


def test_sweep_supports_own_tasks(dataset: str, store: Path, synthetic_dir: Path, tmp_path: Path):
    labels = str(synthetic_dir / "machine_measurements.csv")
    overrides = {"tasks": (), "own_tasks": ("qrs_axis:regression:degrees",), "labels": labels}
    assert len(run(dataset, store, tmp_path / "sweep", 2, **overrides).trials) == 2


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"rank": (0,)}, r"--ranks must be integers of at least 1 \(given: 0\)"),
        ({"gate_depth": ()}, r"--gate-depths must be .* \(given: none\)"),
        ({"learning_rate": (1e-2, 1e-4)}, r"--learning-rates must be .* \(given: 0.01, 0.0001\)"),
        (
            {"learning_rate": (1e-2, float("inf"))},
            r"--learning-rates must be .* \(given: 0.01, inf\)",
        ),
        ({"adaptation": ("lore",)}, r"Unknown adaptation 'lore' .*available: linear-lora, lora"),
        ({"pooling": ()}, "--adaptations and --poolings must each have at least one value"),
    ],
)
def test_invalid_search_space_raises_user_error(overrides: dict[str, object], message: str):
    with pytest.raises(UserError, match=message):
        check_space(replace(SPACE, **overrides))  # type: ignore[arg-type]
