"""Two-dimensional maps of embeddings: principal components, or UMAP."""

from typing import Literal

import numpy as np
from jaxtyping import Float

from enecg.errors import UserError

Method = Literal["pca", "umap"]


def project(
    embedding: Float[np.ndarray, "record feature"], method: Method, seed: int
) -> tuple[Float[np.ndarray, "record 2"], str]:
    """Project embeddings onto two dimensions.

    Args:
        embedding: Standardized embeddings.
        method: ``pca``, or ``umap``, which requires the package umap-learn.
        seed: Seed of the method.

    Returns:
        The positions, and a description of the map. For principal components, it contains the
        explained share of the variance.

    Raises:
        UserError: umap-learn is not installed.
    """
    if method == "umap":
        try:
            from umap import UMAP
        except ImportError as error:
            raise UserError(
                "--method umap requires umap-learn; install it with pip install umap-learn."
            ) from error
        return np.asarray(UMAP(random_state=seed).fit_transform(embedding)), "UMAP"
    # Imported here because importing scikit-learn takes a second.
    from sklearn.decomposition import PCA

    pca = PCA(2, svd_solver="randomized", random_state=seed)
    positions = pca.fit_transform(embedding)
    # The sign of a component is arbitrary.
    positions = positions * np.where(np.median(positions, axis=0) > 0, -1, 1)
    return positions, f"{100 * pca.explained_variance_ratio_.sum():.0f} % of the variance"
