"""Signed links: good until they expire, for what they were signed for."""

from __future__ import annotations

import pytest

from headrace import links
from headrace.errors import NotAllowed


def test_a_link_is_good_until_it_expires():
    """Then it says that it has expired."""
    token = links.sign("key", "watch:me:a", 60, now=1000)
    assert links.check("key", "watch:me:a", token, now=1059) == 1060
    with pytest.raises(NotAllowed, match="expired"):
        links.check("key", "watch:me:a", token, now=1061)


@pytest.mark.parametrize("token", ["", ".", "1060", "x.y", "9999999999999.a", "1060.AAAA", "١٢.a"])
def test_a_made_up_token_is_refused(token):
    """Whatever it looks like."""
    with pytest.raises(NotAllowed):
        links.check("key", "watch:me:a", token, now=1000)


def test_a_link_is_for_one_thing_and_one_key():
    """Another asset, another owner, a later expiry, another key: refused."""
    token = links.sign("key", "watch:me:a", 60, now=1000)
    expiry, _, mac = token.partition(".")
    for key, subject, tried in (
        ("key", "watch:me:b", token),
        ("key", "watch:you:a", token),
        ("other", "watch:me:a", token),
        ("key", "watch:me:a", f"{int(expiry) + 1}.{mac}"),
    ):
        with pytest.raises(NotAllowed):
            links.check(key, subject, tried, now=1000)


def test_without_a_key_nothing_is_signed():
    """An empty key would let anybody sign."""
    with pytest.raises(NotAllowed):
        links.sign("", "watch:me:a", 60)
