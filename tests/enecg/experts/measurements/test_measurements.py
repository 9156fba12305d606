"""The expert `measurements`: conformance, names, imputation and precision."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conformance.expert_tests import ExpertTests
from constructed_ecgs import make_ecg, measure_one, regular_beats

from enecg.ecg_format import LEADS
from enecg.errors import UserError
from enecg.experts import ExpertOption, load_expert
from enecg.experts.measurements.measure import FEATURES, LIMIT, measure

PAGE = Path(__file__).resolve().parents[4] / "docs" / "measurements.md"


@pytest.fixture(scope="module")
def expert():
    return load_expert("measurements")


@pytest.fixture(scope="module")
def variants():
    return []


class TestMeasurementsConform(ExpertTests):
    differentiable = False


def varied_ecgs(count: int) -> np.ndarray:
    return np.stack(
        [
            make_ecg(
                regular_beats(0.5 + 0.02 * number),
                noise_mv=0.01 + 0.004 * (number % 9),
                seed=number,
            )
            * (0.5 + 0.05 * number)
            for number in range(count)
        ]
    )


def test_features_are_bitwise_independent_of_the_batch():
    ecgs = varied_ecgs(40)
    together = measure(ecgs)
    assert np.array_equal(np.concatenate([measure(ecg[None]) for ecg in ecgs]), together)
    order = np.random.default_rng(0).permutation(40)
    assert np.array_equal(measure(ecgs[order]), together[order])


def test_features_have_unique_names_units_descriptions_and_known_flags():
    names = [feature.name for feature in FEATURES]
    assert len(set(names)) == len(names)
    flags = {feature.flag for feature in FEATURES} - {""}
    assert flags == {"has_beats", "has_rr", "has_rr_changes", "has_p_wave", "has_t_wave"}
    assert flags < set(names)
    assert all(feature.unit and feature.description for feature in FEATURES)


def test_noise_has_flags_of_zero_and_default_features():
    rng = np.random.default_rng(0)
    values = measure_one(0.1 * rng.standard_normal((12, 5000)))
    for feature in FEATURES:
        if feature.flag:
            assert values[feature.flag] == 0
            assert values[feature.name] == feature.default


def test_non_finite_sample_makes_all_features_nan():
    ecgs = varied_ecgs(3)
    ecgs[1, 4, 100] = np.nan
    values = measure(ecgs)
    assert np.isnan(values[1]).all()
    assert np.isfinite(values[[0, 2]]).all()


@pytest.mark.parametrize("scale", [1e-6, 1e3, 1e6])
def test_implausible_voltages_have_finite_features(scale: float):
    values = measure(scale * varied_ecgs(4))
    assert np.isfinite(values.astype(np.float16)).all()
    assert np.abs(values).max() <= LIMIT


def test_float16_represents_qt_and_mean_rr_within_half_a_millisecond():
    """Stores are float16 by default, with a significand of 11 bits."""
    values = measure(varied_ecgs(20))
    stored = values.astype(np.float16).astype(np.float64)
    index = {feature.name: column for column, feature in enumerate(FEATURES)}
    error = np.abs(stored - values).max(0)
    assert error[index["qt_interval"]] <= 0.25  # ms, an eighth of a sample
    assert error[index["rr_mean"]] <= 0.5


def test_expert_has_no_weights():
    spec = load_expert("measurements", "random:3").spec
    assert spec == load_expert("measurements").spec
    assert spec.weights == "none"
    assert not spec.untrained
    with pytest.raises(UserError, match="measurements has no weights; remove measurements@random"):
        ExpertOption.parse("--weights", ["measurements@random:0"]).check_experts(["measurements"])


def test_expert_supports_no_pooling():
    with pytest.raises(UserError, match="measurements does not support pooling 'mean'"):
        load_expert("measurements", pooling="mean")


def test_float64_input_has_the_same_float32_embedding():
    ecg = torch.from_numpy(varied_ecgs(1))
    embedding = load_expert("measurements").embed(ecg.double())
    assert embedding.dtype == torch.float32
    assert torch.equal(embedding, load_expert("measurements").embed(ecg))


def documented_row(feature, leads: bool) -> str:
    name = re.sub(r"_II$", "_LEAD", feature.name) if leads else feature.name
    description = feature.description.removeprefix("II: ")
    default = "by lead" if leads else f"{feature.default:g}" if feature.flag else ""
    flag = f"`{feature.flag}`" if feature.flag else ""
    return f"| `{name}` | {feature.unit} | {description} | {flag} | {default} |"


def test_every_feature_is_documented():
    """The tables of docs/measurements.md match the code; a feature of all leads has one row."""
    per_lead = re.compile(rf"_({'|'.join(LEADS)})$")
    kinds = {per_lead.sub("", f.name) for f in FEATURES if f.name.endswith("_aVF")}
    expected = []
    for feature in FEATURES:
        kind = per_lead.sub("", feature.name)
        if kind not in kinds:
            expected.append(documented_row(feature, leads=False))
        elif feature.name.endswith("_II"):
            expected.append(documented_row(feature, leads=True))
    text = PAGE.read_text(encoding="utf-8")
    _, tables = text.split("\n## Features\n")
    rows = [line for line in tables.splitlines() if line.startswith("| `")]
    assert rows == expected, "\n".join(expected)
    assert f"{len(FEATURES)} features" in text
