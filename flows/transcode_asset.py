"""One encode for each (asset, recipe): transcode, package, publish."""

from __future__ import annotations

from uuid import UUID

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Cancelled as CancelledState
from prefect.states import Completed, Failed

from headrace.catalogue import assets, publications
from headrace.catalogue.publications import Publication
from headrace.claim import Claim, claim
from headrace.errors import Cancelled, HeadraceError, LeaseLost, MediaError, WorkAbandoned
from headrace.model import PublicationState
from headrace.wiring import House, house
from tasks import policy
from tasks.package import package
from tasks.publish import publish
from tasks.transcode import transcode


@flow(name="transcode-asset", flow_run_name="publication {publication_id}")
def transcode_asset(publication_id: UUID) -> State[None]:
    """Make a publication live, and published every item that waits for it."""
    here = house()
    with claim(here.database, f"publication:{publication_id}") as held:
        if held is None:
            return Completed(message="another run is at it")
        with here.database.begin() as tx:
            publication = publications.begin(tx, publication_id, held.fence)
        if publication.state is not PublicationState.WORKING:
            return Completed(message=f"nothing to do: it is {publication.state.value}")
        try:
            if publication.attempt > policy.MAX_RUNS:
                raise WorkAbandoned(f"the work on this asset ended unexpectedly {policy.MAX_RUNS} times")
            encoded = transcode(held, publication)
            made = package(held, publication, encoded)
            completed = publish(held, publication, made)
        except (LeaseLost, Cancelled) as error:
            here.scratch.drop_publication(publication_id, held.fence.token)
            return CancelledState(message=error.message)
        except HeadraceError as error:
            return settle(here, held, publication, error)
    return Completed(message=f"live; {completed} item(s) published")


def settle(here: House, held: Claim, publication: Publication, error: HeadraceError) -> State[None]:
    """Write down what an error means: try again later, or fail with every item that waits."""
    with here.database.begin() as tx:
        if error.retryable and publication.attempt < policy.ROUNDS:
            publications.postpone(tx, publication.id, held.fence, policy.LEAVE_SECONDS)
        else:
            publications.fail(tx, publication.id, held.fence, error)
            if isinstance(error, MediaError):
                assets.set_problem(tx, publication.asset_id, error)
            here.scratch.drop_master(publication.asset_id)
    here.scratch.drop_publication(publication.id, held.fence.token)
    return Failed(message=f"{error.code}: {error.message}")
