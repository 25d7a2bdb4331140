"""Transcode: the master onto this machine, and the encodes that the recipe wants."""

from __future__ import annotations

import shutil
from pathlib import Path

from prefect import task

from headrace import transcode as engine
from headrace.catalogue import assets, publications
from headrace.catalogue.publications import Publication
from headrace.claim import Claim
from headrace.errors import NotFound
from headrace.identify import probe
from headrace.model import Encoded
from headrace.wiring import House, house
from tasks.policy import STAGE
from tasks.report import Reporter


@task(name="transcode", task_run_name="transcode for {publication.recipe.name}", **STAGE)
def transcode(held: Claim, publication: Publication) -> Encoded:
    """Encode every rendition of a publication; the files stay in its scratch folder."""
    here = house()
    source = bring_master(here, held, publication.asset_id)
    work = here.scratch.publication(publication.id) / "encoded"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    report = Reporter(
        here.database,
        lambda tx, progress: publications.set_progress(tx, publication.id, progress),
        artifact=f"Transcoding {publication.asset_id[:12]} for {publication.recipe.name}",
    )
    encoded = engine.encode(
        source,
        probe(source, stop=held),
        publication.recipe,
        work,
        threads=here.settings.threads,
        on_progress=report,
        stop=held,
    )
    report.finish()
    return encoded


def bring_master(here: House, held: Claim, asset_id: str) -> Path:
    """Return an asset's original on this machine's disk, from the vault if it is not there yet."""
    with here.database.begin() as tx:
        digests = assets.digests(tx, asset_id)
        master = assets.master(tx, asset_id)
    path = here.scratch.master(asset_id)
    if path.is_file() and path.stat().st_size == digests.size_bytes:
        return path
    if master is None:
        raise NotFound(f"the master of {asset_id} is not in the vault")
    here.vault.restore(master, path, stop=held)
    return path
