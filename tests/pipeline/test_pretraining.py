"""Runs whose experts were pretrained on their data set are marked."""

import json
from pathlib import Path

import pytest
from made_runs import make_run

from enecg.experts import get_definition, list_experts
from pipeline.datasets.mimic_iv_ecg import DEMO_NAMESPACE, NAMESPACE
from pipeline.datasets.ptb_xl import NAMESPACES
from pipeline.report.formats import to_markdown
from pipeline.report.paper_tables import tables_with_notes
from pipeline.report.table import method_label
from pipeline.runs.pretraining_data import find_pretraining_data
from pipeline.runs.results import RunResults, read_results


def make_ecg_fm_run(folder: Path, weights: str, dataset: str) -> RunResults:
    """Write and read a run with the experts dlinear and ecg-fm."""
    make_run(folder, dataset=dataset)
    for name in ("config.json", "provenance.json", "results.json"):
        path = folder / name
        path.write_text(path.read_text().replace('"moment"', '"ecg-fm"'))
    path = folder / "provenance.json"
    provenance = json.loads(path.read_text())
    for store in provenance.values():
        if store["expert"] == "ecg-fm":
            store["weights"] = weights
    path.write_text(json.dumps(provenance))
    return read_results(folder)


def test_expert_pretrained_on_the_data_set_is_marked_and_noted(tmp_path: Path):
    run = make_ecg_fm_run(tmp_path / "run", "checkpoint", NAMESPACE)
    assert method_label("ecg-fm", run) == "ecg-fm (pretrained on this data set)"
    assert method_label("dlinear", run) == "dlinear (untrained, random:0)"
    text = to_markdown(tables_with_notes(run, "2"))
    assert "| ecg-fm (pretrained on this data set) |" in text
    assert (
        "The weights of ecg-fm were pretrained on MIMIC-IV-ECG, which may contain the test "
        f"patients of {NAMESPACE}."
    ) in text


@pytest.mark.parametrize(
    ("weights", "dataset"), [("random:0", NAMESPACE), ("checkpoint", "ludb/1.0.1")]
)
def test_untrained_experts_and_other_data_sets_have_no_warning(
    weights: str, dataset: str, tmp_path: Path
):
    run = make_ecg_fm_run(tmp_path / "run", weights, dataset)
    text = to_markdown(tables_with_notes(run, "2"))
    assert "| ecg-fm" in text
    assert "pretrained" not in text


@pytest.mark.parametrize(
    ("expert", "seen", "unseen"),
    [
        (
            "ecg-fm",
            [NAMESPACE, DEMO_NAMESPACE, *NAMESPACES.values(), "wfdb/challenge-2021"],
            ["ludb/1.0.1", "wfdb/ward", "synthetic/0-200", "mimic-iv-ecg-like/1.0"],
        ),
        ("ecgfounder", ["wfdb/heedb"], [NAMESPACE, *NAMESPACES.values(), "ludb/1.0.1"]),
        ("ecg-jepa", ["wfdb/ecg-arrhythmia"], [NAMESPACE, *NAMESPACES.values(), "ludb/1.0.1"]),
        ("moment", [], [NAMESPACE, *NAMESPACES.values(), "ludb/1.0.1"]),
        ("not-registered", [], [NAMESPACE]),
    ],
)
def test_pretraining_data_are_recognized_by_namespace(
    expert: str, seen: list[str], unseen: list[str]
):
    for dataset in seen:
        assert list(find_pretraining_data(dataset, {expert: "checkpoint"})) == [expert]
    for dataset in unseen:
        assert find_pretraining_data(dataset, {expert: "checkpoint"}) == {}


def test_definitions_with_published_weights_state_their_pretraining_data():
    for definition in map(get_definition, list_experts()):
        assert bool(definition.pretrained_on) == (definition.published is not None)
