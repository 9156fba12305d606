"""Stores that match a choice of weights and options, and messages if there is none or several."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from enecg.experts import get_definition, list_experts
from enecg.experts.settings import Settings
from enecg.leads import LeadsSample
from pipeline.extraction.request import StoreSelection
from pipeline.waveforms.decode import DECODE_VERSION
from pipeline.waveforms.options import DecodeOptions
from stores.embeddings import EmbeddingStore
from stores.opening import FoundStores


def find_matching(
    found: FoundStores,
    name: str,
    weights: str,
    pooling: str,
    precision: str,
    settings: Settings,
    selection: StoreSelection,
) -> list[EmbeddingStore]:
    """Find the stores of an expert that match the requested weights and options.

    Args:
        found: The stores of the data set.
        name: Name of the expert.
        weights: Choice of weights, as in ``--weights``.
        pooling: Choice of pooling, as in ``--pooling``.
        precision: Precision of the expert's computation.
        settings: Required hyperparameters; stores may have any value of the others.
        selection: Data type and decoding options; its other fields are ignored.

    Returns:
        The matching stores. They can differ in other hyperparameters and in library versions.

    Raises:
        UserError: The expert is unknown, or its weights or the pooling are unavailable.
    """
    definition = get_definition(name)
    resolved = definition.find_weights(weights, fetch=False)
    required = {
        "expert": definition.name,
        "code_version": definition.code_version,
        "preprocessing": definition.preprocessing.as_json(),
        "pooling": definition.resolve_pooling(pooling),
        "decode_version": DECODE_VERSION,
        **selection.decoding.as_json(),
        "dtype": selection.dtype,
        "weights": resolved.label,
    }
    matching = [
        store
        for store in found.stores
        if all(store.provenance.get(key) == value for key, value in required.items())
        and store.provenance.get("precision", "float32") == precision
        and settings.items() <= stored_settings(name, store).items()
    ]
    # Hashing a checkpoint takes seconds, so it is done only if there is a store to compare.
    digest = resolved.sha256() if matching else None
    if digest is None:
        return matching
    return [store for store in matching if store.provenance["weights_sha256"] == digest]


def stored_settings(name: str, store: EmbeddingStore) -> Settings:
    """Return the hyperparameters (``--expert-setting``) of the expert of a store.

    Args:
        name: Name of the expert.
        store: A store of its embeddings.

    Returns:
        Values by name, from the architecture in the store's provenance.
    """
    architecture = store.provenance["architecture"]
    return {
        setting.name: architecture[setting.architecture_key]
        for setting in get_definition(name).settings
    }


def describe_ambiguous(name: str, matching: Sequence[EmbeddingStore]) -> str:
    """Return the message for several stores that match the same choice.

    Args:
        name: Name of the expert.
        matching: Two or more stores; see `find_matching`.

    Returns:
        The message, which names the first two stores and the remedy.
    """
    first, second = matching[:2]
    both = f"{first.location} and {second.location} both contain embeddings of {name}"
    values = stored_settings(name, first), stored_settings(name, second)
    different = [key for key in values[0] if values[0][key] != values[1][key]]
    if not different:
        return f"{both} with these weights, made with different library versions; remove one."
    key = different[0]
    return (
        f"{both} with these weights, with {key} = {values[0][key]} and {values[1][key]}; select "
        f"one with --expert-setting {name}.{key}={values[0][key]}."
    )


def _outdated(provenance: Mapping[str, Any]) -> tuple[str, ...]:
    """Describe the versions of a store that differ from those of this release."""
    current = {"decode_version": DECODE_VERSION}
    if provenance["expert"] in list_experts():
        current["code_version"] = get_definition(provenance["expert"]).code_version
    return tuple(
        f"{key} {provenance.get(key)} instead of {value}"
        for key, value in current.items()
        if provenance.get(key) != value
    )


def describe_missing(
    root: str | Path, namespace: str, requested: str, selection: StoreSelection, found: FoundStores
) -> str:
    """Return the message for a missing store.

    Args:
        root: Root folder or URL of the stores.
        namespace: Namespace of the data set.
        requested: Description of the requested embeddings.
        selection: The selection; only its decoding options are used.
        found: The stores of the data set.

    Returns:
        The message, which lists the available stores and the remedy.
    """

    def describe(provenance: Mapping[str, Any]) -> str:
        options = DecodeOptions.from_json(provenance).as_arguments()
        details = (provenance["weights"], provenance["dtype"], *options, *_outdated(provenance))
        return f"{provenance['expert']} ({', '.join(details)})"

    stores = sorted(
        describe(store.provenance)
        for store in found.stores
        if store.provenance["expert"] != LeadsSample.spec.name
    )
    arguments = "".join(f" and {option}" for option in selection.decoding.as_arguments())
    damaged = [f"an unusable store ({str(error).rstrip('.')})" for error in found.errors]
    return (
        f"{root} has no {requested}{arguments} for {namespace} "
        f"(available: {', '.join((*stores, *damaged)) or 'none'}); run enecg extract "
        "first, or select available weights with --weights."
    )
