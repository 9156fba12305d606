"""Plot of the reconstruction errors of a pretraining run by epoch."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.pretraining.state import EpochErrors
from pipeline.report.theme import ENSEMBLE_COLOR, EXPERT_COLOR


def plot_pretraining(
    epochs: Sequence[EpochErrors], best_epoch: int, interpolation: float, title: str
) -> Figure:
    """Plot training and validation error by epoch, on a logarithmic scale.

    Args:
        epochs: Errors before training and after each epoch.
        best_epoch: Number of the epoch whose weights are used; 0 is before training.
        interpolation: Validation error if masked samples are linearly interpolated, as mean squared
            error in units of each lead's variance.
        title: Title of the plot.

    Returns:
        The figure.
    """
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    numbers = [errors.epoch for errors in epochs]
    validation = [errors.validation for errors in epochs]
    trained = [(errors.epoch, errors.training) for errors in epochs if errors.training is not None]
    axes.plot(numbers, validation, "o-", color=ENSEMBLE_COLOR, markersize=4, label="validation")
    if trained:
        axes.plot(*zip(*trained, strict=True), "-", color=EXPERT_COLOR, label="training")
    axes.axhline(interpolation, color="grey", linestyle="--", label="linear interpolation")
    axes.axvline(best_epoch, color="grey", linestyle=":", linewidth=1, label="epoch used")
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch")
    axes.set_ylabel("mean squared error of masked samples\n(variance of a lead = 1)")
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    return figure
