"""Kernel ridge regressions of linear paths; see `linear_path.py` and `enecg/laplace_kernel.py`."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from enecg.heads import TaskHeads
from enecg.laplace_kernel import feature_rates, laplace_kernels, laplace_matrices
from enecg.quantile_bins import QuantileBins
from enecg.ridge import RidgeDesign
from pipeline.training.averaged_ridge import RidgeFamily
from pipeline.training.regression_data import RepeatFeatures, encode_targets
from pipeline.training.stack_data import StackedData


@dataclass(frozen=True)
class KernelCoefficients:
    """Coefficients of a task's kernel ridge regressions.

    Attributes:
        rows: Row indices of the labeled records, which are the landmarks.
        weight: Coefficients of their kernel values.
    """

    rows: Int[Tensor, " landmark"]
    weight: Float[Tensor, "output landmark"]


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
        """Copy the regressions into heads with a kernel path.

        Args:
            heads: The heads.
        """
        path = heads.kernel
        assert path is not None
        path.landmarks = self.landmarks.clone()
        for task, rates, weight in zip(path.weight, self.rates, self.weight, strict=True):
            path.rates[task].copy_(rates)
            path.weight[task].copy_(weight[: len(path.weight[task])])


@dataclass(frozen=True)
class KernelMatrices:
    """The kernels of all tasks between the training and validation records of a repeat.

    The weights of features in a kernel depend on labels. Therefore, each task has three kernels:
    with the weights by the labels of all training records, of the first fold and of the second.

    Attributes:
        repeat: Index of the repeat.
        features: Standardized features of the training and validation records.
        rates: Weights of the features in the kernels.
        values: The kernels.
    """

    repeat: int
    features: Float[Tensor, "record feature"]
    rates: Float[Tensor, "3 task feature"]
    values: Float[Tensor, "3 task record record"]

    @classmethod
    def compute(cls, data: StackedData, repeat: int, encoder: QuantileBins) -> "KernelMatrices":
        """Compute the kernels of a repeat.

        Args:
            data: Features, labels and split of the records.
            repeat: Index of the repeat.
            encoder: Bins of the features.

        Returns:
            The kernels.
        """
        split = data.repeats[repeat]
        features = RepeatFeatures(data, repeat, torch.cat([split.train, split.validation]))[:]
        rates = []
        for part in (split.train, *split.folds):
            for task in range(len(data.tasks)):
                rows = part[~data.encoded[repeat, task, part].isnan()]
                targets = encode_targets(data, repeat, rows, task)
                rates.append(feature_rates(features[rows], targets, encoder))
        stacked = torch.stack(rates)
        shape = 3, len(data.tasks)
        values = laplace_matrices(features, stacked).unflatten(0, shape)
        return cls(repeat, features, stacked.unflatten(0, shape), values)

    def fit(
        self,
        data: StackedData,
        task: int,
        rows: Int[Tensor, " row"],
        targets: Float[Tensor, "row output"],
    ) -> RidgeFamily:
        """Fit the kernel ridge regressions of a task.

        A left-out training record of one fold is predicted with the kernel that depends on the
        labels of the other fold.

        Args:
            data: Split of the records.
            task: Index of the task.
            rows: Row indices of the labeled records.
            targets: Targets of these records.

        Returns:
            The regressions.
        """
        repeat = data.repeats[self.repeat]
        patients = repeat.patients[rows]
        first, *by_fold = self.values[:, task, rows][..., rows].double()
        family = RidgeFamily.fit(RidgeDesign.from_kernel(first, patients), targets)
        for fold, kernel in zip(repeat.folds, reversed(by_fold), strict=True):
            selected = torch.isin(rows, fold)
            if selected.any():
                design = RidgeDesign.from_kernel(kernel, patients)
                left_out = RidgeFamily.fit(design, targets).left_out
                family.left_out[:, selected] = left_out[:, selected]
        return family

    def predict(self, data: StackedData, paths: KernelPaths) -> Float[Tensor, "task record output"]:
        """Compute the outputs of all tasks for all records of the repeat.

        Args:
            data: Features of the records.
            paths: Kernel ridge regressions of the repeat.

        Returns:
            The outputs.
        """
        count, device = data.rows.shape[1], self.features.device
        rows = torch.arange(len(self.features), count, device=device)  # test records and padding
        others = RepeatFeatures(data, self.repeat, rows)[:]
        tested = laplace_kernels(others, self.features, self.rates[0])
        return torch.cat([self.values[0], tested], 1) @ paths.weight.mT

    def join(self, outputs: int, coefficients: Mapping[int, KernelCoefficients]) -> KernelPaths:
        """Join the regressions of all tasks.

        Args:
            outputs: Largest number of outputs of any task.
            coefficients: Coefficients by index of the task.

        Returns:
            The regressions.
        """
        shape = self.rates.shape[1], outputs, len(self.features)
        weight = torch.zeros(shape, device=self.features.device)
        for task, fitted in coefficients.items():
            weight[task, : len(fitted.weight), fitted.rows] = fitted.weight
        return KernelPaths(self.features, self.rates[0], weight)
