"""Maps of stored embeddings, similarity of experts, and nearest neighbors."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from quick_runs import copy_stores
from sklearn.decomposition import PCA

from enecg.errors import UserError
from flows.cli import enecg
from flows.run_app import run_app
from pipeline.browse import MapOptions, plot_stores
from pipeline.embedding_maps import neighbors, similarity
from pipeline.embedding_maps.class_names import name_classes
from pipeline.embedding_maps.neighbors import find_neighbors
from pipeline.embedding_maps.projection import project
from pipeline.embedding_maps.sample import complete_records, draw_records
from pipeline.embedding_maps.selection import select_stores
from pipeline.embedding_maps.similarity import linear_cka
from pipeline.report.embedding_map_page import EmbeddingMap, plot_maps
from stores.reading import read_aligned


@pytest.fixture(scope="module")
def root(synthetic_stores: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stores")
    return copy_stores(synthetic_stores, folder, "dlinear", "measurements")


def test_cka_is_one_after_rotation_and_zero_for_unrelated_embeddings():
    rng = np.random.default_rng(0)
    one = rng.normal(size=(100, 500))
    rotation, _ = np.linalg.qr(rng.normal(size=(500, 500)))
    cka = linear_cka([one, 3 * one @ rotation, rng.normal(size=(100, 400))])
    assert cka[0, 1] == pytest.approx(1, abs=1e-4)
    # The biased estimate is 0.8 here.
    assert abs(cka[0, 2]) < 0.1
    np.testing.assert_allclose(np.diag(cka), 1)


def test_cka_is_that_of_whole_gram_matrices_for_any_block_size(monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(60, 4))
    embeddings = [3 + shared @ rng.normal(size=(4, size)) for size in (5, 90)]
    grams = [embedding @ embedding.T for embedding in embeddings]

    def hsic(first: np.ndarray, second: np.ndarray) -> float:
        """Return the estimator as in equation 5 of Song et al. (JMLR 13:1393, 2012)."""
        first, second = first - np.diag(np.diag(first)), second - np.diag(np.diag(second))
        product = first.sum() * second.sum() / (59 * 58) - 2 / 58 * (first @ second).sum()
        return float((np.trace(first @ second) + product) / (60 * 57))

    expected = hsic(*grams) / np.sqrt(hsic(grams[0], grams[0]) * hsic(grams[1], grams[1]))
    assert linear_cka(embeddings)[0, 1] == pytest.approx(expected, rel=1e-4)
    monkeypatch.setattr(similarity, "BLOCK_ROWS", 7)
    assert linear_cka(embeddings)[1, 0] == pytest.approx(expected, rel=1e-4)


def test_principal_components_equal_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    scales = 0.8 ** np.arange(60)
    embedding = (rng.normal(size=(100, 60)) * scales).astype(np.float32)
    embedding -= embedding.mean(0)
    reference = PCA(2, svd_solver="full").fit(embedding)
    positions, description = project(embedding, "pca", 0)
    expected = reference.transform(embedding)
    signs = np.sign((positions * expected).sum(0))
    np.testing.assert_allclose(positions * signs, expected, atol=1e-4)
    share = 100 * reference.explained_variance_ratio_.sum()
    assert description == f"{share:.0f} % of the variance"


def test_map_of_a_single_feature_is_a_line():
    embedding = np.linspace(-1, 1, 5, dtype=np.float32)[:, None]
    positions, description = project(embedding, "pca", 0)
    np.testing.assert_allclose(np.abs(positions[:, 0]), np.abs(embedding[:, 0]), rtol=1e-5)
    assert not positions[:, 1].any()
    assert description == "100 % of the variance"


@pytest.mark.slow
def test_umap_is_reproducible_and_does_not_warn():
    pytest.importorskip("umap", reason="umap-learn is missing; pip install umap-learn")
    embedding = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    positions, description = project(embedding, "umap", 0)
    assert (positions.shape, description) == ((40, 2), "UMAP")
    np.testing.assert_array_equal(positions, project(embedding, "umap", 0)[0])


def test_classes_and_the_other_class_have_different_colors():
    color = pd.Series([f"class {number}" for number in range(12)] * 2, name="diagnosis")
    positions = np.random.default_rng(0).normal(size=(24, 2))
    figure = plot_maps([EmbeddingMap("dlinear", "random:0", positions, "")], color)
    points = [artist for artist in figure.axes[0].collections if len(artist.get_offsets())]
    colors = {to_hex(artist.get_facecolor()[0]) for artist in points}
    assert len(colors) == len(points) == 11
    gray = {text for text in colors if len({text[1:3], text[3:5], text[5:]}) == 1}
    assert gray == {"#000000", "#777777"}


def test_page_has_a_map_of_each_expert_and_marks_untrained_ones(
    root: Path, synthetic_dir: Path, tmp_path: Path
):
    out = tmp_path / "map.html"
    options = MapOptions(color="age", sample=20)
    table = plot_stores(root, out, dataset=f"mimic-iv-ecg:{synthetic_dir}", options=options)
    assert table.heading == ("", "dlinear", "measurements")
    assert table.rows[0][1] == table.rows[1][2] == "1.00"
    page = out.read_text()
    assert re.search(r"20 records of synthetic/\S+, drawn at random \(seed 0\);", page)
    assert "Untrained experts: dlinear." in page
    assert page.count("% of the variance") == 2
    assert ">age<" in page
    assert not re.search(r'(src|href)="(?!#|data:)', page)


def test_classes_have_names_instead_of_numbers(root: Path, synthetic_dir: Path, tmp_path: Path):
    out = tmp_path / "map.html"
    plot_stores(root, out, dataset=f"mimic-iv-ecg:{synthetic_dir}", options=MapOptions(color="sex"))
    texts = re.findall(r">([^<>]+)</text>", out.read_text())
    assert {"sex", "female", "male"} <= {*texts}
    sex = pd.Series([0.0, 1.0, None, "unknown"], name="sex", dtype=object)
    assert name_classes(sex).fillna("").tolist() == ["female", "male", "", "unknown"]
    age = pd.Series([0.0, 1.0], name="age")
    assert name_classes(age) is age


def test_page_of_all_records_does_not_mention_a_random_sample(root: Path, tmp_path: Path):
    out = tmp_path / "map.html"
    stores = select_stores(root, None, [])
    everything, is_sample = draw_records(stores, 2000, seed=0)
    assert not is_sample
    for sample in (2000, len(everything)):
        plot_stores(root, out, options=MapOptions(sample=sample))
        page = out.read_text()
        assert "all that have embeddings in every store;" in page
        assert "drawn at random" not in page


def test_neighbors_are_those_of_an_exact_search_for_any_block_size(
    root: Path, monkeypatch: pytest.MonkeyPatch
):
    (store,) = select_stores(root, None, ["dlinear"])
    known = complete_records(store)
    (values,) = read_aligned([store], known, "float32")
    scale = values.std(0)
    scale[scale < 1e-6] = np.inf
    distance = np.sqrt((((values - values[3]) / scale) ** 2).mean(1))
    expected = known[np.argsort(distance)][1:5].tolist()
    found = find_neighbors(store, str(known[3]), count=4)
    assert [neighbor.record_id for neighbor in found] == expected
    np.testing.assert_allclose(
        [neighbor.distance for neighbor in found], np.sort(distance)[1:5], rtol=1e-4
    )
    monkeypatch.setattr(neighbors, "BLOCK_BYTES", 7 * 4 * store.features)
    assert find_neighbors(store, int(known[3]), count=4) == found


def test_command_prints_neighbors_with_their_labels(
    root: Path, synthetic_dir: Path, capsys: pytest.CaptureFixture[str]
):
    (store,) = select_stores(root, None, ["measurements"])
    record = complete_records(store)[0]
    arguments = ["store", "neighbors", str(root), str(record), "--experts", "measurements"]
    arguments += ["--count", "2", "--dataset", f"mimic-iv-ecg:{synthetic_dir}"]
    assert run_app(enecg(), arguments) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split()[:4] == ["expert", "rank", "record", "distance"]
    assert "age" in head
    assert len(lines) == 2
    assert all(re.search(r" (female|male) ", line) for line in lines)


def test_command_prints_neighbors_that_the_data_set_no_longer_contains(
    root: Path, synthetic_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    for path in synthetic_dir.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (store,) = select_stores(root, None, ["measurements"])
    record = complete_records(store)[0]
    records = tmp_path / "record_list.csv"
    head, *lines = records.read_text().splitlines()
    records.unlink()
    records.write_text("\n".join([head, *(line for line in lines if f",{record}," in line), ""]))
    arguments = ["store", "neighbors", str(root), str(record), "--experts", "measurements"]
    assert run_app(enecg(), [*arguments, "--dataset", f"mimic-iv-ecg:{tmp_path}"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert {cell for line in lines for cell in line.split()[4:]} == {"-"}


def test_user_errors_are_reported(root: Path, synthetic_dir: Path, tmp_path: Path):
    out, dataset = tmp_path / "map.html", f"mimic-iv-ecg:{synthetic_dir}"
    with pytest.raises(UserError, match=r"missing is not a folder; change --out"):
        plot_stores(tmp_path / "nowhere", tmp_path / "missing" / "map.html")
    with pytest.raises(UserError, match="--color requires --dataset"):
        plot_stores(root, out, options=MapOptions(color="age"))
    with pytest.raises(UserError, match="has no label 'height'; available: patient_id"):
        plot_stores(root, out, dataset=dataset, options=MapOptions(color="height"))
    with pytest.raises(UserError, match="has no stores of tempo"):
        plot_stores(root, out, options=MapOptions(experts=("tempo",)))
    (store,) = select_stores(root, None, ["dlinear"])
    with pytest.raises(UserError, match="no embedding for record 5"):
        find_neighbors(store, 5, count=1)
