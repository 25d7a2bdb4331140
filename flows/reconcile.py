"""Puts right whatever a crash, a lost reply or a stopped server left behind.

It reads the rows (the truth), asks Prefect about the runs that they name (hints), and
starts again what nobody works on. It may run at any time, and twice at once.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from prefect import flow
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Crashed

from flows import submit
from headrace import publish
from headrace.catalogue import hosts, publications, uploads, work
from headrace.catalogue.work import Due, Work
from headrace.log import Log
from headrace.wiring import House, house

log = Log(__name__)

STARTING_SECONDS = 60.0
"""A run that is pending or running for so long without holding its lease is dead: starting takes
4 to 12 s (FIELD.md, Prefect), and a lease is taken first thing."""

GRACE_SECONDS = 3600.0
"""How long retired streams stay, for players in the middle of them."""

UPLOAD_SECONDS = 24 * 3600.0
SCRATCH_SECONDS = 24 * 3600.0
"""How long forgotten uploads and scratch files stay."""


@flow(name="reconcile", flow_run_name="reconcile")
def reconcile() -> dict[str, int]:
    """Start what is due, sweep what is left; return how many of each."""
    here = house()
    done = {kind.value: restart(here, kind) for kind in Work}
    done["swept"] = sweep(here)
    return done


def restart(here: House, kind: Work) -> int:
    """Start again the work of a kind that nobody is at; return how many runs."""
    with here.database.begin() as tx:
        due = work.due(tx, kind)
    return sum(submit.hand_over(here, one) is not None for one in due if not still_coming(one))


def still_coming(due: Due) -> bool:
    """Return whether the run that has the work may still get to it; ends one that is dead."""
    if due.run_id is None:
        return False
    run = submit.run_of(due.run_id)
    if run is None or run.state is None or run.state.is_final():
        return False
    if run.state.type is StateType.SCHEDULED:
        return True
    if not due.lapsed and datetime.now(UTC) - run.state.timestamp < timedelta(seconds=STARTING_SECONDS):
        return True
    _end(run, due.id)
    return False


def _end(run: FlowRun, work_id: UUID) -> None:
    """Tell Prefect that a run is dead, so that it gives its slots back."""
    log.warning("run.dead", run=str(run.id), work=str(work_id), state=run.state_name)
    with submit.prefect_client() as client:
        client.set_flow_run_state(run.id, Crashed(message="nobody holds the lease of its work"), force=True)


def sweep(here: House) -> int:
    """Remove what nobody needs any more; return how many things."""
    swept = here.scratch.sweep(SCRATCH_SECONDS)
    with here.database.begin() as tx:
        work.sweep(tx)
        hosts.sweep(tx)
        retired = publications.retired_prefixes(tx, GRACE_SECONDS)
        old = uploads.expired(tx, UPLOAD_SECONDS)
    for publication_id, prefix in retired:
        publish.remove(here.streams, prefix)
        with here.database.begin() as tx:
            publications.forget_prefix(tx, publication_id)
    for upload in old:
        here.incoming.delete([upload.object_key])
        with here.database.begin() as tx:
            uploads.remove(tx, upload.id)
    return swept + len(retired) + len(old)
