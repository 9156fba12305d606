"""Similarity of the embeddings of two experts: linear CKA (Kornblith et al., ICML 2019)."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float32

BLOCK_ROWS = 512
"""Rows of the Gram matrices in memory at a time."""


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
    values = [embedding.astype(np.float32) for embedding in embeddings]
    sums = [_row_sums(embedding) for embedding in values]
    products = np.zeros((len(values), len(values)))
    for start in range(0, len(values[0]), BLOCK_ROWS):
        grams = [
            _centered_gram(embedding, row_sums, start)
            for embedding, row_sums in zip(values, sums, strict=True)
        ]
        for row, first in enumerate(grams):
            for column, second in enumerate(grams[: row + 1]):
                products[row, column] += np.vdot(first, second)
    products += np.tril(products, -1).T
    scale = np.sqrt(np.clip(np.diag(products), 1e-300, None))
    cka: np.ndarray = products / np.outer(scale, scale)
    return cka


def _row_sums(embedding: Float32[np.ndarray, "record feature"]) -> Float[np.ndarray, " record"]:
    """Return the sums of the rows of the Gram matrix without its diagonal."""
    total = embedding.sum(0, dtype=np.float64)
    blocks = np.split(embedding, range(BLOCK_ROWS, len(embedding), BLOCK_ROWS))
    return np.concatenate(
        [block @ total - np.square(block, dtype=np.float64).sum(1) for block in blocks]
    )


def _centered_gram(
    embedding: Float32[np.ndarray, "record feature"],
    row_sums: Float[np.ndarray, " record"],
    start: int,
) -> Float[np.ndarray, "block record"]:
    """Return rows of the U-centered Gram matrix, whose inner products estimate HSIC unbiasedly."""
    block = slice(start, start + BLOCK_ROWS)
    gram: np.ndarray = (embedding[block] @ embedding.T).astype(np.float64)
    records = len(embedding)
    rows = row_sums / (records - 2)
    gram += row_sums.sum() / ((records - 1) * (records - 2)) - rows[block, None] - rows
    diagonal = np.arange(len(gram))
    gram[diagonal, start + diagonal] = 0
    return gram
