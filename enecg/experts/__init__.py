"""The frozen experts, one a file, behind one protocol and one registry."""

from enecg.experts.base import Expert, ExpertDefinition, ExpertSpec, FrozenExpert
from enecg.experts.choices import Choices
from enecg.experts.registry import define, load, names
from enecg.experts.weights import Weights

__all__ = [
    "Choices",
    "Expert",
    "ExpertDefinition",
    "ExpertSpec",
    "FrozenExpert",
    "Weights",
    "define",
    "load",
    "names",
]
