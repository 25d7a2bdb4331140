"""Package: the encodes become a folder that plays, in HLS and DASH."""

from __future__ import annotations

import shutil

from prefect import task

from headrace import package as engine
from headrace.catalogue.publications import Publication
from headrace.claim import Claim
from headrace.model import Encoded, PackagedSet
from headrace.wiring import house
from tasks.policy import STAGE


@task(name="package", task_run_name="package as HLS and DASH", **STAGE)
def package(held: Claim, publication: Publication, encoded: Encoded) -> PackagedSet:
    """Package a publication's encodes; the folder stays in its scratch folder."""
    folder = house().scratch.publication(publication.id, held.fence.token) / "packaged"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return engine.package(encoded, publication.recipe, folder, stop=held)
