"""One stage over the items of a bundle: each on its own, none spoils the others."""

from __future__ import annotations

from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

from headrace.catalogue import items
from headrace.catalogue.items import Change, Item
from headrace.claim import Claim
from headrace.errors import Cancelled, HeadraceError, LeaseLost, SourceBusy
from headrace.hosts import Why
from headrace.model import ItemState
from headrace.wiring import House
from tasks import policy


def each_item(
    house: House,
    held: Claim,
    bundle_id: UUID,
    states: Collection[ItemState],
    work: Callable[[Item], None],
    *,
    at_once: int = 1,
) -> int:
    """Do ``work`` for each item of the bundle that is in one of ``states``; return how many there were.

    An error that a retry can't help fails its item. Others are raised for Prefect to try the
    stage again, which then meets only the items that are left; at the last try these leave
    the bundle for later, or fail. Raises ``LeaseLost`` or ``Cancelled`` when the claim is lost.
    """
    with house.database.begin() as tx:
        todo = [item for item in items.of_bundle(tx, bundle_id) if item.state in states]
    last = policy.last_try()
    with ThreadPoolExecutor(at_once) as pool:
        outcomes = list(pool.map(lambda item: _try(house, held, item, work, last=last), todo))
    waiting = [error for error in outcomes if error is not None]
    if waiting:
        raise waiting[0]
    return len(todo)


def _try(house: House, held: Claim, item: Item, work: Callable[[Item], None], *, last: bool) -> HeadraceError | None:
    """Return the error that the stage should be tried again for, or ``None``."""
    try:
        work(item)
    except (LeaseLost, Cancelled):
        raise
    except HeadraceError as error:
        return _settle(house, held, item, error, last=last)
    return None


def _settle(house: House, held: Claim, item: Item, error: HeadraceError, *, last: bool) -> HeadraceError | None:
    """Write down what an error means for an item; return it if the stage should be tried again."""
    with house.database.begin() as tx:
        now = items.get(tx, item.id)
        # Who was not let in has asked for nothing, and would not be let in at once. That is no try, but
        # where the circuit is open: such a host may never come back.
        busy = isinstance(error, SourceBusy)
        attempts = now.attempts + (not busy or error.evidence.get("why") == Why.OPEN)
        if not error.retryable or attempts >= policy.MAX_ATTEMPTS:
            items.set_state(tx, item.id, ItemState.FAILED, Change(error=error, attempts=attempts), fence=held.fence)
            return None
        if not last and not busy:
            items.set_state(tx, item.id, now.state, Change(attempts=attempts), fence=held.fence)
            return error
        wait = max(0 if busy else policy.LEAVE_SECONDS, error.evidence.get("retry_after_seconds") or 0)
        change = Change(attempts=attempts, retry_after_seconds=wait, evidence={"why": error.to_json()})
        items.set_state(tx, item.id, ItemState.QUEUED, change, fence=held.fence)
    return None
