"""Similarity of the embeddings of two experts: linear CKA (Kornblith et al., ICML 2019)."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float


def linear_cka(
    embeddings: Sequence[Float[np.ndarray, "record _"]],
) -> Float[np.ndarray, "expert expert"]:
    """Compute the linear centered kernel alignment of each pair of embeddings.

    This uses the unbiased estimator of HSIC (Song et al., JMLR 13:1393, 2012). With more features
    than records, the biased estimator is near 1 even for unrelated embeddings.

    Args:
        embeddings: Embeddings of the same records by each expert.

    Returns:
        1 for embeddings that are equal up to rotation and scale, about 0 for unrelated ones.
    """
    grams = [_centered_gram(embedding) for embedding in embeddings]
    products = np.array([[(first * second).sum() for second in grams] for first in grams])
    scale = np.sqrt(np.clip(np.diag(products), 1e-300, None))
    return products / np.outer(scale, scale)


def _centered_gram(embedding: Float[np.ndarray, "record feature"]) -> np.ndarray:
    """Return the U-centered Gram matrix, whose inner products are unbiased estimates."""
    values = embedding.astype(np.float32)
    gram = (values @ values.T).astype(np.float64)
    np.fill_diagonal(gram, 0)
    records = len(gram)
    rows = gram.sum(0) / (records - 2)
    gram += gram.sum() / ((records - 1) * (records - 2)) - rows[:, None] - rows
    np.fill_diagonal(gram, 0)
    return gram
