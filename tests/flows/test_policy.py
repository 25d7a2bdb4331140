"""Retries and portions: what is tried again, how often, and in which portions work is done."""

from __future__ import annotations

from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect.states import Failed

from flows.ingest_order import BUNDLE_BYTES, BUNDLE_ITEMS, UNKNOWN_BYTES, plan_bundles
from headrace import errors
from headrace.catalogue.items import Item
from headrace.model import ItemState, Progress, Terms
from headrace.source import parse
from tasks import policy


def item(text):
    from datetime import UTC, datetime

    now = datetime.now(UTC)
    return Item(
        id=uuid4(),
        order_id=uuid4(),
        owner="me",
        source=parse(text),
        expected_sha256=None,
        terms=Terms(),
        state=ItemState.QUEUED,
        attempts=0,
        not_before=None,
        progress=Progress(None),
        asset_id=None,
        publication_id=None,
        duplicate=False,
        proofs=(),
        warnings=(),
        error=None,
        created_at=now,
        updated_at=now,
        sha256=None,
        size_bytes=None,
        media_type=None,
        title=None,
        playable=False,
    )


@pytest.mark.parametrize("leaf", list(errors.leaves()))
def test_prefect_retries_exactly_what_the_error_allows(leaf):
    """The tree decides, and nothing else."""
    state = Failed(data=leaf("x"))
    assert policy.only_if_it_helps(None, None, state) is leaf.retryable


def test_a_bug_is_not_retried():
    """An exception that is not ours ends the run; ``reconcile`` counts it."""
    assert policy.only_if_it_helps(None, None, Failed(data=ValueError("x"))) is False


@given(st.lists(st.sampled_from(["http://h/a", "asset:abcdef12"]), max_size=500))
def test_bundles_hold_every_item_once_in_order(texts):
    """Nothing is lost or doubled, no bundle is empty or too large."""
    waiting = [item(text) for text in texts]
    portions = plan_bundles(waiting)
    assert [one for portion in portions for one in portion] == waiting
    for portion in portions:
        assert 0 < len(portion) <= BUNDLE_ITEMS
        urls = sum(one.source.locator.startswith("http") for one in portion)
        assert urls * UNKNOWN_BYTES <= BUNDLE_BYTES
