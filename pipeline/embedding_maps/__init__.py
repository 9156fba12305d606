"""Maps of stored embeddings, similarity of experts, and nearest neighbors of a record."""
