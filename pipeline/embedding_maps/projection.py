"""Two-dimensional maps of embeddings: principal components, or UMAP."""

from typing import Literal

import numpy as np
from jaxtyping import Float

from enecg.errors import UserError

Method = Literal["pca", "umap"]

SAMPLED_COMPONENTS = 12
"""Number of random directions of the randomized singular value decomposition."""
POWER_ITERATIONS = 7
"""Number of power iterations of the decomposition, as in scikit-learn."""


def project(
    embedding: Float[np.ndarray, "record feature"], method: Method, seed: int
) -> tuple[Float[np.ndarray, "record 2"], str]:
    """Project embeddings onto two dimensions.

    Args:
        embedding: Standardized embeddings; the mean of each feature is 0.
        method: ``pca``, or ``umap``, which requires the package umap-learn.
        seed: Seed of the method.

    Returns:
        The positions, and a description of the map. For principal components, it contains the
        explained share of the variance.

    Raises:
        UserError: The method is ``umap`` and umap-learn is not installed.
    """
    if method == "umap":
        try:
            from umap import UMAP
        except ImportError as error:
            raise UserError(
                "--method umap requires umap-learn; install it with pip install umap-learn."
            ) from error
        # With a seed, UMAP uses one thread, and warns if more are requested.
        umap = UMAP(random_state=seed, n_jobs=1)
        return np.asarray(umap.fit_transform(embedding)), "UMAP"
    positions, share = _principal_components(embedding, np.random.default_rng(seed))
    # The sign of a component is arbitrary, so fix it by the median.
    positions = positions * np.where(np.median(positions, axis=0) > 0, -1, 1)
    return positions, f"{100 * share:.0f} % of the variance"


def _principal_components(
    centered: Float[np.ndarray, "record feature"], rng: np.random.Generator
) -> tuple[Float[np.ndarray, "record 2"], float]:
    """Compute the first two principal components and their share of the variance.

    This is the randomized singular value decomposition of Halko et al. (SIAM Review 53:217, 2011),
    whose time does not grow with the square of the number of features or records.

    Returns:
        The positions of the records, and the share.
    """
    basis = rng.standard_normal((centered.shape[1], SAMPLED_COMPONENTS)).astype(np.float32)
    for _ in range(POWER_ITERATIONS):
        basis = np.linalg.qr(centered.T @ (centered @ basis))[0]
    left, singular, _ = np.linalg.svd(centered @ basis, full_matrices=False)
    total = np.square(centered, dtype=np.float64).sum()
    share = np.square(singular[:2], dtype=np.float64).sum() / total if total else 0.0
    positions = np.zeros((len(centered), 2), np.float32)  # a single feature has one component
    positions[:, : left.shape[1]] = (left * singular)[:, :2]
    return positions, float(share)
