"""The plan of an extraction for one store."""

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
        lease: Lease of the store; None in a worker, which writes under another process's lease.
        missing: Mask of the rows to compute; does not change during the extraction.
        written: Mask of the rows that this run has written, complete or failed; updated in place.
    """

    expert: Expert
    store: EmbeddingStore
    lease: Lease | None
    missing: Bool[np.ndarray, " row"]
    written: Bool[np.ndarray, " row"]

    @property
    def name(self) -> str:
        """Name of the expert."""
        return self.expert.spec.name

    def pending(self, span: slice) -> Bool[np.ndarray, " row"]:
        """Return the mask of the rows in `span` that remain to be computed."""
        pending: np.ndarray = self.missing[span] & ~self.written[span]
        return pending
