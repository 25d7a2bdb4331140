"""The one place that places orders and starts runs.

An order is committed first; then its run is started. If Prefect does not answer, the
order waits, and ``reconcile`` starts it later: nothing is lost.

A run's idempotency key holds the attempt, because a key returns even a failed run for
ever; the attempt is counted up in the transaction that the run is started in, so two
callers start one run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError

from headrace.catalogue import orders, work
from headrace.catalogue.orders import Wanted
from headrace.catalogue.work import Due, Work
from headrace.errors import OrchestratorUnavailable
from headrace.log import Log
from headrace.recipe import Recipe
from headrace.wiring import House

log = Log(__name__)

DEPLOYMENTS = {
    Work.ORDER: ("ingest-order/ingest-order", "order_id"),
    Work.BUNDLE: ("ingest-bundle/ingest-bundle", "bundle_id"),
    Work.PUBLICATION: ("transcode-asset/transcode-asset", "publication_id"),
}
"""Work → its deployment, and the parameter that takes its id."""


def place(
    house: House,
    owner: str,
    wanted: Sequence[Wanted],
    recipe: Recipe,
    *,
    key: str | None = None,
    collection: str = "",
    bytes_per_second: int | None = None,
) -> tuple[UUID, bool]:
    """Write an order; return its id and whether it is new (else the same key was used before)."""
    with house.database.begin() as tx:
        return orders.create(
            tx, owner, wanted, recipe, key=key, collection=collection, bytes_per_second=bytes_per_second
        )


def start(house: House, kind: Work, only: UUID) -> bool:
    """Start the run of one piece of work if it is due; return whether one was started.

    Raises ``OrchestratorUnavailable`` where Prefect does not answer; then nothing has changed.
    """
    with house.database.begin() as tx:
        due = work.due(tx, kind, only=only)
    started = [hand_over(house, one) for one in due]
    return any(run_id is not None for run_id in started)


def hand_over(house: House, due: Due) -> UUID | None:
    """Start a run for due work; return its id, or ``None`` where somebody else was first."""
    deployment, parameter = DEPLOYMENTS[due.kind]
    with house.database.begin() as tx:
        attempt = work.hand_over(tx, due)
        if attempt is None:
            return None
        with prefect_client() as client:
            run = client.create_flow_run_from_deployment(
                _deployment_id(client, deployment),
                parameters={parameter: str(due.id)},
                idempotency_key=f"{due.kind.value}:{due.id}:{attempt}",
            )
        work.remember_run(tx, due, run.id)
    log.info("run.started", kind=due.kind.value, id=str(due.id), attempt=attempt, run=str(run.id))
    return run.id


def _deployment_id(client: SyncPrefectClient, name: str) -> UUID:
    try:
        return client.read_deployment_by_name(name).id
    except ObjectNotFound as error:
        raise OrchestratorUnavailable(
            f"Prefect's server does not know the deployment {name} yet",
            hint="`headrace up` registers it; elsewhere `python -m headrace.stack.jobs deploy`.",
        ) from error


def run_of(run_id: UUID) -> FlowRun | None:
    """Return what Prefect knows of a run, or ``None`` where it knows nothing (a hint, never the truth)."""
    with prefect_client() as client:
        try:
            return client.read_flow_run(run_id)
        except ObjectNotFound:
            return None


@contextmanager
def prefect_client() -> Iterator[SyncPrefectClient]:
    """Open a client of Prefect's server; raises ``OrchestratorUnavailable`` (a retry can help)."""
    try:
        with get_client(sync_client=True) as client:
            yield client
    except (httpx.HTTPError, PrefectHTTPStatusError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "API" not in str(error):
            raise
        raise OrchestratorUnavailable(
            f"Prefect's server does not answer: {str(error).splitlines()[0]}",
            hint="What was ordered is kept, and starts when the server is back.",
        ) from error
