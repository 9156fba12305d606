"""Experts whose published weights were trained on patients of a run's data set."""

from collections.abc import Mapping


def find_pretraining_data(dataset: str, weights: Mapping[str, str]) -> dict[str, list[str]]:
    """Find experts whose published weights were trained on patients of a data set.

    A checkpoint is assumed to be the published one or derived from it.

    Args:
        dataset: Namespace of the data set, such as ``ptb-xl/1.0.3``.
        weights: Weights by expert, as in a store's provenance: ``checkpoint``, ``random:SEED`` or
            ``none``.

    Returns:
        Names of the pretraining data sets that contain patients of the data set, by expert.
        Experts without one, untrained and unregistered experts are omitted.
    """
    loaded = [expert for expert, label in weights.items() if label == "checkpoint"]
    if not loaded:
        return {}
    # Imported here because the experts import torch.
    from enecg.experts import get_definition, list_experts

    registered = list_experts()
    names_by_expert = {
        expert: [
            data.name for data in get_definition(expert).pretrained_on if data.contains(dataset)
        ]
        for expert in loaded
        if expert in registered
    }
    return {expert: names for expert, names in names_by_expert.items() if names}
