"""The registry of experts: a built-in table, and the entry point group `enecg.experts`."""

from importlib import import_module
from importlib.metadata import entry_points

from enecg.errors import UserError
from enecg.experts.base import Expert, ExpertDefinition
from enecg.experts.weights import find_weights

_BUILT_IN = {
    "dlinear": "enecg.experts.dlinear:DLINEAR",
    "timesnet": "enecg.experts.timesnet:TIMESNET",
    "moment": "enecg.experts.moment:MOMENT_SMALL",
    "moment-base": "enecg.experts.moment:MOMENT_BASE",
    "moment-large": "enecg.experts.moment:MOMENT_LARGE",
    "moment-windows": "enecg.experts.moment:MOMENT_SMALL_WINDOWS",
    "moment-base-windows": "enecg.experts.moment:MOMENT_BASE_WINDOWS",
    "moment-large-windows": "enecg.experts.moment:MOMENT_LARGE_WINDOWS",
    "tempo": "enecg.experts.tempo:TEMPO",
    "ecg-fm": "enecg.experts.ecg_fm:ECG_FM",
}


def list_experts() -> list[str]:
    """Return the names of all registered experts, built-in ones first."""
    plugins = sorted(point.name for point in entry_points(group="enecg.experts"))
    return [*_BUILT_IN, *(name for name in plugins if name not in _BUILT_IN)]


def get_definition(name: str) -> ExpertDefinition:
    """Return the definition of an expert.

    Args:
        name: Name in the registry.

    Returns:
        The definition; its module is imported on demand.

    Raises:
        UserError: No expert has this name.
    """
    if name in _BUILT_IN:
        module, _, attribute = _BUILT_IN[name].partition(":")
        definition = getattr(import_module(module), attribute)
    else:
        points = entry_points(group="enecg.experts", name=name)
        if not points:
            raise UserError(f"Unknown expert {name!r}; available: {', '.join(list_experts())}.")
        definition = next(iter(points)).load()
    assert isinstance(definition, ExpertDefinition)
    return definition


def load_expert(name: str, weights: str = "published", pooling: str = "default") -> Expert:
    """Load an expert with its weights; `UserError` if any of the arguments is unavailable.

    Args:
        name: Name in the registry.
        weights: `published`, `hub:REPO@REVISION/FILE`, `random:SEED` or a path.
        pooling: Name of a pooling, or `default`.

    Returns:
        The expert, on the CPU.
    """
    definition = get_definition(name)
    found = find_weights(name, weights, definition.published)
    return definition.build(definition, found, definition.resolve_pooling(pooling))
