"""Stores of the random baselines: embeddings of a run's experts with random weights."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from enecg.errors import UserError
from enecg.experts import ExpertOption, list_experts
from pipeline.extraction.request import StoreSelection, extract_command
from pipeline.training.matching_stores import (
    describe_ambiguous,
    find_matching,
    stored_settings,
)
from stores.embeddings import EmbeddingStore
from stores.opening import open_stores

RANDOM_WEIGHTS = "random"


def parse_baselines(value: str) -> str:
    """Parse the value of ``--baselines``.

    Args:
        value: ``random`` (seed 0) or ``random:SEED``.

    Returns:
        The weights of the baselines, ``random:SEED``.

    Raises:
        UserError: The value has another form.
    """
    kind, _, seed = value.partition(":")
    if kind == RANDOM_WEIGHTS and (value == RANDOM_WEIGHTS or (seed.isascii() and seed.isdigit())):
        return f"{RANDOM_WEIGHTS}:{int(seed or 0)}"
    raise UserError(f"--baselines {value} is not valid; use random or random:SEED.")


def choose_baselines(experts: Mapping[str, EmbeddingStore]) -> list[str]:
    """Return the names of the experts that have a random baseline.

    Args:
        experts: Stores of the run's experts.

    Returns:
        The experts with published weights or weights from a file.

    Raises:
        UserError: There is no such expert, or one of them is not registered.
    """
    names = [name for name, store in experts.items() if _is_trained(store)]
    unknown = [name for name in names if name not in list_experts()]
    if unknown:
        raise UserError(
            f"--baselines requires registered experts (not registered: {', '.join(unknown)}); "
            "register them as entry points, or omit --baselines."
        )
    if not names:
        raise UserError(
            "--baselines needs an expert with published weights or weights from a file, but the "
            f"experts of this run ({', '.join(experts)}) have random weights or none; omit "
            "--baselines."
        )
    return names


@dataclass(frozen=True)
class BaselineRequest:
    """The random baselines of a run, and the options of their extraction.

    Attributes:
        dataset: Spec of the data set.
        store: Root folder or URL of the stores.
        selection: Pooling, precision, data type and decoding of the stores.
        weights: Weights of the baselines, ``random:SEED``.
        limit: Value of ``--limit``. Default: None.
        records: Value of ``--records``. Default: None.
    """

    dataset: object
    store: str | Path
    selection: StoreSelection
    weights: str
    limit: int | None = None
    records: str | None = None

    def command(self, experts: Mapping[str, EmbeddingStore]) -> str:
        """Return the ``enecg extract`` command for the baselines of experts.

        Args:
            experts: Stores of the experts. The baselines have the same hyperparameters
                (``--expert-setting``).

        Returns:
            The command, quoted for a shell.
        """
        settings = tuple(
            f"{name}.{key}={value}"
            for name, store in experts.items()
            for key, value in stored_settings(name, store).items()
        )
        selection = replace(
            self.selection,
            experts=tuple(experts),
            weights=(self.weights,),
            expert_settings=settings,
        )
        return extract_command(self.dataset, self.store, selection, self.limit, self.records)


def open_baselines(
    request: BaselineRequest, namespace: str, experts: Mapping[str, EmbeddingStore]
) -> dict[str, EmbeddingStore]:
    """Open the stores of the random baselines of a run's experts.

    Args:
        request: The requested baselines.
        namespace: Namespace of the data set.
        experts: Stores of the run's experts.

    Returns:
        The stores of the baselines by expert, with the hyperparameters (``--expert-setting``) of
        the run's experts.

    Raises:
        UserError: A baseline has no matching store or several; see also `choose_baselines`.
        StoreError: The root is unreachable or unreadable.
    """
    selection = request.selection
    pooling = ExpertOption.parse("--pooling", selection.pooling)
    precision = ExpertOption.parse("--precision", selection.precision)
    found = open_stores(request.store, namespace)
    baselines: dict[str, EmbeddingStore] = {}
    names = choose_baselines(experts)
    for name in names:
        settings = stored_settings(name, experts[name])
        choice = (request.weights, pooling.get(name), precision.get(name), settings)
        matching = find_matching(found, name, *choice, selection)
        if len(matching) > 1:
            raise UserError(describe_ambiguous(name, matching))
        if matching:
            baselines[name] = matching[0]
    missing = {name: experts[name] for name in names if name not in baselines}
    if missing:
        raise UserError(
            f"{request.store} has no {selection.dtype} embeddings of {', '.join(missing)} with "
            f"weights {request.weights} for {namespace}, which --baselines needs; extract them "
            f"with {request.command(missing)}"
        )
    return baselines


def describe_architectures(
    experts: Mapping[str, EmbeddingStore], baselines: Mapping[str, EmbeddingStore]
) -> list[str]:
    """Describe the baselines whose architecture differs from that of their expert.

    Random weights have the default sizes of their expert; a checkpoint may have other sizes.

    Args:
        experts: Stores of the run's experts.
        baselines: Stores of the random baselines, by expert.

    Returns:
        A note for each baseline with a different architecture.
    """
    notes = []
    for name, baseline in baselines.items():
        expert = experts[name].provenance["architecture"]
        random = baseline.provenance["architecture"]
        different = [
            f"{key} {random.get(key)} instead of {expert.get(key)}"
            for key in dict.fromkeys((*expert, *random))
            if expert.get(key) != random.get(key)
        ]
        if different:
            notes.append(
                f"The random baseline of {name} has another architecture: {', '.join(different)}."
            )
    return notes


def _is_trained(store: EmbeddingStore) -> bool:
    weights = str(store.provenance["weights"])
    return weights != "none" and not weights.startswith(f"{RANDOM_WEIGHTS}:")
