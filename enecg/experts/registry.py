"""Which experts there are: ours by the table below, others' by the entry point `enecg.experts`."""

from importlib import import_module
from importlib.metadata import entry_points

from enecg.errors import UserError
from enecg.experts.base import Expert, ExpertDefinition
from enecg.experts.weights import find_weights

_OURS = {
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
    """The names that `define` knows, ours first."""
    others = sorted(point.name for point in entry_points(group="enecg.experts"))
    return [*_OURS, *(name for name in others if name not in _OURS)]


def get_definition(name: str) -> ExpertDefinition:
    """The definition of an expert by name. Raises UserError for a name that nobody registered."""
    if name in _OURS:
        module, _, attribute = _OURS[name].partition(":")
        definition = getattr(import_module(module), attribute)
    else:
        points = entry_points(group="enecg.experts", name=name)
        if not points:
            raise UserError(f"There is no expert {name!r}; there are {', '.join(list_experts())}.")
        definition = next(iter(points)).load()
    assert isinstance(definition, ExpertDefinition)
    return definition


def load_expert(name: str, weights: str = "published", pooling: str = "default") -> Expert:
    """An expert with its weights, on the CPU; `pooling` is a name, or `default`.

    Raises UserError where the expert, its weights or its pooling cannot be had.
    """
    definition = get_definition(name)
    found = find_weights(name, weights, definition.published)
    return definition.build(definition, found, definition.resolve_pooling(pooling))
