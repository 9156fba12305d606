import json

import pytest

from enecg.ecg_format import LEADS
from enecg.experts import Preprocessing, get_definition


def test_default_describes_the_decoded_record():
    assert Preprocessing().as_json() == {
        "sample_rate_hz": 500.0,
        "windows": 1,
        "window_steps": 5000,
        "window_stride_steps": 5000,
        "resampling": "none",
        "padding": "none",
        "normalization": "none",
        "leads": list(LEADS),
    }


@pytest.mark.parametrize(
    ("steps", "windows", "sample_rate_hz"), [(500, 1, 50.0), (512, 1, 51.2), (512, 4, 204.8)]
)
def test_sampling_rate_follows_from_steps_and_windows(
    steps: int, windows: int, sample_rate_hz: float
):
    preprocessing = Preprocessing.resampled(steps, windows=windows, normalization="zscore")
    assert preprocessing.sample_rate_hz == sample_rate_hz
    assert preprocessing.window_steps == preprocessing.window_stride_steps == steps


def test_description_is_equal_after_a_json_round_trip():
    values = Preprocessing.resampled(500, normalization="zscore", leads=("II", "V1")).as_json()
    assert json.loads(json.dumps(values)) == values


def test_filters_are_json_values():
    values = get_definition("ecgfounder").preprocessing.as_json()
    assert json.loads(json.dumps(values)) == values
    assert values["filtering"] == {
        "notch_hz": 50.0,
        "notch_quality": 30.0,
        "band_hz": [0.67, 40.0],
        "band_order": 4,
        "baseline_steps": 201,
    }


@pytest.mark.parametrize("field", ["resampling", "padding", "normalization"])
def test_unknown_value_is_an_error(field: str):
    with pytest.raises(ValueError, match="'other' is not one of none, "):
        Preprocessing(**{field: "other"})  # type: ignore[arg-type]


def test_text_contains_the_leads_unless_all_are_used():
    assert str(Preprocessing.resampled(512, windows=4, normalization="model")) == (
        "12 leads, 4 windows of 512 samples at 204.8 Hz, normalization: model"
    )
    sampled = Preprocessing.resampled(500, normalization="none", leads=("II", "V1"))
    assert str(sampled) == "leads II, V1, 500 samples at 50 Hz, normalization: none"
