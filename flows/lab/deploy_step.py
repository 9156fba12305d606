"""Step of `prefect deploy` that creates the work queue and automations of the deployments."""

import os
from collections.abc import Mapping
from typing import Any

from prefect.automations import AutomationCore
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import ObjectNotFound

from enecg.errors import UserError
from flows.lab.automations import crash_silent_runs, crash_unstarted_runs, notify_on_failure

NOTIFY_VARIABLE = "ENECG_NOTIFY_BLOCK"
"""Environment variable with the notification block for failed runs, as ``TYPE/NAME``."""


def prepare_server(
    *, pool: str, queue: str, gpu_runs: int = 1, crashed_after_seconds: int = 300
) -> dict[str, str]:
    """Create or update the GPU's work queue and the automations on a Prefect server.

    The step is idempotent. `prefect deploy` runs it before it creates each deployment.

    Args:
        pool: Name of the work pool.
        queue: Name of the work queue of the deployments that use the GPU.
        gpu_runs: Maximum number of runs of this queue that are active at the same time.
        crashed_after_seconds: Seconds without a heartbeat after which a run is set to *Crashed*.

    Returns:
        An empty dictionary, because the step has no outputs for other steps.

    Raises:
        UserError: The block that `ENECG_NOTIFY_BLOCK` names does not exist on the server.
        ObjectNotFound: The work pool does not exist.
    """
    with get_client(sync_client=True) as client:
        _save_queue(client, pool, queue, gpu_runs)
        _save_automation(client, crash_silent_runs(crashed_after_seconds))
        _save_automation(client, crash_unstarted_runs())
        if notification := _notification(client, os.environ):
            _save_automation(client, notification)
    return {}


def _save_queue(client: SyncPrefectClient, pool: str, name: str, limit: int) -> None:
    try:
        queue = client.read_work_queue_by_name(name, work_pool_name=pool)
    except ObjectNotFound:
        client.create_work_queue(name, concurrency_limit=limit, work_pool_name=pool)
    else:
        client.update_work_queue(queue.id, concurrency_limit=limit)


def _save_automation(client: SyncPrefectClient, automation: AutomationCore) -> None:
    """Create an automation, or update the one with its name; a disabled one stays disabled."""
    existing = client.read_automations_by_name(automation.name)
    if not existing:
        client.create_automation(automation)
        return
    automation.enabled = existing[0].enabled
    # Update only if necessary: an update resets the trigger, which then misses runs whose
    # heartbeats have already stopped.
    if _content(existing[0]) != _content(automation):
        client.update_automation(existing[0].id, automation)


def _content(automation: AutomationCore) -> dict[str, Any]:
    """Return the fields that `flows.lab.automations` defines, in a comparable form."""
    content = automation.model_dump(mode="json", include={"description", "trigger", "actions"})
    # Sort the sets, so that equal contents compare equal.
    for name in ("after", "expect", "for_each"):
        content["trigger"][name] = sorted(content["trigger"][name])
    content["trigger"].pop("id", None)
    return content


def _notification(client: SyncPrefectClient, environ: Mapping[str, str]) -> AutomationCore | None:
    """Return the automation that reports failures, or None if no block is named."""
    block = environ.get(NOTIFY_VARIABLE)
    if not block:
        return None
    slug, _, name = block.partition("/")
    try:
        document = client.read_block_document_by_name(name, slug)
    except ObjectNotFound as error:
        raise UserError(
            f"{NOTIFY_VARIABLE}: the Prefect server has no block {block!r}; create it on the page "
            "Blocks of the UI, or set TYPE/NAME of an existing one (see `prefect block ls`)."
        ) from error
    return notify_on_failure(document.id)
