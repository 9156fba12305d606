"""Peak memory of a process."""

import resource
import sys


def peak_bytes(usage: resource.struct_rusage | None = None) -> int:
    """Return the peak resident memory of a process in bytes; by default, of this process.

    On Linux, it is at least the peak of the parent process at the time when the process started.
    """
    usage = usage or resource.getrusage(resource.RUSAGE_SELF)
    # macOS reports bytes, Linux kibibytes.
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
