"""What makes two stores the same: a digest of everything that their numbers depend on."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

IDENTITY_LENGTH = 16
"""Hexadecimal digits kept of the SHA-256: 64 bits, enough for the stores of any lab."""


def compute_identity(provenance: Mapping[str, Any]) -> str:
    """The digest of a provenance document (JSON values), the same whatever its order of keys."""
    text = json.dumps(provenance, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:IDENTITY_LENGTH]
