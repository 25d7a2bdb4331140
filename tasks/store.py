"""Store: the master into the vault, then whatever the recipe wants next."""

from __future__ import annotations

from prefect import task

from headrace.catalogue import assets, items, publications
from headrace.catalogue.database import Tx
from headrace.catalogue.items import Change, Item
from headrace.catalogue.orders import Bundle
from headrace.claim import Claim
from headrace.errors import ObjectDamaged, ObjectMissing, from_json
from headrace.model import ItemState, StoredMaster
from headrace.source import safe_name, title_of
from headrace.wiring import House, house
from tasks.items import each_item
from tasks.policy import STAGE
from tasks.report import Reporter


@task(name="store", task_run_name="store the masters", **STAGE)
def store(held: Claim, bundle: Bundle) -> int:
    """Make each identified item's master durable; return how many items there were."""
    here = house()

    def work(item: Item) -> None:
        store_item(here, held, bundle, item)

    return each_item(here, held, bundle.id, (ItemState.STORING,), work)


def store_item(here: House, held: Claim, bundle: Bundle, item: Item) -> None:
    """Store one item's master unless it is durable, give its owner an entry, and move it on."""
    done = here.scratch.kept_download(item.id)
    asset_id = item.asset_id or ""
    with here.database.begin() as tx:
        master = assets.master(tx, asset_id)
    stored = None
    if master is None or not _sound(here, master):
        if done is None:
            raise ObjectMissing(f"the master of {item.source.shown} is damaged or missing in the vault")
        stored = _store(here, held, item)
    with here.database.begin() as tx:
        if stored is not None and master is None:
            master = assets.add_master(tx, stored)
        elif stored is not None:
            assets.replace_master(tx, stored)
            master = stored
        _finish(tx, held, bundle, item, safe_name(done.name or item.source.name) if done else None)
    if stored is not None and master != stored:
        here.vault.discard(stored)  # another writer of the same content was first
    if done is not None:
        done.path.replace(here.scratch.master(asset_id))  # the encoder may be on this machine
    here.scratch.drop_item(item.id)


def _sound(here: House, master: StoredMaster) -> bool:
    """Return whether a known master is really there; one that is not is repaired by this item."""
    try:
        here.vault.check(master)
    except (ObjectMissing, ObjectDamaged):
        return False
    return True


def _store(here: House, held: Claim, item: Item) -> StoredMaster:
    done = here.scratch.kept_download(item.id)
    if done is None:
        raise ObjectMissing("the download is not on this machine", hint="Retry the order.")
    with here.database.begin() as tx:
        media_type = assets.media_type(tx, done.digests.blake3)
    return here.vault.store(
        done.path,
        done.digests,
        media_type,
        here.scratch.item(item.id),
        on_progress=Reporter(here.database, lambda tx, progress: items.set_progress(tx, item.id, progress)),
        stop=held,
    )


def _finish(tx: Tx, held: Claim, bundle: Bundle, item: Item, name: str | None) -> None:
    """Move an item on, in the transaction that makes its master known."""
    asset_id = item.asset_id or ""
    if name is not None:
        assets.add_entry(
            tx,
            item.owner,
            asset_id,
            title=title_of(name),
            path=name,
            collection=bundle.collection,
            item_id=item.id,
        )
    problem = assets.problem(tx, asset_id)
    if not bundle.recipe.publish:
        items.set_state(tx, item.id, ItemState.STORED, fence=held.fence)
    elif problem is not None:
        items.set_state(tx, item.id, ItemState.FAILED, Change(error=from_json(problem)), fence=held.fence)
    else:
        publications.join(tx, item.id, asset_id, bundle.recipe, fence=held.fence)
