"""Keys of artifacts: one per kind of artifact and subject (a store, run folder or file)."""

import hashlib
import re

MAX_LENGTH = 100


def artifact_key(kind: str, subject: str) -> str:
    """Return the key of an artifact. Artifacts with the same key are versions of one artifact.

    Args:
        kind: Kind of the artifact, such as ``extraction``.
        subject: Store, run folder or file that the artifact describes.

    Returns:
        Lower-case letters, digits and dashes, as Prefect requires.
    """
    words = re.sub(r"[^a-z0-9]+", "-", f"{kind}-{subject}".lower()).strip("-")
    if len(words) <= MAX_LENGTH:
        return words
    # The end of a path identifies it better than its start.
    digest = hashlib.sha256(subject.encode()).hexdigest()[:8]
    end = words[len(kind) + len(digest) + 2 - MAX_LENGTH :].strip("-")
    return f"{kind}-{digest}-{end}"
