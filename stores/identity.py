"""The identity of a store: a digest of everything that can change its numbers."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

IDENTITY_LENGTH = 16
"""Hexadecimal digits kept of the SHA-256, which are 64 bits."""


def compute_identity(provenance: Mapping[str, Any]) -> str:
    """Return the digest of a provenance document (JSON values); key order does not matter.

    Raises:
        ValueError: A number is NaN or infinite.
    """
    text = json.dumps(provenance, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:IDENTITY_LENGTH]
