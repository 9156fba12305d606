"""Zarr stores of embeddings: identity, layout, writing, reading. Knows no ECG and no model."""
