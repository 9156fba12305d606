"""A multiprocessing context for processes that tests kill."""

import multiprocessing
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext


def fork_context() -> ForkServerContext:
    """Return a context whose fork server has imported PyTorch, so that processes start quickly."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pipeline.extract", "pipeline.extraction.dask_engine"])
    forkserver.ensure_running()
    return context
