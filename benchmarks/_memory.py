"""Peak memory of a process."""

import resource
import sys


def peak_bytes(usage: resource.struct_rusage | None = None) -> int:
    """Return the peak memory of a process in bytes; by default, of this process."""
    usage = usage or resource.getrusage(resource.RUSAGE_SELF)
    # macOS reports bytes, Linux kibibytes.
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
