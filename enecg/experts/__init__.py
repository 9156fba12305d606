"""The frozen experts, one module each, behind one protocol and one registry."""

from enecg.experts.base import Expert, ExpertDefinition, ExpertSpec, FrozenExpert
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
from enecg.experts.weights import Weights

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
