"""Settings of a pretraining run."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from enecg.checked_fields import Count, NotNegative, check_fields
from enecg.errors import UserError
from enecg.experts import get_definition, list_experts
from enecg.experts.reconstruction import Reconstruction
from enecg.experts.settings import ExpertSetting
from pipeline.labels.folds import Folds
from pipeline.training.settings import TrainSettings
from pipeline.waveforms.options import DEFAULT_OPTIONS, DecodeOptions


@dataclass(frozen=True)
class PretrainSettings:
    """Settings of a pretraining run.

    ECGs of test patients are excluded. These are the test patients of `enecg.train` with the same
    `seed`, `repeats`, `patients`, `folds`, `limit` and `records`, or the patients of
    `exclude_records`.

    Attributes:
        sizes: Sizes of the model, ``NAME=VALUE`` each. Default: those of the expert.
        epochs: Maximum number of epochs, at least 1. Default: 20.
        patience: Epochs without a lower validation error after which training stops, at least 1.
            Default: 5.
        batch_size: Records per optimizer step, at least 1. Default: 16.
        learning_rate: Learning rate of Adam, in (0, 1]. Default: 1e-3.
        mask_ratio: Range from which the fraction of masked samples is drawn for each record, in
            (0, 1). Default: (0.125, 0.5).
        mask_length: Consecutive samples of a lead that are masked together, at least 1. Default: 1.
        validation: Fraction of the patients whose ECGs are used for the validation error and to
            choose the epoch, in (0, 1). Default: 0.1.
        seed: Seed of the weights, the masks, the order of records, and the first repeat of the
            split. Default: 0.
        repeats: Repeats of `enecg.train` whose test patients are excluded. Default: 3.
        patients: Patients per repeat of `enecg.train`. Default: 10,000.
        folds: Table of folds whose test patients are excluded, instead of a random draw. Default:
            None.
        exclude_records: File with ids of records whose patients are excluded, instead of the test
            patients of a split; see `read_record_ids`. Default: None.
        limit: Use only the first `limit` records of the index. Default: all.
        records: File of the ids of the records to use; applied before `limit`. Default: all.
        decoding: Options by which records are decoded. Default: ``DecodeOptions()``.
        device: Torch device; ``auto`` selects a GPU if available. Default: ``auto``.
        threads: CPU threads; None uses the cores that other processes leave free. Default: None.
        checkpoint_minutes: Minutes between checkpoints within an epoch. Default: 5.

    Raises:
        UserError: A value has the wrong type or is out of range.
    """

    sizes: tuple[str, ...] = ()
    epochs: Count = 20
    patience: Count = 5
    batch_size: Count = 16
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 1e-3
    mask_ratio: tuple[float, float] = (0.125, 0.5)
    mask_length: Count = 1
    validation: float = 0.1
    seed: Annotated[int, Field(ge=0)] = 0
    repeats: Count = TrainSettings.repeats
    patients: Count = TrainSettings.patients
    folds: Folds | None = None
    exclude_records: str | None = None
    limit: Count | None = None
    records: str | None = None
    decoding: DecodeOptions = DEFAULT_OPTIONS
    device: str = "auto"
    threads: Count | None = None
    checkpoint_minutes: NotNegative = 5.0

    def __post_init__(self) -> None:
        check_fields(self)


def find_reconstruction(expert: str) -> Reconstruction:
    """Return the reconstruction with which an expert is pretrained.

    Args:
        expert: Name of the expert.

    Returns:
        Sizes, constructor, input and output of the model to pretrain.

    Raises:
        UserError: The expert does not exist or cannot be pretrained.
    """
    reconstruction = get_definition(expert).reconstruction
    if reconstruction is None:
        available = [
            name for name in list_experts() if get_definition(name).reconstruction is not None
        ]
        raise UserError(f"{expert} cannot be pretrained; available: {', '.join(available)}.")
    return reconstruction()


def check_settings(settings: PretrainSettings) -> None:
    """Check the settings of a pretraining run.

    Args:
        settings: The settings.

    Raises:
        UserError: `mask_ratio` or `validation` is out of range, or both `folds` and
            `exclude_records` are set.
    """
    low, high = settings.mask_ratio
    if not 0 < low <= high < 1:
        raise UserError(
            f"--mask-ratio {low:g} {high:g} is not a range between 0 and 1; pass the lowest and "
            "the highest fraction, such as 0.125 0.5."
        )
    if not 0 < settings.validation < 1:
        raise UserError(
            f"--validation {settings.validation:g} is not between 0 and 1; pass a fraction of the "
            "patients, such as 0.1."
        )
    if settings.folds is not None and settings.exclude_records is not None:
        raise UserError(
            "--folds and --exclude-records both select the patients to exclude; omit one of them."
        )


def parse_sizes(values: Sequence[str], expert: str) -> dict[str, int]:
    """Parse the values of `--size`.

    Args:
        values: ``NAME=VALUE`` each.
        expert: Name of the expert.

    Returns:
        All sizes of the expert's model by name.

    Raises:
        UserError: A value is malformed, out of range, or of an unknown size; or the expert does not
            exist or cannot be pretrained.
    """
    known: dict[str, ExpertSetting] = {
        size.name: size for size in find_reconstruction(expert).sizes
    }
    sizes = {name: size.default for name, size in known.items()}
    for text in values:
        name, _, value = (part.strip() for part in text.partition("="))
        if name not in known:
            raise UserError(
                f"--size {text}: {expert} has no size {name!r}; available: {', '.join(known)}."
            )
        sizes[name] = known[name].check(value, f"--size {text}")
    return sizes
