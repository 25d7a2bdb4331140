"""Publish: the folder onto S3 under a prefix of its own, then live in the catalogue."""

from __future__ import annotations

from prefect import task

from headrace import links
from headrace import publish as engine
from headrace.catalogue import items, publications
from headrace.catalogue.publications import Publication
from headrace.claim import Claim
from headrace.model import PackagedSet
from headrace.wiring import House, house
from tasks import report
from tasks.policy import STAGE


@task(name="publish", task_run_name="publish to S3", **STAGE)
def publish(held: Claim, publication: Publication, made: PackagedSet) -> int:
    """Upload a packaged folder and complete every item that waits for it; return how many."""
    here = house()
    # The token makes the prefix this attempt's own: a worker that was asleep can't write into it.
    prefix = f"{publication.id}/{held.fence.token}/"
    with here.database.begin() as tx:
        publications.uploading(tx, publication.id, held.fence)
    sizes = engine.publish(
        here.streams,
        prefix,
        made.folder,
        list(made.files),
        top=(made.hls, made.dash),
        on_progress=report.Reporter(
            here.database,
            lambda tx, progress: publications.set_progress(tx, publication.id, progress),
            artifact=f"Publishing {publication.asset_id[:12]}",
        ),
        stop=held,
    )
    with here.database.begin() as tx:
        completed = publications.complete(tx, publication.id, held.fence, prefix, made, sizes)
    _tidy(here, publication, prefix)
    return completed


def _tidy(here: House, publication: Publication, prefix: str) -> None:
    """Remove what failed attempts left behind, link what is live, free this machine's disk."""
    leftovers = [found.key for found in here.streams.list(f"{publication.id}/") if not found.key.startswith(prefix)]
    here.streams.delete(leftovers)
    here.scratch.drop_publication(publication.id)  # whoever has another attempt has lost its lease
    here.scratch.drop_master(publication.asset_id)
    with here.database.begin() as tx:
        owners = {item.owner for item in items.of_publication(tx, publication.id)}
    for owner in sorted(owners):
        url = links.watch_url(
            here.settings.url,
            here.settings.signing_key.get_secret_value(),
            owner,
            publication.asset_id,
            here.settings.watch_hours,
        )
        report.link(url, "Watch", f"watch-{publication.asset_id[:12]}")
