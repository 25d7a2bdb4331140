"""Transcode: the master onto this machine, and the encodes that the recipe wants."""

from __future__ import annotations

import contextlib
import os
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
    folder = here.scratch.publication(publication.id, held.fence.token)
    source = bring_master(here, held, publication.asset_id, folder / "source")
    work = folder / "encoded"
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


def bring_master(here: House, held: Claim, asset_id: str, path: Path) -> Path:
    """Put an asset's original at ``path``: what the store stage left on this machine, else from the vault."""
    with here.database.begin() as tx:
        digests = assets.digests(tx, asset_id)
        master = assets.master(tx, asset_id)
    if path.is_file():  # an earlier try of this attempt; it appeared whole
        return path
    with contextlib.suppress(FileNotFoundError):
        os.link(here.scratch.master(asset_id), path)
        if path.stat().st_size == digests.size_bytes:
            return path
        path.unlink()
    if master is None:
        raise NotFound(f"the master of {asset_id} is not in the vault")
    here.vault.restore(master, path, stop=held)
    return path
