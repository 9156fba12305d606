import numpy as np
import pytest
import torch
from scipy.signal import butter, filtfilt, iirnotch, sosfiltfilt, tf2sos

from enecg.zero_phase import BLOCK_STEPS, Sections, filter_zero_phase


def to_sections(sections: np.ndarray) -> Sections:
    return tuple(tuple(map(float, section)) for section in sections)


FILTERS = {
    "notch": to_sections(tf2sos(*iirnotch(50, 30, 500))),
    "band": to_sections(butter(4, (0.67, 40), "bandpass", fs=500, output="sos")),
}


def random_walks(*shape: int) -> np.ndarray:
    """Return random walks; their low frequencies and ends are sensitive to padding at the ends."""
    return np.random.default_rng(0).normal(size=shape).cumsum(-1)


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("steps", [5000, 2 * BLOCK_STEPS, 101])
def test_filtered_series_equal_those_of_scipy(name: str, steps: int):
    series = random_walks(2, 3, steps)
    expected = sosfiltfilt(FILTERS[name], series)
    found = filter_zero_phase(torch.from_numpy(series), FILTERS[name])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * np.abs(series).max())


def test_sections_equal_the_transfer_function_of_the_same_filter():
    series = random_walks(2, 5000)
    expected = filtfilt(*butter(4, (0.67, 40), "bandpass", fs=500), series)
    found = filter_zero_phase(torch.from_numpy(series), FILTERS["band"])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_float32_input_is_filtered_in_float64_under_autocast():
    series = torch.from_numpy(random_walks(2, 5000)).float()
    expected = sosfiltfilt(FILTERS["band"], series.double().numpy())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = filter_zero_phase(series, FILTERS["band"])
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * float(series.abs().max()))


def test_gradient_equals_finite_differences():
    series = torch.from_numpy(random_walks(1, 2 * BLOCK_STEPS)).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda values: filter_zero_phase(values, FILTERS["band"])[:, ::29], series
    )
