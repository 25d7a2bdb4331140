"""What is decided about a host: limits as they are written, and the circuit. Pure."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace import settings
from headrace.errors import InvalidRequest
from headrace.hosts import Go, HostLimits, HostState, Wait, Why, host_key
from headrace.hosts.rules import parse
from headrace.hosts.state import (
    CLEAN,
    FAILURES,
    MOST_COOL_SECONDS,
    MOST_OPEN_SECONDS,
    OPEN_SECONDS,
    PROBE_SECONDS,
    Phase,
    after_failure,
    after_success,
    has_room,
    may_enter,
)

LIMITS = HostLimits(4)
NOW = 1_000_000.0


def opened(now: float = NOW) -> HostState:
    state = CLEAN
    for _ in range(FAILURES):
        state = after_failure(state, now, "it refuses connections")
    return state


# Rules


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("archive.org:443", HostLimits(4)),
        ("www.archive.org:443", HostLimits(16)),
        ("a.example.org:80", HostLimits(2, 1.0)),
        ("example.org:80", HostLimits(16)),
        ("badexample.org:80", HostLimits(16)),
        ("a.b.example.org:80", HostLimits(2, 1.0)),
        ("slow.example.org:80", HostLimits(1, 30 / 60)),
        ("10.0.0.5:8080", HostLimits(8)),
        ("10.0.0.5:80", HostLimits(16)),
        ("[::1]:443", HostLimits(3)),
    ],
)
def test_the_most_exact_rule_holds(host, expected):
    """Whatever the order in which they are written."""
    text = "*.example.org=2@1/s, ARCHIVE.org=4,slow.example.org=1@30/min, 10.0.0.5:8080=8, [::1]=3,"
    assert parse(text).of(host) == expected
    assert parse(",".join(reversed(text.split(",")))).of(host) == expected


@pytest.mark.parametrize(
    "text", ["archive.org", "=4", "a.org=0", "a.org=9999", "a.org=4@", "a.org=4@0/s", "a.org=4@1/day", "*=4", "a b=4"]
)
def test_what_is_no_rule_is_quoted(text):
    """Alone, and as a setting."""
    with pytest.raises(ValueError, match=r"a\.org|archive\.org|=4"):
        parse(f"good.org=1, {text}")
    with pytest.raises(InvalidRequest, match="HEADRACE_HOST_LIMITS") as raised:
        settings.load(host_limits=text)
    assert text in raised.value.message


def test_a_host_is_its_name_and_port():
    """Lower case, with brackets where the address needs them."""
    assert host_key("Archive.ORG", 443) == "archive.org:443"
    assert host_key("::1", 80) == "[::1]:80"
    assert host_key("archive.org.", 443) == "archive.org:443"
    assert len(host_key("a" * 10_000, 80)) < 300
    assert parse("[::1]:80=2").of("[::1]:80").connections == 2


# The circuit


def test_the_circuit_opens_closes_and_opens_for_longer():
    """30 s, then doubled with each probe that fails, up to ten minutes; a success forgets all of it."""
    state, now, seen = opened(), NOW, []
    for _ in range(8):
        assert isinstance(may_enter(state, now, LIMITS, room=True)[1], Wait)
        seen.append(state.open_until - now)
        now = state.open_until
        state, decision = may_enter(state, now, LIMITS, room=True)
        assert decision == Go()
        state = after_failure(state, now, "it refuses connections")
    assert seen == [30, 60, 120, 240, 480, 600, 600, 600]
    assert after_success(state, now) == CLEAN


def test_phases_are_what_people_see():
    """And until when."""
    state = opened()
    assert (CLEAN.phase(NOW), CLEAN.until(NOW)) == (Phase.OK, None)
    assert (state.phase(NOW), state.until(NOW)) == (Phase.OPEN, NOW + OPEN_SECONDS)
    assert (state.phase(NOW + OPEN_SECONDS), state.until(NOW + OPEN_SECONDS)) == (Phase.PROBING, None)
    cool = after_failure(CLEAN, NOW, "it answers 429", retry_after_seconds=9)
    assert (cool.phase(NOW), cool.until(NOW), cool.phase(NOW + 9)) == (Phase.COOLING, NOW + 9, Phase.OK)


def test_a_pause_for_a_day_is_not_for_everybody():
    """One odd address doesn't silence its host."""
    state = after_failure(CLEAN, NOW, "it answers 503", retry_after_seconds=86400)
    assert state.cool_until == NOW + MOST_COOL_SECONDS
    assert state.failures == 0


def test_a_shorter_pause_does_not_cut_a_longer_one():
    """The host may tell one connection less than another."""
    state = after_failure(CLEAN, NOW, "it answers 429", retry_after_seconds=60)
    assert after_failure(state, NOW, "it answers 429", retry_after_seconds=1).cool_until == NOW + 60


def test_what_was_under_way_when_the_circuit_opened_changes_nothing():
    """It began before."""
    state = opened()
    assert after_failure(state, NOW + 1, "it refuses connections") == state


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["enter", "success", "failure", "pause", "wait"]),
        st.floats(0, 700),
        st.sampled_from(["", "a", "b"]),
    ),
    max_size=60,
)


@given(EVENTS)
def test_no_history_leaves_a_host_out_for_ever_or_lets_two_probe(events):
    """However it went: after the longest pause somebody may ask, and only one where the circuit isn't closed."""
    state, now, probing_until = CLEAN, NOW, 0.0
    for kind, amount, of in events:
        if kind == "enter":
            half_open = 0 < state.open_until <= now and state.cool_until <= now
            state, decision = may_enter(state, now, LIMITS, room=True)
            if half_open and isinstance(decision, Go):
                assert now >= probing_until
                probing_until = now + PROBE_SECONDS
        elif kind == "success":
            state, probing_until = after_success(state, now), 0.0
        elif kind == "wait":
            now += amount
        else:
            pause = amount if kind == "pause" else None
            state = after_failure(state, now, "why", of=of, retry_after_seconds=pause)
            probing_until = 0.0
        assert state.open_until <= now + MOST_OPEN_SECONDS
        assert state.cool_until <= now + MOST_COOL_SECONDS
        assert state.failures >= 0
    later = now + MOST_OPEN_SECONDS + PROBE_SECONDS
    after, decision = may_enter(state, later, LIMITS, room=True)
    assert isinstance(decision, Go)
    if after.open_until:
        assert may_enter(after, later, LIMITS, room=True)[1].why is Why.PROBE


@given(st.floats(0.01, 1000), st.lists(st.floats(0, 5), min_size=1, max_size=50))
def test_a_rate_is_kept_however_requests_come(rate, gaps):
    """Booked times are never closer than the rate allows, and nobody waits longer than needed."""
    limits, state, now, booked = HostLimits(4, rate), CLEAN, NOW, []
    for gap in gaps:
        now += gap
        state, decision = may_enter(state, now, limits, room=True)
        if isinstance(decision, Go):
            booked.append(now + decision.pause_seconds)
        else:
            assert decision.why is Why.RATE
    assert all(later - earlier >= 1 / rate - 1e-3 for earlier, later in itertools.pairwise(booked))
    assert booked[0] == NOW + gaps[0]


@given(st.integers(0, 20), st.integers(0, 20), st.integers(1, 20))
def test_there_is_room_for_who_comes_first(active, ahead, connections):
    """As many as may be, counting those who were there before."""
    assert has_room(active, ahead, HostLimits(connections)) == (active + ahead + 1 <= connections)


def test_without_room_nothing_is_booked():
    """Neither the probe nor a time."""
    half_open = replace(opened(), open_until=NOW)
    for state, limits in ((half_open, LIMITS), (CLEAN, HostLimits(1, 1.0))):
        after, decision = may_enter(state, NOW, limits, room=False)
        assert (after, decision.why) == (state, Why.PLACE)
