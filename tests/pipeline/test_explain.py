"""`explain` on a run of synthetic patients: shares, files, refused records, classes."""

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from quick_runs import QUICK, RANDOM

from enecg.attribution.windows import WINDOWS
from enecg.errors import UserError
from enecg.experts import FrozenExpert
from flows.cli import enecg
from flows.run_app import run_app
from pipeline.datasets.mimic_iv_ecg import MimicIvEcg
from pipeline.explain import explain
from pipeline.explanation.ecgs import draw_cohort
from pipeline.explanation.explained_output import explained_output
from pipeline.explanation.options import ExplainOptions
from pipeline.explanation.results import ExplanationResult
from pipeline.prediction.live_run import load_run
from pipeline.report.explanation_figure import plot_explanation
from pipeline.report.explanation_files import write_explanation
from pipeline.report.explanation_tables import largest_relative_error, record_table, to_long_csv
from pipeline.train import train
from pipeline.training.settings import TrainSettings
from pipeline.waveforms.errors import UnreadableRecord

EXPERTS = ("dlinear", "measurements")


@pytest.fixture(scope="module")
def run(
    synthetic_dir: Path, synthetic_stores: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("explained") / "run"
    settings = TrainSettings(experts=EXPERTS, weights=RANDOM, repeats=1, fit=QUICK)
    dataset = f"mimic-iv-ecg:{synthetic_dir}"
    return train(dataset, synthetic_stores, out, settings=settings, page=False).folder


@pytest.fixture(scope="module")
def explained(
    run: Path, synthetic_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[ExplanationResult, Path]:
    out = tmp_path_factory.mktemp("why") / "page"
    options = ExplainOptions(cohort=2, references=2, steps=16)
    result = explain(run, MimicIvEcg(synthetic_dir), options=options, out=out)
    return result, out


def test_cohort_is_drawn_from_patients_that_the_run_was_not_trained_on(
    explained: tuple[ExplanationResult, Path], run: Path
):
    result, _ = explained
    (cohort,) = json.loads((run / "cohorts.json").read_text())
    seen = {str(record) for part in ("train", "validation") for record in cohort[part]}
    names = {record.ecg.record_id for record in result.records}
    assert len(names) == 2
    assert not names & seen
    assert set(result.settings["baseline_records"]) <= seen


def test_records_of_the_baseline_are_not_explained(
    run: Path, synthetic_dir: Path, monkeypatch: pytest.MonkeyPatch
):
    """Without training patients in the data set, cohort and baseline are drawn from all records."""
    monkeypatch.setattr(MimicIvEcg, "namespace", "other/1")
    dataset = MimicIvEcg(synthetic_dir)
    index = dataset.index().record_id.tolist()
    first = draw_cohort(load_run(run, repeat=0).saved, dataset, repeat=0, seed=0)[0]

    def refuse_first(row: int) -> np.ndarray:
        if str(index[row]) == first:
            raise UnreadableRecord("unreadable", "A file is damaged.")
        return MimicIvEcg.read(dataset, row)

    monkeypatch.setattr(dataset, "read", refuse_first)
    result = explain(run, dataset, options=ExplainOptions(cohort=1, references=2, steps=2))
    assert result.refusals[0].record_id == first
    (explained,) = result.records
    assert explained.ecg.record_id not in result.settings["baseline_records"]


def test_explaining_a_run_does_not_change_its_precision(run: Path):
    live = load_run(run, repeat=0)
    expert = live.experts["dlinear"]
    assert isinstance(expert, FrozenExpert)
    expert.spec = replace(expert.spec, precision="bfloat16")
    output = explained_output(live, "age")
    assert live.experts["dlinear"].spec.precision == "bfloat16"
    explained = output.experts["dlinear"]
    assert isinstance(explained, FrozenExpert)
    assert explained.spec.precision == "float32"
    assert explained.model is expert.model


def test_shares_sum_to_one_and_contributions_to_the_change_of_the_output(
    explained: tuple[ExplanationResult, Path],
):
    result, _ = explained
    assert result.methods == (*EXPERTS, "EnECG")
    for record in result.records:
        assert record.methods["measurements"].shares is None
        for method in ("dlinear", "EnECG"):
            one = record.methods[method]
            assert one.shares is not None
            assert sum(one.shares.values()) == pytest.approx(1)
            assert one.shares["QRS"] > record.ecg.windows.seconds()["QRS"] / 10
    error = largest_relative_error(result)
    assert error is not None
    assert error < 1e-3


def test_page_and_tables_name_untrained_experts_and_the_largest_error(
    explained: tuple[ExplanationResult, Path],
):
    result, out = explained
    page = (out / "explanation.html").read_text()
    text = (out / "explanation.md").read_text()
    for content in (page, text):
        assert "not a medical device" in content
        assert "Untrained experts: dlinear." in content
        assert "Largest error" in content
    assert page.count("<svg ") == 2
    assert not re.search(r'(src|href)="(?!#|data:)', page)
    document = json.loads((out / "explanation.json").read_text())
    assert [row["record_id"] for row in document["records"]] == [
        record.ecg.record_id for record in result.records
    ]
    rows = list(csv.DictReader((out / "shares.csv").read_text().splitlines()))
    assert len(rows) == 2 * 3 * len(WINDOWS)
    for row in rows:
        one = next(r for r in result.records if r.ecg.record_id == row["record_id"])
        shares = one.methods[row["method"]].shares
        expected = "" if shares is None else f"{shares[row['window']]:.6f}"
        assert row["share"] == expected


def test_expert_without_gradients_has_figures_of_the_first_records_only(
    explained: tuple[ExplanationResult, Path], tmp_path: Path
):
    records = [
        replace(record, methods={"measurements": record.methods["measurements"]})
        for record in [*explained[0].records] * 2
    ]
    write_explanation(replace(explained[0], records=records), tmp_path / "why")
    figures = sorted(path.name for path in (tmp_path / "why").glob("figure-*"))
    assert figures == ["figure-1.svg", "figure-2.svg", "figure-3.svg"]
    write_explanation(replace(explained[0], records=records[:1]), tmp_path / "why")
    assert [path.name for path in (tmp_path / "why").glob("figure-*")] == ["figure-1.svg"]


def test_records_that_cannot_be_explained_are_refused_with_a_reason(
    run: Path, synthetic_dir: Path, capsys: pytest.CaptureFixture[str]
):
    dataset = MimicIvEcg(synthetic_dir)
    index = dataset.index().record_id.tolist()
    unreadable = next(str(index[row]) for row in range(len(index)) if not is_readable(dataset, row))
    readable = next(str(index[row]) for row in range(len(index)) if is_readable(dataset, row))
    arguments = ["explain", readable, unreadable, "7", "--run", str(run), "--steps", "2"]
    arguments += ["--dataset", f"mimic-iv-ecg:{synthetic_dir}", "--references", "2"]
    assert run_app(enecg(), [*arguments, "--task", "sex"]) == 1
    printed = capsys.readouterr().out
    assert "**Refused records**" in printed
    assert re.search(r"\| 7 +\| unknown_record ", printed)
    assert re.search(rf"\| {unreadable} +\| \w+ +\| .*\.dat", printed)
    assert re.search(r"\| record +\| class +\| method +\| output, probability ", printed)
    assert re.search(rf"\| {readable} +\| male +\| dlinear ", printed)


def test_regression_without_a_unit_is_not_a_probability(explained: tuple[ExplanationResult, Path]):
    result = replace(explained[0], unit="")
    assert record_table(result).heading[:3] == ("record", "method", "output")
    assert to_long_csv(result).splitlines()[0].endswith(",share,occlusion_effect")
    figure = plot_explanation(result, result.records[0])
    assert re.search(r"\n[\d.]+; integrated gradients$", figure.texts[0].get_text())


def is_readable(dataset: MimicIvEcg, row: int) -> bool:
    try:
        dataset.read(row)
    except UnreadableRecord:
        return False
    return True


def test_output_is_checked_before_anything_is_computed(
    run: Path, synthetic_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "file").touch()
    monkeypatch.setattr("pipeline.explain.load_run", lambda *_: pytest.fail("a run was loaded"))
    with pytest.raises(UserError, match=r"file/why cannot be written \(Not a directory\)"):
        explain(
            *(run, MimicIvEcg(synthetic_dir)),
            options=ExplainOptions(cohort=1),
            out=tmp_path / "file" / "why",
        )


def test_user_errors_are_reported(run: Path, synthetic_dir: Path):
    dataset = MimicIvEcg(synthetic_dir)
    with pytest.raises(UserError, match="Pass either the ids"):
        explain(run, dataset)
    one = ExplainOptions(cohort=1, references=2, steps=2)
    with pytest.raises(UserError, match=r"no task 'qrs'; available: rr_interval"):
        explain(run, dataset, task="qrs", options=one)
    with pytest.raises(UserError, match="has no classes; omit --class"):
        explain(run, dataset, options=ExplainOptions(cohort=1, references=2, class_name="male"))
    with pytest.raises(UserError, match=r"no class 'x'; available: female, male"):
        explain(
            *(run, dataset),
            task="sex",
            options=ExplainOptions(cohort=1, references=2, class_name="x"),
        )
    with pytest.raises(UserError, match="lower --references"):
        explain(run, dataset, options=ExplainOptions(cohort=1, references=9999))
