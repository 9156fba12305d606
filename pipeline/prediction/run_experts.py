"""The experts of a run, loaded with the settings and weights of its stores."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from enecg.errors import UserError
from enecg.experts import Expert, ExpertOption, get_definition, list_experts, load_expert
from enecg.leads import LeadsSample
from pipeline.extraction.request import provenance
from pipeline.runs.saved_run import SavedRun
from pipeline.waveforms.decode import DECODE_VERSION
from pipeline.waveforms.options import DecodeOptions

_LEADS = LeadsSample.spec.name


def load_run_experts(
    run: SavedRun, weights: Sequence[str] = (), objects: Sequence[Expert] = ()
) -> dict[str, Expert]:
    """Load the experts of a run with the weights, pooling, precision and settings of its stores.

    Args:
        run: The run.
        weights: Checkpoints in place of the run's, ``CHOICE`` or ``EXPERT@CHOICE`` as in
            ``--weights``, for files that have been moved. Their contents must be the same. Experts
            with random weights ignore them.
        objects: Experts that are not registered, as they were passed to `train`.

    Returns:
        The experts by name, in the order of the gate's outputs. Registered experts are on the CPU,
        and `objects` are returned unchanged.

    Raises:
        UserError: An expert or its weights are unavailable, or differ from those of the run.
    """
    option = ExpertOption.parse("--weights", weights)
    option.check_experts(run.experts)
    recorded = ExpertOption.parse("--weights", run.config["settings"]["weights"])
    given = {expert.spec.name: expert for expert in objects}
    stores = {store["expert"]: store for store in run.stores}
    _check_versions(run, stores[_LEADS], LeadsSample.spec.code_version)
    experts = {}
    for name in run.experts:
        store = stores[name]
        expert = given.get(name)
        if expert is None:
            choice = option.get(name) if _is_given(option, name, weights) else recorded.get(name)
            expert = _load(run, store, choice)
        _check_identity(run, store, expert)
        experts[name] = expert
    return experts


def _is_given(option: ExpertOption, name: str, weights: Sequence[str]) -> bool:
    """Return whether the user named weights that apply to an expert."""
    return name in dict(option.overrides) or len(weights) > len(option.overrides)


def _load(run: SavedRun, store: Mapping[str, Any], choice: str) -> Expert:
    """Load a registered expert as its store describes it."""
    name = store["expert"]
    if name not in list_experts():
        raise UserError(
            f"{run.folder} was trained with the expert {name!r}, which is not registered; install "
            "its package, or pass the expert object to load_run(experts=...)."
        )
    definition = get_definition(name)
    _check_versions(run, store, definition.code_version)
    if str(store["weights"]).startswith("random:"):
        choice = store["weights"]
    architecture = store["architecture"]
    settings = {
        setting.name: architecture[setting.architecture_key] for setting in definition.settings
    }
    return load_expert(name, choice, store["pooling"], settings, store.get("precision", "float32"))


def _check_versions(run: SavedRun, store: Mapping[str, Any], code_version: int) -> None:
    """Raise UserError if the versions of code and decoder differ from those of the run's store."""
    current = {"code_version": code_version, "decode_version": DECODE_VERSION}
    for key, value in current.items():
        if store.get(key) != value:
            raise UserError(
                f"{run.folder} was trained on embeddings of {store['expert']} with {key} "
                f"{store.get(key)}, but the installed version has {key} {value}; extract and train "
                "again, or install the version that the run was trained with (enecg "
                f"{run.config['versions'].get('enecg', 'unknown')})."
            )


def _check_identity(run: SavedRun, store: Mapping[str, Any], expert: Expert) -> None:
    """Raise UserError if an expert would compute other embeddings than those of the store."""
    decoding = DecodeOptions.from_json(store)
    current = provenance(expert.spec, store["dataset"], store["dtype"], decoding)
    # Convert tuples to lists, as in the run's provenance.json.
    current = json.loads(json.dumps(current))
    differences = [key for key in {**store, **current} if store.get(key) != current.get(key)]
    if not differences:
        return
    name = expert.spec.name
    if differences == ["weights_sha256"]:
        raise UserError(
            f"The weights of {name} differ from those that {run.folder} was trained with (SHA-256 "
            f"{current['weights_sha256'][:12]} instead of {store['weights_sha256'][:12]}); use "
            f"the weights that it was trained with (for a checkpoint, --weights {name}@PATH), or "
            "extract and train again."
        )
    described = "; ".join(
        f"{key} {current.get(key)!r} instead of {store.get(key)!r}" for key in differences
    )
    raise UserError(
        f"{name} differs from the expert that {run.folder} was trained with ({described}); use the "
        "same weights and versions, or extract and train again."
    )
