"""A context for processes that tests kill, forked from one that has imported the libraries."""

import multiprocessing
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext


def fork_context() -> ForkServerContext:
    """Return a context that forks processes from a server with imported PyTorch and pipeline."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pipeline.extract", "pipeline.extraction.dask_engine"])
    forkserver.ensure_running()
    return context
