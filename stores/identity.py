"""The identity of a store: a digest of all settings and versions that determine its embeddings."""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

IDENTITY_LENGTH = 16
"""Number of leading hexadecimal digits of the SHA-256 digest to keep (64 bits)."""


def compute_identity(provenance: Mapping[str, Any]) -> str:
    """Compute the digest of a provenance document; key order does not matter.

    Args:
        provenance: JSON values by key.

    Returns:
        The first `IDENTITY_LENGTH` hexadecimal digits of the SHA-256.

    Raises:
        ValueError: A number is NaN or infinite.
    """
    text = json.dumps(provenance, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:IDENTITY_LENGTH]


def is_identity(name: str) -> bool:
    """Return whether a folder's name has the form of an identity."""
    return re.fullmatch(f"[0-9a-f]{{{IDENTITY_LENGTH}}}", name) is not None
