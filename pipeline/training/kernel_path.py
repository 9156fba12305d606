"""Kernel ridge regressions of linear paths; see `linear_path.py` and `enecg/laplace_kernel.py`."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from enecg.heads import TaskHeads
from enecg.laplace_kernel import feature_rates, laplace_kernels, laplace_matrices
from enecg.quantile_bins import QuantileBins
from enecg.ridge import RidgeDesign
from pipeline.training.averaged_ridge import PENALTIES, RidgeFamily
from pipeline.training.regression_data import RepeatFeatures, encode_targets
from pipeline.training.stack_data import StackedData

TASKS_IN_MEMORY = 5
"""Number of tasks whose kernels are in memory at a time. Kernels of several tasks are computed
faster together."""


KernelCoefficients = Mapping[int, tuple[Int[Tensor, " landmark"], Float[Tensor, "output landmark"]]]
"""Row indices of the labeled records, which are the landmarks, and coefficients of their kernel
values, by index of the task."""


@dataclass(frozen=True)
class KernelPaths:
    """The kernel ridge regressions of all tasks of a repeat.

    Attributes:
        landmarks: Standardized features of the training and validation records.
        rates: Weights of the features in the kernel.
        weight: Coefficients of the kernel values of the landmarks. They are 0 for outputs that a
            task does not have and for landmarks on which it is not fitted.
    """

    landmarks: Float[Tensor, "landmark feature"]
    rates: Float[Tensor, "task feature"]
    weight: Float[Tensor, "task output landmark"]

    def copy_to(self, heads: TaskHeads) -> None:
        """Copy the regressions into heads with a kernel path."""
        path = heads.kernel
        assert path is not None
        path.landmarks = self.landmarks.clone()
        for task, rates, weight in zip(path.weight, self.rates, self.weight, strict=True):
            path.rates[task].copy_(rates)
            path.weight[task].copy_(weight[: len(path.weight[task])])


@dataclass(frozen=True)
class FittedKernels:
    """Kernel ridge regressions of a repeat and their predictions.

    Attributes:
        paths: Regressions on training records, and those on training and validation records.
        outputs: Predictions of the regressions on training records, without intercepts.
    """

    paths: tuple[KernelPaths, KernelPaths]
    outputs: Float[Tensor, "task record output"]


class KernelMatrices:
    """The kernels of all tasks between the training and validation records of a repeat.

    The weights of features in a kernel depend on labels. Therefore, each task has three kernels:
    with the weights by the labels of all training records, of the first fold and of the second.
    The kernels of `TASKS_IN_MEMORY` tasks are in memory at a time. Records have the same indices as
    in the repeat, whose training and validation records come first.

    Args:
        data: Features, labels and split of the records.
        repeat: Index of the repeat.
        encoder: Bins of the features.
    """

    def __init__(self, data: StackedData, repeat: int, encoder: QuantileBins) -> None:
        self.repeat, split = repeat, data.repeats[repeat]
        fitted = torch.cat([split.train, split.validation])
        self.features = RepeatFeatures(data, repeat, fitted)[:]
        rates = []
        for part in (split.train, *split.folds):
            for task in range(len(data.tasks)):
                rows = part[~data.encoded[repeat, task, part].isnan()]
                targets = encode_targets(data, repeat, rows, task)
                rates.append(feature_rates(self.features[rows], targets, encoder))
        self.rates = torch.stack(rates).unflatten(0, (3, len(data.tasks)))
        self._tasks, self._values = range(0), torch.empty(0)

    def values(self, task: int) -> Float[Tensor, "3 record record"]:
        """Return the kernels of a task, computing those of several tasks if necessary.

        Args:
            task: Index of the task.

        Returns:
            The kernel values.
        """
        if task not in self._tasks:
            self._values = torch.empty(0)  # frees the memory first
            first = task - task % TASKS_IN_MEMORY
            rates = self.rates[:, first : first + TASKS_IN_MEMORY]
            self._tasks = range(first, first + rates.shape[1])
            matrices = laplace_matrices(self.features, rates.flatten(0, 1))
            self._values = matrices.unflatten(0, rates.shape[:2])
        values: Tensor = self._values[:, task - self._tasks.start]
        return values

    def fit(
        self,
        data: StackedData,
        task: int,
        rows: Int[Tensor, " row"],
        targets: Float[Tensor, "row output"],
        selected: Bool[Tensor, " row"],
    ) -> RidgeFamily:
        """Fit the kernel ridge regressions of a task.

        A left-out training record of one fold is predicted with the kernel that depends on the
        labels of the other fold.

        Args:
            data: Split of the records.
            task: Index of the task.
            rows: Row indices of the labeled records.
            targets: Targets of these records.
            selected: Mask of the records to predict, with all or no records of a patient.

        Returns:
            The regressions.
        """
        repeat = data.repeats[self.repeat]
        patients = repeat.patients[rows]
        first, *by_fold = self.values(task)[:, rows][..., rows]
        in_folds = [torch.isin(rows, fold) & selected for fold in repeat.folds]
        in_no_fold = selected & ~torch.stack(in_folds).any(0)
        family = RidgeFamily.fit(
            RidgeDesign.from_kernel(first.double(), patients), targets, in_no_fold
        )
        left_out = first.new_zeros((len(PENALTIES), *targets.shape), dtype=torch.float64)
        left_out[:, in_no_fold] = family.left_out
        for in_fold, kernel in zip(in_folds, reversed(by_fold), strict=True):
            if in_fold.any():
                design = RidgeDesign.from_kernel(kernel.double(), patients)
                left_out[:, in_fold] = RidgeFamily.fit(design, targets, in_fold).left_out
        return replace(family, left_out=left_out[:, selected])

    def join(
        self, data: StackedData, train: KernelCoefficients, refit: KernelCoefficients
    ) -> FittedKernels:
        """Join the regressions of all tasks and predict with them.

        Args:
            data: Features of the records.
            train: Coefficients of regressions on training records, by index of the task.
            refit: Coefficients of regressions on training and validation records.

        Returns:
            The regressions and their predictions.
        """
        count, device = data.rows.shape[1], self.features.device
        paths = self._pad(data.outputs, train), self._pad(data.outputs, refit)
        rows = torch.arange(len(self.features), count, device=device)  # test records and padding
        others = RepeatFeatures(data, self.repeat, rows)[:]
        tested = laplace_kernels(others, self.features, self.rates[0])
        outputs = [
            torch.cat([self.values(task)[0], kernel]) @ weight.T
            for task, (kernel, weight) in enumerate(zip(tested, paths[0].weight, strict=True))
        ]
        return FittedKernels(paths, torch.stack(outputs))

    def _pad(self, outputs: int, coefficients: KernelCoefficients) -> KernelPaths:
        """Set the coefficients of outputs and landmarks that a task does not have to 0."""
        shape = len(coefficients), outputs, len(self.features)
        weight = torch.zeros(shape, device=self.features.device)
        for task, (rows, fitted) in coefficients.items():
            weight[task, : len(fitted), rows] = fitted
        return KernelPaths(self.features, self.rates[0], weight)
