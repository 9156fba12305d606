"""The registry of experts: a built-in table, and the entry point group `enecg.experts`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from enecg.errors import UserError
from enecg.experts.definition import ExpertDefinition
from enecg.experts.settings import Settings, parse_settings
from enecg.experts.spec import PRECISIONS

if TYPE_CHECKING:
    from enecg.experts.base import Expert

_BUILT_IN = {
    "dlinear": "enecg.experts.definitions.dlinear:DLINEAR",
    "timesnet": "enecg.experts.definitions.timesnet:TIMESNET",
    "moment": "enecg.experts.definitions.moment:MOMENT_SMALL",
    "moment-base": "enecg.experts.definitions.moment:MOMENT_BASE",
    "moment-large": "enecg.experts.definitions.moment:MOMENT_LARGE",
    "moment-windows": "enecg.experts.definitions.moment:MOMENT_SMALL_WINDOWS",
    "moment-base-windows": "enecg.experts.definitions.moment:MOMENT_BASE_WINDOWS",
    "moment-large-windows": "enecg.experts.definitions.moment:MOMENT_LARGE_WINDOWS",
    "tempo": "enecg.experts.definitions.tempo:TEMPO",
    "ecg-fm": "enecg.experts.definitions.ecg_fm:ECG_FM",
    "ecgfounder": "enecg.experts.definitions.ecgfounder:ECGFOUNDER",
    "ecg-jepa": "enecg.experts.definitions.ecg_jepa:ECG_JEPA",
    "measurements": "enecg.experts.definitions.measurements:MEASUREMENTS",
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


def parse_expert_settings(values: Iterable[str], experts: Sequence[str]) -> dict[str, Settings]:
    """Parse the values of `--expert-setting`; see `settings.parse_settings`."""
    values = tuple(values)
    # Definitions are imported only if there is a value to check.
    known = {name: get_definition(name).settings for name in experts} if values else {}
    return parse_settings(values, experts, known)


def check_precision(name: str, precision: str) -> None:
    """Check that a precision exists.

    Args:
        name: Name of the expert, for the error message.
        precision: Name of a precision.

    Raises:
        UserError: The precision is not one of `PRECISIONS`.
    """
    if precision not in PRECISIONS:
        raise UserError(
            f"Unknown precision {precision!r} of {name}; available: {', '.join(PRECISIONS)}."
        )


def load_expert(
    name: str,
    weights: str = "published",
    pooling: str = "default",
    settings: Mapping[str, int] | None = None,
    precision: str = "float32",
) -> "Expert":
    """Load an expert with its weights.

    Args:
        name: Name in the registry.
        weights: `published`, `hub:REPO@REVISION/FILE`, `random:SEED` or a path. An expert without
            weights ignores it.
        pooling: Name of a pooling, or `default`.
        settings: Hyperparameters that the weights do not determine, by name, such as
            `{"top_k": 5}`; see `ExpertDefinition.settings`.
        precision: One of `spec.PRECISIONS`.

    Returns:
        The expert, on the CPU.

    Raises:
        UserError: The expert is unknown, its weights are unavailable, or another argument is
            invalid or not supported.
    """
    # Imported here because it imports torch.
    from enecg.experts.base import FrozenExpert

    definition = get_definition(name)
    values = [f"{name}.{key}={value}" for key, value in (settings or {}).items()]
    checked = parse_settings(values, [name], {name: definition.settings}).get(name, {})
    check_precision(name, precision)
    pooling = definition.resolve_pooling(pooling)
    # Called after the checks above, because it may download a large file.
    found = definition.find_weights(weights)
    expert = definition.build(definition, found, pooling, **checked)
    if precision == "float32":
        return expert
    if not isinstance(expert, FrozenExpert):
        raise UserError(f"{name} computes in float32 only; use --precision {name}@float32.")
    expert.spec = replace(expert.spec, precision=precision)
    return expert
