"""The frozen experts, one module each, behind one protocol and one registry.

The interface of loaded experts is imported on first access, because it imports torch.
"""

from typing import TYPE_CHECKING, Any

from enecg.experts.definition import ExpertDefinition
from enecg.experts.options import ExpertOption
from enecg.experts.preprocessing import Preprocessing
from enecg.experts.pretraining_data import PretrainingData
from enecg.experts.registry import (
    get_definition,
    list_experts,
    load_expert,
    parse_expert_settings,
)
from enecg.experts.settings import ExpertSetting
from enecg.experts.spec import ExpertSpec
from enecg.experts.weights import Weights

if TYPE_CHECKING:
    from enecg.experts.base import Expert, FrozenExpert

__all__ = [
    "Expert",
    "ExpertDefinition",
    "ExpertOption",
    "ExpertSetting",
    "ExpertSpec",
    "FrozenExpert",
    "Preprocessing",
    "PretrainingData",
    "Weights",
    "get_definition",
    "list_experts",
    "load_expert",
    "parse_expert_settings",
]


def __getattr__(name: str) -> Any:
    if name not in ("Expert", "FrozenExpert"):
        raise AttributeError(f"module 'enecg.experts' has no attribute {name!r}")
    from enecg.experts import base

    return getattr(base, name)
