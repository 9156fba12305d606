"""Masks and models of self-supervised pretraining."""

import pytest
import torch

from enecg.errors import UserError
from enecg.experts import get_definition
from enecg.experts.reconstruction import draw_mask, squared_errors


def test_masked_fraction_is_in_the_range_and_differs_between_records():
    mask = draw_mask((200, 12, 500), (0.125, 0.5), 1, torch.Generator().manual_seed(0))
    fractions = mask.float().mean((1, 2))
    assert 0.11 < fractions.min() < 0.16
    assert 0.47 < fractions.max() < 0.52


def test_samples_are_masked_in_spans():
    mask = draw_mask((4, 12, 503), (0.5, 0.5), 10, torch.Generator().manual_seed(0))
    cells = mask[..., :500].unflatten(-1, (50, 10)).float().mean(-1)
    assert set(cells.unique().tolist()) == {0.0, 1.0}
    assert mask.shape == (4, 12, 503)


@pytest.mark.parametrize("expert", ["dlinear", "timesnet"])
def test_masked_samples_are_zero_in_the_input_and_each_has_one_error(expert):
    reconstruction = get_definition(expert).reconstruction()
    sizes = {size.name: size.default for size in reconstruction.sizes} | (
        {"model_size": 4, "feed_forward_size": 4, "layers": 1, "kernels": 1, "top_k": 1}
        if expert == "timesnet"
        else {}
    )
    model = reconstruction.make(**sizes)
    series = reconstruction.prepare(torch.randn(2, 12, 5000).cumsum(-1))
    mask = draw_mask((2, 12, 500), (0.3, 0.3), 1, torch.Generator().manual_seed(0))
    errors = squared_errors(model, reconstruction, series, mask)
    assert len(errors) == mask.sum()
    inputs = []
    model.register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
    squared_errors(model, reconstruction, series, mask)
    assert not inputs[0][mask].any()
    assert torch.equal(inputs[0][~mask], series[~mask])


def test_timesnet_with_3_channels_is_rejected():
    reconstruction = get_definition("timesnet").reconstruction()
    sizes = {size.name: size.default for size in reconstruction.sizes}
    with pytest.raises(UserError, match=r"--size: 3 input channels"):
        reconstruction.make(**sizes | {"channels": 3})
