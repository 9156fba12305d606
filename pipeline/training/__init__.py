"""Training of heads and gate on the embeddings in the stores."""
