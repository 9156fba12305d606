"""The rows that an extraction computes in one store."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from enecg.experts import Expert
from stores.embeddings import EmbeddingStore
from stores.lease import Lease


@dataclass(frozen=True)
class StorePlan:
    """The rows that an extraction computes in one store.

    Attributes:
        expert: Expert that computes the rows.
        store: The store, open for writing.
        lease: Lease of the store.
        missing: Requested rows without an embedding when the plan was made.
        written: Rows among `missing` that this run has written since, complete or failed; updated
            in place.
    """

    expert: Expert
    store: EmbeddingStore
    lease: Lease
    missing: Bool[np.ndarray, " row"]
    written: Bool[np.ndarray, " row"]

    @property
    def name(self) -> str:
        """Name of the expert."""
        return self.expert.spec.name

    def pending(self, span: slice) -> Bool[np.ndarray, " row"]:
        """Return which rows of `span` remain to be computed."""
        pending: np.ndarray = self.missing[span] & ~self.written[span]
        return pending
