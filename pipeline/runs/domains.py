"""Save and load `repeat-K/domain.safetensors`, the distributions of training embeddings."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

from safetensors.torch import load_file, save_file

from pipeline.training.domain import EmbeddingDomain

DOMAIN = "domain.safetensors"

_FIELDS = tuple(field.name for field in fields(EmbeddingDomain))


def save_domains(domains: Mapping[str, EmbeddingDomain], file: Path) -> None:
    """Write the distributions of the training embeddings of one repeat.

    Args:
        domains: Distributions by expert.
        file: File to write. Its tensors are named ``EXPERT/FIELD``, where FIELD is an attribute of
            `EmbeddingDomain`.
    """
    save_file(
        {
            f"{expert}/{name}": getattr(domain, name).cpu().contiguous()
            for expert, domain in domains.items()
            for name in _FIELDS
        },
        file,
    )


def load_domains(file: Path, experts: tuple[str, ...]) -> dict[str, EmbeddingDomain]:
    """Read the distributions of the training embeddings of one repeat.

    Args:
        file: File written by `save_domains`.
        experts: Names of the experts whose distributions are read.

    Returns:
        Distributions by expert, on the CPU.

    Raises:
        OSError: The file is missing.
        KeyError: A tensor is missing.
        ValueError: The shapes of an expert's tensors do not match each other.
        SafetensorError: The file is corrupt.
    """
    tensors = load_file(file)
    domains = {
        expert: EmbeddingDomain(*(tensors[f"{expert}/{name}"] for name in _FIELDS))
        for expert in experts
    }
    for expert, domain in domains.items():
        size, count = domain.mean.shape[0], domain.variance.shape[0]
        expected = ((size,), (size,), (count, size), (count,), (), ())
        if any(
            getattr(domain, name).shape != shape
            for name, shape in zip(_FIELDS, expected, strict=True)
        ):
            raise ValueError(f"{file}: the shapes of the tensors of {expert} do not match")
    return domains
