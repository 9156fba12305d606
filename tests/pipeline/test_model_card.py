"""The model card of a run."""

import json
from pathlib import Path

import pytest
from made_runs import make_run
from markdown_it import MarkdownIt

from pipeline.report.model_card import build_card
from pipeline.report.table import format_measure
from pipeline.runs.results import read_results


def test_card_has_use_weights_metrics_and_limits(tmp_path: Path):
    run = read_results(make_run(tmp_path / "run"))
    card = build_card(run)
    for title in ("Intended use", "Model", "Data and training", "Metrics", "Limits", "Use"):
        assert f"\n## {title}\n" in card
    assert "not a medical device" in card
    assert card.index("Untrained experts: dlinear.") < card.index("## Intended use")
    score = run.score("EnECG", "age")
    assert format_measure(score) in card
    row = next(line for line in card.splitlines() if line.startswith("| dlinear"))
    assert "random:0 (untrained: random)" in row
    assert "Apache-2.0" in row


def test_card_without_untrained_experts_has_no_warning(tmp_path: Path):
    folder = make_run(tmp_path / "run")
    text = (folder / "provenance.json").read_text().replace("random:0", "published")
    (folder / "provenance.json").write_text(text)
    assert "ntrained" not in build_card(read_results(folder))


@pytest.mark.hostile
def test_names_and_notes_are_not_interpreted_as_markup(tmp_path: Path):
    hostile = "<img src=x onerror=y> ![x](https://host/x)\n\n# heading"
    folder = make_run(tmp_path / "run", dataset=hostile, notes=[hostile])
    results = json.loads((folder / "results.json").read_text())
    results["tasks"][0]["title"] = hostile
    (folder / "results.json").write_text(json.dumps(results))
    tokens = MarkdownIt("commonmark").enable("table").parse(build_card(read_results(folder)))
    inline = [child for token in tokens for child in token.children or ()]
    assert not {"html_inline", "image", "link_open"} & {child.type for child in inline}
    assert not [token for token in tokens if token.type == "html_block"]
    assert [token.type for token in tokens].count("heading_open") == 7
