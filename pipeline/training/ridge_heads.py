"""Ridge regressions as heads that consist of one linear layer."""

import torch

from enecg.heads import FFN, TaskHeads
from pipeline.training.linear_path import LinearPaths
from pipeline.training.stack_data import StackedData


def extract_ridge(paths: LinearPaths, data: StackedData, repeat: int) -> TaskHeads:
    """Copy the linear paths of a repeat into heads that consist of one linear layer.

    Args:
        paths: The linear paths.
        data: Data of the repeats.
        repeat: Index of the repeat.

    Returns:
        The heads, in evaluation mode.
    """
    targets = data.repeats[repeat].targets
    outputs = {task: target.outputs for task, target in targets.items()}
    with torch.random.fork_rng():  # initial weights are drawn, then overwritten
        heads = TaskHeads(data.embedding.shape[1], outputs, hidden=0, dropout=0.0, depth=0)
    heads.to(data.embedding.device)
    data.copy_standardization(heads.standardise, repeat)
    with torch.no_grad():
        for number, ffn in enumerate(heads.ffn.values()):
            assert isinstance(ffn, FFN)
            size = ffn.prediction.out_features
            ffn.prediction.weight.copy_(paths.weight[repeat, number, :size])
            ffn.prediction.bias.copy_(paths.bias[repeat, number, :size])
    return heads.eval()
