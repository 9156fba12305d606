"""The checks of array shapes are active in this test run."""

from importlib import import_module

import pytest
import torch
from jaxtyping import TypeCheckError
from shape_checks import MODULES

from enecg.signal import resample


@pytest.mark.parametrize("name", MODULES)
def test_module_is_imported_with_checks(name: str):
    assert type(import_module(name).__loader__).__module__.startswith("jaxtyping")


def test_array_of_another_dtype_is_rejected():
    with pytest.raises(TypeCheckError):
        resample(torch.zeros(1, 12, 5000, dtype=torch.int64), 500)
