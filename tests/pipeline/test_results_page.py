"""The results page of run folders written without training."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from made_runs import EXPERTS, make_run, predict

from enecg.errors import UserError
from pipeline.evaluation.predictions import ENSEMBLE
from pipeline.report.page import write_page
from pipeline.runs.results import RunResults, read_results
from pipeline.runs.run_details import read_details


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunResults:
    return read_results(make_run(tmp_path_factory.mktemp("runs") / "first", details=True))


@pytest.fixture(scope="module")
def page(run: RunResults) -> str:
    return write_page(run).read_text()


class Elements(HTMLParser):
    """Parser that collects the elements of a page, their attributes, and headings."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.headings: list[str] = []
        self._tag = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        self._tag = tag

    def handle_data(self, data: str) -> None:
        if self._tag in ("h2", "h3"):
            self.headings.append(data)
            self._tag = ""


def parse(page: str) -> Elements:
    elements = Elements()
    elements.feed(page)
    return elements


def test_details_are_read_back_as_written(run: RunResults):
    details = read_details(run)
    assert list(details.predictions) == [ENSEMBLE, *EXPERTS]
    for task in run.tasks:
        for repeat, read in enumerate(details.ensemble(task)):
            made = predict(task, ENSEMBLE, repeat)
            for name in ("record_id", "patient_id", "truth", "predicted"):
                np.testing.assert_array_equal(getattr(read, name), getattr(made, name))
            if made.probability is not None:
                np.testing.assert_allclose(read.probability, made.probability, rtol=1e-6)
            weights = details.gate_weights[task][repeat]
            np.testing.assert_allclose(weights.sum(1), 1)
            assert weights[:, 0].mean() > 0.7
    assert details.learning_curves[1]["moment"]["age"] == [1.0, 0.6, 0.7]


def test_page_has_a_plot_of_each_kind(page: str):
    headings = parse(page).headings
    for title in ("Scores", "Gate weights", "Learning curves"):
        assert headings.count(title) >= 3
    assert headings.count("Confusion matrix") == headings.count("Calibration") == 2
    assert {
        *("Predicted and true values", "Bland-Altman", "ROC curve", "Precision-recall curve"),
        *("AUROC by class",),
    } <= set(headings)


def test_page_starts_with_the_data_set_the_number_of_experts_and_a_warning(page: str):
    start = page.partition("<main>")[0]
    assert "<h1>EnECG results: mimic-iv-ecg/1.0</h1>" in start
    assert "trained on cached embeddings by 2 experts" in start
    assert "Untrained experts: dlinear. Their weights are random" in start
    assert start.index("Untrained") < start.index("<nav")
    assert "not a medical device" in page


def test_page_without_untrained_experts_has_no_warning(tmp_path: Path):
    folder = make_run(tmp_path / "run", details=True, tasks=("age",))
    text = (folder / "provenance.json").read_text().replace("random:0", "published")
    (folder / "provenance.json").write_text(text)
    assert 'class="warning"' not in write_page(read_results(folder)).read_text()


def test_page_has_no_external_resources_and_no_scripts(page: str):
    elements = parse(page)
    assert not elements.tags & {"script", "link", "iframe", "object", "embed", "base", "form"}
    for name, value in elements.attributes:
        assert not name.startswith("on")
        if name in ("src", "href", "xlink:href"):
            assert value.startswith("#")
    assert "url(#" in page
    assert not re.search(r"url\((?!#)|@import", page)
    assert "default-src 'none'" in page
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f]", page)


def test_names_of_classes_are_not_interpreted_as_markup(page: str):
    assert "a|b &lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert r"$\frac{$" in page


def test_colors_of_plots_follow_the_theme(page: str):
    assert "fill: var(--ensemble)" in page
    drawn = re.findall(r"(?:fill|stroke): (#\w+)", page.partition("<main>")[2])
    assert drawn == []
    declared = set(re.findall(r"(--[\w-]+): #", page))
    assert set(re.findall(r"var\((--[\w-]+)\)", page)) <= declared


def test_page_is_reproducible(tmp_path: Path):
    run = read_results(make_run(tmp_path / "run", details=True, tasks=("age",)))
    page = write_page(run).read_text()
    assert write_page(run, out=tmp_path / "again.html").read_text() == page


def test_run_without_gate_weights_and_curves_has_the_other_plots(tmp_path: Path):
    folder = make_run(tmp_path / "run", details=True, tasks=("age",))
    (folder / "gate_weights.parquet").unlink()
    (folder / "learning_curves.json").unlink()
    headings = parse(write_page(read_results(folder)).read_text()).headings
    assert "Bland-Altman" in headings
    assert not {"Gate weights", "Learning curves"} & set(headings)


@pytest.mark.hostile
@pytest.mark.parametrize("name", ["predictions.parquet", "gate_weights.parquet"])
@pytest.mark.parametrize("content", [b"", b"PAR1", b"x" * 100, b"PAR1x\1\0\0\0PAR1"])
def test_damaged_table_is_a_user_error(name: str, content: bytes, tmp_path: Path):
    folder = make_run(tmp_path / "run", details=True, tasks=("age",))
    (folder / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name} is damaged"):
        write_page(read_results(folder))


@pytest.mark.hostile
@pytest.mark.parametrize(
    ("task", "changes"),
    [
        ("arrhythmia", {"classes": ["only one"]}),
        ("arrhythmia", {"classes": [str(n) for n in range(3)]}),
        ("sex", {"classes": []}),
    ],
)
def test_targets_that_contradict_the_predictions_are_a_user_error(
    task: str, changes: dict[str, object], tmp_path: Path
):
    folder = make_run(tmp_path / "run", details=True, tasks=(task,))
    file = folder / "repeat-0" / "targets.json"
    document = json.loads(file.read_text())
    document["targets"][task] |= changes
    file.write_text(json.dumps(document))
    with pytest.raises(UserError, match="is damaged or was written by another version"):
        read_details(read_results(folder))


@pytest.mark.hostile
def test_task_of_another_kind_is_a_user_error(tmp_path: Path):
    folder = make_run(tmp_path / "run", details=True, tasks=("age",))
    text = (folder / "results.json").read_text()
    (folder / "results.json").write_text(text.replace('"regression"', '"multiclass"'))
    with pytest.raises(UserError, match=r"targets\.json is damaged"):
        write_page(read_results(folder))
