"""The linear path of heads: ridge regressions in closed form, one per repeat and task.

The output of a linear path is added to that of an `FFN`'s output layer. It is an average of ridge
regressions; see `averaged_ridge.py`. Some of them are fitted on standardized features. If
`can_encode` allows it, others are fitted on features encoded by `QuantileBins`, and are sums of
nonlinear functions of single features. If `can_use_kernel` allows it, others are kernel ridge
regressions, which can also represent interactions between features.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from enecg.heads import FFN, TaskHeads
from enecg.laplace_kernel import can_use_kernel
from enecg.quantile_bins import QuantileBins, can_encode
from pipeline.training.averaged_ridge import (
    AveragedRidge,
    RidgeFamily,
    average_regressions,
    weight_regressions,
)
from pipeline.training.kernel_path import (
    TASKS_IN_MEMORY,
    FittedKernels,
    KernelCoefficients,
    KernelMatrices,
    KernelPaths,
)
from pipeline.training.regression_data import RepeatFeatures, RidgeDesigns, encode_targets
from pipeline.training.stack_data import StackedData, prediction_batch_size


@dataclass(frozen=True)
class LinearPaths:
    """The linear paths of all repeats and tasks.

    Attributes:
        weight: Coefficients of the standardized features, or of their encoding; 0 for outputs that
            a task does not have.
        bias: Intercepts; 0 for outputs that a task does not have.
        encoders: Encoding of the features of each repeat; None without encoding.
        kernels: Kernel ridge regressions of each repeat; None without them.
    """

    weight: Float[Tensor, "repeat task output feature"]
    bias: Float[Tensor, "repeat task output"]
    encoders: tuple[QuantileBins, ...] | None = None
    kernels: tuple[KernelPaths, ...] | None = None

    def count_landmarks(self, repeat: int) -> int:
        """Return the number of landmarks of a repeat's kernel ridge regressions."""
        return 0 if self.kernels is None else len(self.kernels[repeat].landmarks)

    def copy_to(self, repeat: int, heads: TaskHeads) -> None:
        """Copy the linear paths of a repeat into heads.

        Args:
            repeat: Index of the repeat.
            heads: Heads with linear paths.
        """
        if self.encoders is not None:
            assert heads.encode is not None
            heads.encode.edges = self.encoders[repeat].edges.clone()
        for task, ffn in enumerate(heads.ffn.values()):
            assert isinstance(ffn, FFN)
            assert ffn.linear is not None
            outputs = ffn.linear.out_features
            with torch.no_grad():
                ffn.linear.weight.copy_(self.weight[repeat, task, :outputs])
                ffn.linear.bias.copy_(self.bias[repeat, task, :outputs])
        if self.kernels is not None:
            self.kernels[repeat].copy_to(heads)

    def predict(self, data: StackedData, repeat: int) -> Float[Tensor, "task record output"]:
        """Compute the outputs of all tasks for all records of a repeat, without kernels.

        Args:
            data: Features of the records.
            repeat: Index of the repeat.

        Returns:
            Standardized values or logits; 0 for outputs that a task does not have.
        """
        encoder = None if self.encoders is None else self.encoders[repeat]
        rows = torch.arange(data.rows.shape[1], device=self.weight.device)
        features = RepeatFeatures(data, repeat, rows, encoder)
        weight = self.weight[repeat].flatten(0, 1).T
        size = prediction_batch_size(encoder)
        parts = [features[start : start + size] @ weight for start in range(0, len(rows), size)]
        output: Tensor = torch.cat(parts).unflatten(1, self.weight.shape[1:3]).transpose(0, 1)
        return output + self.bias[repeat].unsqueeze(1)


@dataclass(frozen=True)
class FittedPaths:
    """Linear paths and their predictions, which are standardized values or logits.

    Attributes:
        train: Paths fitted on training records.
        refit: Paths fitted on training and validation records.
        outputs: Predictions of `train` for all records.
        left_out: Equal to `outputs`, except for labeled training records: each is predicted with
            coefficients that are fitted on the training records of all other patients.
        refit_left_out: Predictions for labeled validation records. Each is predicted with
            coefficients that are fitted on the training and validation records of all other
            patients. 0 for all other records.
    """

    train: LinearPaths
    refit: LinearPaths
    outputs: Float[Tensor, "repeat task record output"]
    left_out: Float[Tensor, "repeat task record output"]
    refit_left_out: Float[Tensor, "repeat task record output"]


def fit_linear_paths(data: StackedData, *, nonlinear: bool) -> tuple[FittedPaths, FittedPaths]:
    """Fit the linear paths of all repeats and tasks.

    Args:
        data: Features, labels and split of the records of each repeat.
        nonlinear: Whether to fit regressions on encoded features and kernel regressions, too.

    Returns:
        Averages of regressions on standardized features, and averages of all regressions. The
        second equal the first if `nonlinear` is false or if `can_encode` is false.

    Raises:
        UserError: A temporary file cannot be allocated; see `MappedTensor`.
    """
    size = data.rows.shape[1], data.embedding.shape[1]
    sources = _find_sources(data)
    encode = nonlinear and can_encode(*size)
    use_kernel = encode and can_use_kernel(*size)
    encoders: dict[int, QuantileBins] = {}
    kernels: dict[int, FittedKernels] = {}
    fits: dict[tuple[int, int, int], tuple[_Fit, _Fit]] = {}
    for index in set(sources):
        matrices, designs = None, [RidgeDesigns(data, index)]
        if encode:
            encoder = encoders[index] = _fit_encoder(data, index)
            designs.append(RidgeDesigns(data, index, encoder))
            matrices = KernelMatrices(data, index, encoder) if use_kernel else None
        every = range(len(data.tasks))
        step = TASKS_IN_MEMORY if use_kernel else len(every)
        for first in every[::step]:
            for tasks in _group_by_labels(data, index, every[first : first + step]):
                for version, task, fit in _fit_tasks(data, tasks, designs, matrices):
                    fits[version, index, task] = fit
        if matrices is not None:
            coefficients = (_select_kernels(fits, version, index) for version in (0, 1))
            kernels[index] = matrices.join(data, *coefficients)
    ridge = _predict_paths(data, {key: fit[0] for key, fit in fits.items()}, sources, {}, {})
    if not encoders:
        return ridge, ridge
    averages = {key: fit[1] for key, fit in fits.items()}
    return ridge, _predict_paths(data, averages, sources, encoders, kernels)


def _find_sources(data: StackedData) -> list[int]:
    """Return for each repeat the index of the first repeat with the same records and labels.

    Trials of a sweep are repeats that share the tensor `rows`; their paths are fitted only once.
    """
    first: dict[int, int] = {}
    return [first.setdefault(id(repeat.rows), index) for index, repeat in enumerate(data.repeats)]


@dataclass(frozen=True)
class _Fit:
    """Linear path of one repeat and task, and left-out predictions.

    Attributes:
        rows: Row indices of the labeled records on which the path is fitted.
        weight: Coefficients of the features or of their encoding.
        bias: Intercepts.
        kernel: Coefficients of the kernel values of the records in `rows`; None without a kernel.
        selected: Row indices of the records of `left_out`.
        left_out: Left-out predictions.
    """

    rows: Int[Tensor, " row"]
    weight: Float[Tensor, "output feature"]
    bias: Float[Tensor, " output"]
    kernel: Float[Tensor, "output row"] | None
    selected: Int[Tensor, " selected"]
    left_out: Float[Tensor, "selected output"]

    @classmethod
    def of(
        cls, average: AveragedRidge, rows: Int[Tensor, " row"], selected: Int[Tensor, " selected"]
    ) -> "_Fit":
        """Create a path. Encoded features begin with the features, so coefficients are added.

        Args:
            average: Average of regressions on features or, in this order, on features, on encoded
                features and on a kernel.
            rows: Row indices of the labeled records.
            selected: Row indices of the records with left-out predictions.

        Returns:
            The path.
        """
        plain, *others = average.coefficients
        weight = (others[0] if others else plain).clone()
        if others:
            weight[:, : plain.shape[1]] += plain
        kernel = others[1].float() if len(others) > 1 else None
        left_out = average.left_out.float()
        return cls(rows, weight.float(), average.bias.float(), kernel, selected, left_out)


def _fit_encoder(data: StackedData, repeat: int) -> QuantileBins:
    """Fit the encoding of the features of a repeat on its training records."""
    features = RepeatFeatures(data, repeat, data.repeats[repeat].train)
    encoder = QuantileBins(features.shape[1]).to(data.embedding.device)
    encoder.fit(features[:])
    return encoder


def _predict_paths(
    data: StackedData,
    fits: Mapping[tuple[int, int, int], _Fit],
    sources: Sequence[int],
    encoders: Mapping[int, QuantileBins],
    kernels: Mapping[int, FittedKernels],
) -> FittedPaths:
    """Join the paths of all repeats and tasks and predict with them.

    Args:
        data: Features, labels and split of the records of each repeat.
        fits: Path by version (0: training records, 1: also validation records), repeat and task,
            for the repeats in `sources`.
        sources: For each repeat, the repeat whose paths it uses.
        encoders: Encoding of the features of each repeat in `sources`; empty without encoding.
        kernels: Kernel ridge regressions of each repeat in `sources`; empty without kernels.

    Returns:
        The paths and their predictions.
    """
    device, features = data.embedding.device, fits[0, 0, 0].weight.shape[1]
    shape = (2, len(data.repeats), len(data.tasks), data.outputs)
    weight = torch.zeros((*shape, features), device=device)
    bias = torch.zeros(shape, device=device)
    for position, fit in fits.items():
        weight[position][: len(fit.bias)] = fit.weight
        bias[position][: len(fit.bias)] = fit.bias
    by_repeat = tuple(encoders[index] for index in sources) if encoders else None
    train, refit = (
        LinearPaths(
            weight[version, sources],
            bias[version, sources],
            by_repeat,
            tuple(kernels[index].paths[version] for index in sources) if kernels else None,
        )
        for version in (0, 1)
    )
    predicted = {index: train.predict(data, index) for index in set(sources)}
    for index, fitted in kernels.items():
        predicted[index] = predicted[index] + fitted.outputs
    outputs = torch.stack([predicted[index] for index in sources])
    left_out = (outputs.clone(), torch.zeros_like(outputs))
    for (version, index, task), fit in fits.items():
        left_out[version][index, task, fit.selected, : len(fit.bias)] = fit.left_out
    return FittedPaths(train, refit, outputs, left_out[0][sources], left_out[1][sources])


def _select_kernels(
    fits: Mapping[tuple[int, int, int], tuple[_Fit, _Fit]], version: int, repeat: int
) -> KernelCoefficients:
    """Return the kernel coefficients of a version and repeat; see `_predict_paths`."""
    return {
        task: (fit.rows, fit.kernel)
        for (fit_version, index, task), (_, fit) in fits.items()
        if (fit_version, index) == (version, repeat) and fit.kernel is not None
    }


def _group_by_labels(data: StackedData, repeat: int, tasks: Sequence[int]) -> list[list[int]]:
    """Group tasks that have the same labeled records."""
    groups: dict[bytes, list[int]] = {}
    unknown = data.encoded[repeat].isnan().cpu().numpy()
    for task in tasks:
        groups.setdefault(unknown[task].tobytes(), []).append(task)
    return list(groups.values())


def _fit_tasks(
    data: StackedData,
    tasks: Sequence[int],
    designs: Sequence[RidgeDesigns],
    kernels: KernelMatrices | None,
) -> Iterator[tuple[int, int, tuple[_Fit, _Fit]]]:
    """Fit the paths of tasks that have the same labeled records.

    The weights of the regressions are those of the fit on training records. With more records, they
    would hardly change, and all left-out predictions would have to be computed again.

    Args:
        data: Labels.
        tasks: Indices of the tasks.
        designs: Designs of the repeat with features and, optionally, with encoded features.
        kernels: Kernels of the tasks; None for no kernel.

    Yields:
        Version (0: training records, 1: also validation records), index of a task, and its paths:
        of regressions on features, and of all regressions.
    """
    index = designs[0].repeat
    repeat, weights = data.repeats[index], {}
    known = ~data.encoded[index, tasks[0]].isnan()
    train, validation = (part[known[part]] for part in (repeat.train, repeat.validation))
    decomposed = zip(*(each.decompose(train, validation) for each in designs), strict=True)
    for version, decompositions in enumerate(decomposed):
        rows = torch.cat([train, validation]) if version else train
        selected = torch.isin(rows, validation if version else train)
        targets = [encode_targets(data, index, rows, task) for task in tasks]
        joined = torch.cat(targets, 1)
        shared = [RidgeFamily.fit(design, joined, selected) for design in decompositions]
        start = 0
        for task, target in zip(tasks, targets, strict=True):
            kind = repeat.targets[data.tasks[task]].task.kind
            outputs = slice(start, start := start + target.shape[1])
            families = [family.select(outputs) for family in shared]
            if kernels is not None:
                families.append(kernels.fit(data, task, rows, target, selected))
            fits = {}
            for count in {1, len(families)}:
                used = families[:count]
                if not version:
                    weights[task, count] = weight_regressions(used, target, kind)
                average = average_regressions(used, target, weights[task, count], kind)
                fits[count] = _Fit.of(average, rows, rows[selected])
            yield version, task, (fits[1], fits[len(families)])
