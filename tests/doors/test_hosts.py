"""Hosts in trouble, as people and machines see them, and how they are let in again."""

from __future__ import annotations

import json
import re

import pytest

from tests.browser import opened
from tests.orders import wait_until
from tests.servers import serving


@pytest.fixture(scope="module")
def troubled(stack):
    """Order from a server that wants a pause, and from one that is gone; give their hosts."""
    with serving() as gone:
        away = gone.url
    with serving() as busy, stack.api() as api:
        busy.state["pause"] = 300
        sources = [*(f"{away}/{number}.mp4" for number in range(6)), busy.url + "/pausing"]
        order = api.post("/v1/orders", json={"sources": sources, "recipe": "archive"}).json()["order_id"]
        names = [url.removeprefix("http://") for url in (away, busy.url)]

        def in_trouble():
            return set(names) <= {host["host"] for host in api.get("/v1/hosts").json() if host["state"] != "ok"}

        wait_until(in_trouble, 90)
        yield names
        api.post(f"/v1/orders/{order}/cancel")
        for name in names:
            api.post(f"/v1/hosts/{name}/reset")


def hosts(stack):
    with stack.api() as api:
        return {host["host"]: host for host in api.get("/v1/hosts").json()}


def test_the_gateway_tells_what_is_wrong_with_a_host(stack, troubled):
    """The state, the reason, until when, and how much it may be asked."""
    away, busy = (hosts(stack)[name] for name in troubled)
    assert away["state"] in {"open", "probing"}
    assert away["failures"] >= 5
    assert "refuses connections" in away["reason"]
    assert (busy["state"], busy["reason"]) == ("cooling", "it answers 429")
    assert busy["until"]
    assert busy["connections_limit"] == 16


def test_status_tells_it_too(stack, troubled):
    """A line for each host, or as JSON."""
    shown = stack.cli("status").stdout
    assert all(name in shown for name in troubled)
    assert "it answers 429" in shown
    (away,) = (line for line in shown.splitlines() if troubled[0] in line)
    assert re.search(r"\b(open|probing)\b", away)
    listed = {host["host"] for host in stack.status()["hosts"]}
    assert set(troubled) <= listed


def test_metrics_count_hosts_by_state(stack, troubled):
    """Whoever watches them sees one that cools down."""
    with stack.api() as api:
        lines = api.get("/metrics").text.splitlines()
    counts = {line.split(" ")[0]: float(line.split(" ")[1]) for line in lines if not line.startswith("#")}
    assert counts['headrace_hosts{state="cooling"}'] >= 1
    assert {f'headrace_hosts{{state="{state}"}}' for state in ("ok", "open", "probing")} <= set(counts)


def test_an_item_that_is_not_let_in_waits_for_its_time(stack, troubled):
    """It is queued, and no try of it is lost to a pause that it was told."""
    with stack.api() as api:
        waiting = [item for item in api.get("/v1/items").json() if troubled[1] in item["source"]]
    assert waiting[0]["state"] in {"queued", "downloading"}


@pytest.mark.browser
def test_the_dashboard_shows_it_and_tries_again(stack, troubled):
    """A button lets the host be asked at once."""
    with stack.api() as api:
        url = api.get("/v1/system").json()["dashboard_url"]
    with opened(url) as (page, _):
        page.set_default_timeout(30_000)
        page.get_by_role("link", name="System").click()
        name = troubled[1]
        page.get_by_text(name.rpartition(":")[2]).first.wait_for()
        page.get_by_text("it answers 429").first.wait_for()
        page.get_by_text(re.compile("^(open|probing)$")).first.wait_for()
        buttons = page.get_by_role("button", name="Try again now")
        before = buttons.count()
        assert before >= 1
        order = [host for host, found in hosts(stack).items() if found["state"] != "ok"]
        buttons.nth(order.index(name)).click()
        wait_until(lambda: hosts(stack)[name]["state"] == "ok", 10)


def test_a_host_is_reset_by_hand(stack, troubled):
    """One that nobody knows is not found."""
    with stack.api() as api:
        assert api.post(f"/v1/hosts/{troubled[0].upper()}/reset").json() == {"host": troubled[0]}
        assert api.post("/v1/hosts/unknown.example:1/reset").status_code == 404
    assert json.loads(stack.cli("status", "--json").stdout)["up"]
