"""Automations of a lab's Prefect server: set lost runs to *Crashed*, and report failures."""

from datetime import timedelta
from uuid import UUID

from prefect.automations import AutomationCore
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState, SendNotification
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

TAG = "enecg"
"""Tag of the deployments in `prefect.yaml`, which their runs inherit."""

HEARTBEAT = "prefect.flow-run.heartbeat"

ENDED = {
    f"prefect.flow-run.{state}"
    for state in ("Completed", "Failed", "TimedOut", "Cancelled", "Crashed", "Suspended")
}
"""Events after which a run sends no more heartbeats."""

START_SECONDS = 1800
"""Seconds after which a pending run is set to *Crashed*."""


def crash_silent_runs(seconds: int) -> AutomationCore:
    """Return an automation that sets runs to *Crashed* when their heartbeats stop.

    Args:
        seconds: Seconds without a heartbeat. It must exceed the interval of the heartbeats.

    Returns:
        The automation.
    """
    return _crash(
        "EnECG: crash runs without heartbeats",
        f"No heartbeat for {seconds} s: the run's process has ended or cannot reach this server.",
        after={HEARTBEAT},
        expect={HEARTBEAT, *ENDED},
        seconds=seconds,
    )


def crash_unstarted_runs(seconds: int = START_SECONDS) -> AutomationCore:
    """Return an automation that sets runs that stay *Pending* to *Crashed*.

    A worker has taken such a run, but not started it. The run counts towards the concurrency limit
    of its queue, and sends no heartbeats.

    Args:
        seconds: Maximum seconds between the states *Pending* and *Running*.

    Returns:
        The automation.
    """
    return _crash(
        "EnECG: crash runs that do not start",
        f"The worker has not started the run within {seconds} s.",
        after={"prefect.flow-run.Pending"},
        expect={"prefect.flow-run.Running", *ENDED},
        seconds=seconds,
    )


def notify_on_failure(block: UUID) -> AutomationCore:
    """Return an automation that sends a message when a run with the tag `TAG` fails or crashes.

    Args:
        block: Id of a notification block on the server.

    Returns:
        The automation.
    """
    failures = {f"prefect.flow-run.{state}" for state in ("Failed", "TimedOut", "Crashed")}
    return AutomationCore(
        name="EnECG: report failures",
        trigger=EventTrigger(
            expect=failures,
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            match_related=ResourceSpecification(
                {
                    "prefect.resource.id": f"prefect.tag.{TAG}",
                    "prefect.resource.role": "tag",
                }
            ),
            posture=Posture.Reactive,
            threshold=1,
            within=timedelta(0),
        ),
        actions=[
            SendNotification(
                block_document_id=block,
                subject="{{ flow_run.state.name }}: {{ flow_run.name }}",
                body="{{ flow_run.state.message }}\n{{ flow_run | ui_url }}",
            )
        ],
    )


def _crash(
    name: str, message: str, *, after: set[str], expect: set[str], seconds: int
) -> AutomationCore:
    return AutomationCore(
        name=name,
        description=message,
        trigger=EventTrigger(
            after=after,
            expect=expect,
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=seconds),
        ),
        actions=[
            ChangeFlowRunState(
                name="Crashed", state=StateType.CRASHED, message=message, force=False
            )
        ],
    )
