"""Selection of the stores of a training run, by expert and weights or by provenance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from enecg.errors import UserError
from enecg.experts import Expert, ExpertOption, get_definition, list_experts, parse_expert_settings
from enecg.leads import LeadsSample
from pipeline.extraction.request import StoreSelection, provenance
from pipeline.training.matching_stores import (
    describe_ambiguous,
    describe_missing,
    find_matching,
)
from stores.embeddings import EmbeddingStore
from stores.errors import StoreError
from stores.layout import store_location
from stores.opening import FoundStores, open_store, open_stores

EXTRACT_OBJECTS = "enecg.extract and the same experts"
"""How to extract embeddings of expert objects, for error messages."""


@dataclass(frozen=True)
class Cache:
    """The stores of one training run.

    Attributes:
        experts: Stores of embeddings, by expert.
        leads: Store of the sampled leads, the gate's input.
        omitted: Experts that were not requested by name and have only stores with other weights or
            options, with the weights of these stores.
    """

    experts: dict[str, EmbeddingStore]
    leads: EmbeddingStore
    omitted: tuple[str, ...] = ()

    @property
    def stores(self) -> tuple[EmbeddingStore, ...]:
        """All stores, with that of the leads last."""
        return (*self.experts.values(), self.leads)


def open_cache(root: str | Path, namespace: str, selection: StoreSelection) -> Cache:
    """Open the stores that match a selection.

    This builds no expert and downloads no weights.

    Args:
        root: Root folder or URL of the stores.
        namespace: Namespace of the data set.
        selection: The selection. If it names no experts, all with a matching store are used.

    Returns:
        The stores.

    Raises:
        UserError: An option is invalid, a selected expert has no matching store or several, or no
            expert has a matching store.
        StoreError: The root is unreachable, or the store of sampled leads is missing or damaged.
    """
    weights = ExpertOption.parse("--weights", selection.weights)
    pooling = ExpertOption.parse("--pooling", selection.pooling)
    precision = ExpertOption.parse("--precision", selection.precision)
    for option in (weights, pooling, precision):
        option.check_experts(selection.experts or list_experts())
    settings = parse_expert_settings(selection.expert_settings, selection.experts or list_experts())
    found = open_stores(root, namespace)
    selected = list(dict.fromkeys(selection.experts)) or [
        name
        for name in list_experts()
        if _supports_pooling(name, pooling) and _is_selectable(name, weights, found)
    ]
    experts: dict[str, EmbeddingStore] = {}
    for name in selected:
        choice = (
            weights.get(name),
            pooling.get(name),
            precision.get(name),
            settings.get(name, {}),
        )
        matching = find_matching(found, name, *choice, selection)
        if len(matching) > 1:
            raise UserError(describe_ambiguous(name, matching))
        if matching:
            experts[name] = matching[0]
        elif selection.experts:
            requested = f"{selection.dtype} embeddings of {name} with weights {weights.get(name)}"
            raise UserError(describe_missing(root, namespace, requested, selection, found))
    if not experts:
        requested = (
            f"{selection.dtype} embeddings with weights {', '.join(selection.weights)} and pooling "
            f"{', '.join(selection.pooling)}"
        )
        raise UserError(describe_missing(root, namespace, requested, selection, found))
    leads = provenance(LeadsSample.spec, namespace, selection.dtype, selection.decoding)
    omitted = {
        f"{store.provenance['expert']} ({store.provenance['weights']})"
        for store in found.stores
        if not selection.experts
        and store.provenance["expert"] not in (*experts, LeadsSample.spec.name)
    }
    return Cache(experts, open_store(store_location(root, leads)), tuple(sorted(omitted)))


def open_experts(
    root: str | Path,
    namespace: str,
    experts: Sequence[str | Expert],
    selection: StoreSelection,
) -> Cache:
    """Open the stores of experts that are given by name or as objects.

    Args:
        root: Root folder or URL of the stores.
        namespace: Namespace of the data set.
        experts: Names of registered experts, or expert objects.
        selection: Data type and decoding of all stores; the other options apply to the experts
            that are given by name.

    Returns:
        The stores, in the order of `experts`.

    Raises:
        UserError: Two experts have the same name; see also `open_cache`.
        StoreError: The root is unreachable, or the store of an object or of the sampled leads is
            missing or damaged.
    """
    names = [expert if isinstance(expert, str) else expert.spec.name for expert in experts]
    if len(set(names)) < len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        raise UserError(f"Two experts are named {repeated!r}; pass one, or rename one of them.")
    registered = tuple(expert for expert in experts if isinstance(expert, str))
    stores: dict[str, EmbeddingStore] = {}
    if registered:
        stores |= open_cache(root, namespace, replace(selection, experts=registered)).experts
    specs = [expert.spec for expert in experts if not isinstance(expert, str)]
    for spec in (*specs, LeadsSample.spec):
        required = provenance(spec, namespace, selection.dtype, selection.decoding)
        stores[spec.name] = _open_required(root, namespace, required, EXTRACT_OBJECTS)
    return Cache({name: stores[name] for name in names}, stores[LeadsSample.spec.name])


def open_by_provenance(
    root: str | Path, namespace: str, provenances: Sequence[Mapping[str, Any]], command: str
) -> Cache:
    """Open stores with the same provenance as those of a run, except for the data set.

    Args:
        root: Root folder or URL of the stores.
        namespace: Namespace of the data set, which may differ from the run's.
        provenances: Provenance of each of the run's stores, including that of the sampled leads.
        command: The command that extracts missing stores, for the error message.

    Returns:
        The stores.

    Raises:
        StoreError: The root is unreachable, or a store does not exist or is damaged.
    """
    stores: dict[str, EmbeddingStore] = {}
    for provenance_of_run in provenances:
        expert = str(provenance_of_run["expert"])
        required = {**provenance_of_run, "dataset": namespace}
        stores[expert] = _open_required(root, namespace, required, command)
    leads = stores.pop(LeadsSample.spec.name)
    return Cache(stores, leads)


def _open_required(
    root: str | Path, namespace: str, required: Mapping[str, Any], command: str
) -> EmbeddingStore:
    """Open the store with a provenance; raise StoreError if it does not exist or is damaged."""
    location = store_location(root, required)
    if (location / "zarr.json").read() is not None:
        return open_store(location)
    expert = required["expert"]
    others = [
        store.provenance
        for store in open_stores(root, namespace).stores
        if store.provenance["expert"] == expert
    ]
    raise StoreError(
        f"{root} has no embeddings of {expert} for {namespace} with the required provenance "
        f"(available: {_describe_differences(required, others)}); extract them with {command}."
    )


def _describe_differences(required: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> str:
    """Describe how the provenance of other stores differs from `required`."""
    stores = (
        ", ".join(
            f"{key} {other.get(key)!r} instead of {value!r}"
            for key, value in required.items()
            if other.get(key) != value
        )
        for other in others
    )
    return "; ".join(stores) or "none"


def _supports_pooling(name: str, pooling: ExpertOption) -> bool:
    """Return whether an expert that was not requested by name supports the pooling."""
    try:
        get_definition(name).resolve_pooling(pooling.get(name))
    except UserError:
        # A pooling requested for this expert must not be ignored silently.
        if name in dict(pooling.overrides):
            raise
        return False
    return True


def _is_selectable(name: str, weights: ExpertOption, found: FoundStores) -> bool:
    """Return whether the weights of an expert that was not requested by name are available."""
    try:
        get_definition(name).find_weights(weights.get(name), fetch=False)
    except UserError:
        # Weights requested for this expert, or extracted before, must not be ignored silently.
        existing = {
            (store.provenance["expert"], store.provenance["weights"]) for store in found.stores
        }
        if name in dict(weights.overrides) or (name, "checkpoint") in existing:
            raise
        return False
    return True
