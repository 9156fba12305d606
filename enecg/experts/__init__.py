"""The frozen experts, one a file, behind one protocol and one registry."""

from enecg.experts.base import Expert, ExpertDefinition, ExpertSpec, FrozenExpert
from enecg.experts.registry import define, load, names
from enecg.experts.weights import Weights, WeightsChoice

__all__ = [
    "Expert",
    "ExpertDefinition",
    "ExpertSpec",
    "FrozenExpert",
    "Weights",
    "WeightsChoice",
    "define",
    "load",
    "names",
]
