"""Settings of a training run."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from enecg.checked_fields import Count, NotNegative, Positive, check_fields
from enecg.laplace_kernel import can_use_kernel
from enecg.quantile_bins import can_encode
from pipeline.extraction.request import StoreSelection
from pipeline.labels.folds import Folds
from pipeline.training.cohorts import EcgsPerPatient
from pipeline.waveforms.options import DEFAULT_OPTIONS, DecodeOptions

Adaptation = Literal["linear-lora", "lora", "full", "linear", "shared-lora"]
"""Method of training the heads:

- ``linear-lora``: regularized linear layers on the features, their quantile bins and a kernel, in
  closed form, plus the head of ``lora`` as a correction that starts at 0.
- ``lora``: the hidden layer is frozen with random weights; a LoRA adapter and the output layer are
  trained (EnECG, arXiv 2511.22935).
- ``full``: all layers are trained.
- ``linear``: a regularized linear layer in closed form on the features alone.
- ``shared-lora``: one hidden layer per expert is trained jointly on all tasks and then frozen; each
  task trains its own LoRA adapter and output layer.
"""

Units = Annotated[int, Field(ge=1, le=16_384)]
"""Number of units of a hidden layer."""

WORKING_COPIES = 6
"""Memory for training the heads of an expert, as a multiple of its float16 embeddings: the
embeddings, a float64 copy for ridge regressions, and intermediate results."""

ENCODED_COPIES = 270
"""The same multiple for ridge regressions on encoded features (`QuantileBins`), measured where it
is largest, with as many records as encoded features: seven float64 Gram matrices."""

KERNEL_BYTES = 120
"""Memory for kernel ridge regressions per pair of records: three float32 kernels of each of five
tasks, float64 copies of those of one task, and two decompositions; see `KernelMatrices`."""


@dataclass(frozen=True)
class FitSettings:
    """Hyperparameters of the heads and the gate.

    Attributes:
        batch_size: Records per optimizer step, at least 1. Default: 64.
        epochs: Maximum number of epochs, at least 1. With many records, an epoch uses only some of
            them; see `count_steps`. Default: 100.
        patience: Number of epochs without improvement of the validation loss after which the
            training of a task stops, at least 1. Default: 10.
        adaptation: Method of training the heads; see `Adaptation`. Default: ``linear-lora``.
        rank: Rank of the LoRA update, 1 to 1,024. Default: 8.
        alpha: LoRA alpha, above 0; the update is scaled by ``alpha / rank``. Default: 16.
        dropout: Dropout probability in heads and gate, in [0, 1). Default: 0.1.
        hidden: Units of each head's hidden layer, 1 to 16,384. Default: 128.
        learning_rate: Learning rate of AdamW, in (0, 1]. Default: 1e-3.
        gate_depth: Hidden layers of the gate, at least 1. Default: 1.
        gate_hidden: Units of each hidden layer of the gate, 1 to 16,384. Default: 128.
        gate_weights: Whether the gate computes one set of expert weights per ``task``, or one per
            ``output`` (class) of each task. Default: ``task``.
        gate_input: Input of the gate: the log ``spectrum`` of the sampled leads, or their
            ``samples`` (as in the paper). Default: ``spectrum``.
        mixture: Whether the gate averages the experts' ``probabilities`` of classes and labels, or
            their ``logits`` (as in the paper). Default: ``probabilities``.
        top_k: Number of experts with a nonzero weight per record; 0 uses all. Default: 0.
        balance: Weight of the load-balancing loss, which penalizes unequal mean weights of the
            experts; at least 0. Default: 0.
        memory_limit: Memory in GB for embeddings and tensors that are computed from them, above 0.
            If the embeddings of all experts exceed a quarter of it, they are read expert by expert.
            On a CPU, float64 features and outputs of frozen layers above an eighth of it are in
            temporary files. It also limits `max_threads`. Results do not depend on it. Default: 4.

    Raises:
        UserError: A value has the wrong type or is out of range.
    """

    batch_size: Count = 64
    epochs: Count = 100
    patience: Count = 10
    adaptation: Adaptation = "linear-lora"
    rank: Annotated[int, Field(ge=1, le=1024)] = 8
    alpha: Positive = 16.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    hidden: Units = 128
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 1e-3
    gate_depth: Count = 1
    gate_hidden: Units = 128
    gate_weights: Literal["task", "output"] = "task"
    gate_input: Literal["spectrum", "samples"] = "spectrum"
    mixture: Literal["probabilities", "logits"] = "probabilities"
    top_k: Annotated[int, Field(ge=0)] = 0
    balance: NotNegative = 0.0
    memory_limit: Positive = 4.0

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def max_tensor_bytes(self) -> int:
        """Size in bytes above which a tensor for training is written to a temporary file."""
        return int(self.memory_limit * 1e9 / 8)

    @property
    def max_cache_bytes(self) -> int:
        """Size in bytes of all experts' embeddings above which each is read when it is used."""
        return int(self.memory_limit * 1e9 / 4)

    def max_threads(self, records: int, longest: int, features: int) -> int:
        """Return the number of experts whose heads can be trained at the same time.

        Args:
            records: Number of records of all repeats together.
            longest: Number of records of the largest repeat.
            features: Size of the embeddings.

        Returns:
            The number for which half of `memory_limit` suffices, at least 1.
        """
        needed = WORKING_COPIES * 2 * records * features
        if self.adaptation == "linear-lora" and can_encode(longest, features):
            needed += ENCODED_COPIES * 2 * longest * features
            if can_use_kernel(longest, features):
                needed += KERNEL_BYTES * longest**2
        return max(1, int(self.memory_limit * 1e9 / 2 / max(1, needed)))


@dataclass(frozen=True)
class TrainSettings:
    """Tasks, data, cohorts and hyperparameters of a training run.

    Attributes:
        tasks: Names of the paper's tasks and of custom tasks; ``all`` selects every task that has
            labels. Default: the custom tasks or, without any, every task that has labels.
        own_tasks: Custom tasks, ``NAME:KIND``, ``NAME:regression:UNIT``, ``NAME:binary:POSITIVE``
            or ``NAME:multilabel:COLUMN+COLUMN``, as parsed by `enecg.tasks.parse_task`. They are
            always trained.
        labels: CSV or Parquet file of labels. Default: the data set's own labels.
        missing_values: Values that mean missing in a label column, ``COLUMN=VALUE``. Default: none.
        experts: Names of the experts. Default: all experts with matching stores.
        weights: Weights of the experts, ``CHOICE`` or ``EXPERT@CHOICE``. Default: ``published``.
        pooling: Pooling of the experts, ``CHOICE`` or ``EXPERT@CHOICE``. Default: ``default``.
        precision: Precision of the experts' computation, ``CHOICE`` or ``EXPERT@CHOICE``.
            Default: ``float32``.
        dtype: Data type of the embeddings, ``float16`` or ``float32``. Default: ``float16``.
        expert_settings: Hyperparameters of the experts, ``EXPERT.NAME=VALUE``. Default: stores
            with any hyperparameters.
        decoding: Options by which the records were decoded. Default: ``DecodeOptions()``.
        device: Torch device; ``auto`` selects a GPU if available. Default: ``auto``.
        folds: Table of folds that splits the records instead of a random draw of patients;
            repeats then differ only in their seeds. Default: None.
        threads: Maximum number of threads that train on a CPU; see `run_repeats`. 0 selects the
            number of cores. Results do not depend on it. Default: 0.
        repeats: Number of repeats, each with a different random cohort. Default: 3.
        patients: Number of patients per cohort; must not be set with `folds`. Default: 10,000.
        ecgs: Whether to use ``all`` ECGs of a patient or ``one`` at random. Default: ``all``.
        seed: Seed of the first repeat; the others use ``seed + 1``, ``seed + 2``, ... Default: 0.
        limit: Use only the first `limit` records of the index. Default: all.
        records: File of the ids of the records to use, as read by `read_record_ids`; applied
            before `limit`. Default: all.
        exclude_pretrained: Whether to exclude test patients on whose ECGs an expert was pretrained,
            instead of raising an error. Default: False.
        pretraining_patients: Paths of files that list the patients of pretraining runs, if they
            are not in the folder of the weights. Default: none.
        label_fractions: Fractions of the training and validation patients to train on in
            addition, for label-efficiency curves, each above 0 and at most 1. Default: none.
        baselines: ``random`` (seed 0) or ``random:SEED``: for each expert with published weights or
            weights from a file, also evaluate the same expert with random weights. These are not
            part of the gate or of ensembles. Default: none.
        leave_one_out: Whether to also train, for each expert, a gate over the other experts.
            Default: False.
        base: Folder of a ``shared-lora`` run whose frozen hidden layers are reused, together
            with its stores, cohorts and hidden size. Default: None.
        fit: Hyperparameters of the heads and the gate.

    Raises:
        UserError: A value has the wrong type or is out of range.
    """

    tasks: tuple[str, ...] = ()
    own_tasks: tuple[str, ...] = ()
    labels: str | None = None
    missing_values: tuple[str, ...] = ()
    experts: tuple[str, ...] = ()
    weights: tuple[str, ...] = ("published",)
    pooling: tuple[str, ...] = ("default",)
    precision: tuple[str, ...] = ("float32",)
    dtype: Literal["float16", "float32"] = "float16"
    expert_settings: tuple[str, ...] = ()
    decoding: DecodeOptions = DEFAULT_OPTIONS
    device: str = "auto"
    threads: Annotated[int, Field(ge=0)] = 0
    folds: Folds | None = None
    repeats: Count = 3
    patients: Count = 10_000
    ecgs: EcgsPerPatient = "all"
    seed: Annotated[int, Field(ge=0)] = 0
    limit: Count | None = None
    records: str | None = None
    exclude_pretrained: bool = False
    pretraining_patients: tuple[str, ...] = ()
    label_fractions: tuple[float, ...] = ()
    baselines: str | None = None
    leave_one_out: bool = False
    base: str | None = None
    fit: FitSettings = field(default_factory=FitSettings)

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def stores(self) -> StoreSelection:
        """The stores to train from."""
        return StoreSelection(
            self.experts,
            self.weights,
            self.pooling,
            self.dtype,
            self.expert_settings,
            self.decoding,
            self.precision,
        )
