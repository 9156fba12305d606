"""What stacks are trained on: every repeat's records and targets laid out side by side."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from enecg.heads import Standardize
from enecg.stacked import StackedFFN
from pipeline.labels.targets import Targets
from pipeline.training.stack import PADDING

RECORDS_AT_ONCE = 8192
"""Records whose predictions are made together: float32 copies of all of them would not fit."""


@dataclass(frozen=True)
class Labelled:
    """One repeat's records and targets.

    `rows`: of the features, the training, validation and test records after each other; all other
    numbers count along them. `encoded`: every task's targets, NaN where unknown. `halves`: the
    training records again, by patient.
    """

    targets: dict[str, Targets]
    rows: Int[Tensor, " record"]
    encoded: dict[str, Float[Tensor, " record"]]
    train: Int[Tensor, " row"]
    validation: Int[Tensor, " row"]
    test: Int[Tensor, " row"]
    halves: tuple[Int[Tensor, " row"], Int[Tensor, " row"]]
    seed: int


@dataclass(frozen=True)
class StackedData:
    """What a stack is trained on: one array of features, and every repeat's records of it.

    Rows are padded to the repeat with the most records. `mean`, `scale`: of each repeat's
    training records. `outputs`: the most that any task has in any repeat.
    """

    embedding: Float[Tensor, "all feature"]
    repeats: tuple[Labelled, ...]
    tasks: tuple[str, ...]
    rows: Int[Tensor, "repeat record"]
    encoded: Float[Tensor, "repeat task record"]
    mean: Float[Tensor, "repeat feature"]
    scale: Float[Tensor, "repeat feature"]
    regression: Bool[Tensor, " task"]
    valid: Bool[Tensor, "repeat task output"]
    outputs: int

    @classmethod
    def of(
        cls, embedding: Float[Tensor, "all feature"], repeats: Sequence[Labelled]
    ) -> "StackedData":
        """Fit the standardisation on each repeat's training records, and lay out its labels."""
        tasks = tuple(repeats[0].targets)
        device = embedding.device
        fitted = []
        for one in repeats:
            standardise = Standardize(embedding.shape[1]).to(device)
            standardise.fit(embedding[one.rows[one.train]])
            fitted.append(standardise)
        longest = max(len(one.rows) for one in repeats)
        encoded = torch.full((len(repeats), len(tasks), longest), float("nan"), device=device)
        rows = torch.zeros((len(repeats), longest), dtype=torch.long, device=device)
        for number, one in enumerate(repeats):
            rows[number, : len(one.rows)] = one.rows
            for place, task in enumerate(tasks):
                encoded[number, place, : len(one.rows)] = one.encoded[task]
        counts = torch.tensor([[one.targets[task].outputs for task in tasks] for one in repeats])
        outputs = int(counts.max())
        kinds = [repeats[0].targets[task].task.kind for task in tasks]
        return cls(
            embedding,
            tuple(repeats),
            tasks,
            rows,
            encoded,
            torch.stack([one.mean for one in fitted]),
            torch.stack([one.scale for one in fitted]),
            torch.tensor([kind == "regression" for kind in kinds], device=device),
            (torch.arange(outputs) < counts.unsqueeze(-1)).to(device),
            outputs,
        )

    def set_standardise(self, standardise: Standardize, repeat: int) -> None:
        """Give a module the statistics of a repeat's training records."""
        standardise.mean = self.mean[repeat].clone()
        standardise.scale = self.scale[repeat].clone()

    def features(
        self, repeats: Int[Tensor, " group"], rows: Int[Tensor, "group batch"]
    ) -> Float[Tensor, "group batch feature"]:
        """The standardised features of some records of each group's repeat."""
        picked = self.embedding[self.rows[repeats.unsqueeze(1), rows]].float()
        return (picked - self.mean[repeats].unsqueeze(1)) / self.scale[repeats].unsqueeze(1)

    def targets(
        self, repeats: Int[Tensor, " group"], rows: Int[Tensor, "group batch"]
    ) -> Float[Tensor, "group task batch"]:
        """Their targets; NaN where unknown, and for padding."""
        picked = self.encoded[repeats.unsqueeze(1), :, rows].movedim(1, 2)
        return picked.masked_fill((rows == PADDING).unsqueeze(1), float("nan"))


def first_layer(
    stack: StackedFFN, data: StackedData, of_repeat: Sequence[int]
) -> Callable[[Tensor], Tensor | None]:
    """What the frozen first layer makes of every record, computed once: from rows to its part.

    Groups of one repeat that were drawn alike have it in common.
    """
    if not (stack.shape.frozen and stack.shape.depth):
        return lambda rows: None
    weights = stack.weight[0]
    owners: list[int] = []
    place = []
    for group in range(len(of_repeat)):
        same = [
            number
            for number, owner in enumerate(owners)
            if of_repeat[owner] == of_repeat[group] and torch.equal(weights[owner], weights[group])
        ]
        place.append(same[0] if same else len(owners))
        if not same:
            owners.append(group)
    made = []
    for owner in owners:
        repeat = torch.tensor([of_repeat[owner]], device=weights.device)
        everyone = torch.arange(data.rows.shape[1], device=weights.device)
        parts = [
            stack.first_layer(owner, data.features(repeat, part.unsqueeze(0))[0])
            for part in everyone.split(RECORDS_AT_ONCE)
        ]
        made.append(torch.cat(parts))
    held = torch.stack(made)
    owner_of = torch.tensor(place, device=weights.device).unsqueeze(1)
    return lambda rows: held[owner_of, rows]


def summed_loss(
    value: Float[Tensor, "group task batch"],
    log_share: Float[Tensor, "group task batch output"],
    encoded: Float[Tensor, "group task batch"],
    regression: Bool[Tensor, " task"],
) -> tuple[Float[Tensor, "group task"], Float[Tensor, "group task"]]:
    """The summed loss of the known labels, and how many there are."""
    known = ~encoded.isnan()
    truth = encoded.nan_to_num()
    regressed = regression.view(1, -1, 1)
    of_class = torch.where(regressed, 0.0, truth).long()
    missed = torch.where(
        regressed,
        functional.smooth_l1_loss(value, truth, reduction="none"),
        -log_share.gather(-1, of_class.unsqueeze(-1)).squeeze(-1),
    )
    return torch.where(known, missed, 0.0).sum(-1), known.sum(-1).float()
