"""``python -m flows.recover``: after a start of the embedded stack, when every process of the last one is gone.

Runs that Prefect still thinks are at work are ended, so that they give back their slots,
and everything that is due is handed over again at once.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime

import structlog
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import StateType
from prefect.states import Crashed

from flows import reconcile, submit
from headrace.catalogue.work import Work
from headrace.errors import HeadraceError
from headrace.wiring import house

log = structlog.get_logger(__name__)

UNFINISHED = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]


def recover(before: datetime) -> int:
    """End the runs that were at work before that time, and restart what is due; return how many were."""
    at_work = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=UNFINISHED)))
    with submit.prefect_client() as client:
        orphans = [
            run
            for run in client.read_flow_runs(flow_run_filter=at_work, limit=200)
            if run.state is not None and run.state.timestamp < before
        ]
        for run in orphans:
            client.set_flow_run_state(run.id, Crashed(message="the stack was stopped"), force=True)
    here = house()
    for kind in Work:
        reconcile.restart(here, kind)
    return len(orphans)


def main() -> int:
    """Recover; ``argv[1]`` is the time (ISO 8601) at which the old processes were gone."""
    before = datetime.fromisoformat(sys.argv[1]) if len(sys.argv) > 1 else datetime.now(UTC)
    try:
        count = recover(before)
    except HeadraceError as error:
        sys.stderr.write(f"recover: {error.message}\n")
        return 1
    log.info("recovered", runs=count)
    return 0


if __name__ == "__main__":
    sys.exit(main())
