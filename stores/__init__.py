"""Zarr stores of embeddings: identity, layout, leases, reading, writing, verification, copying."""
