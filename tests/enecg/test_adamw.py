import torch

from enecg.adamw import AdamWParameter, update


def test_updates_equal_those_of_torch():
    """Transposed gradients are included, because the fused kernel of torch ignores strides."""
    torch.manual_seed(0)
    value = torch.randn(5, 3)
    expected = torch.nn.Parameter(value.clone())
    optimizer = torch.optim.AdamW([expected], lr=0.1)
    parameter = AdamWParameter(value)
    for transposed in (True, False, True):
        gradient = torch.randn(3, 5).T if transposed else torch.randn(5, 3)
        update([parameter], [gradient], 0.1)
        expected.grad = gradient.contiguous()
        optimizer.step()
    torch.testing.assert_close(value, expected.detach())
