"""How orders run: five doors, one bundle in the same process, retries that leave, runs that die."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.browser import opened
from tests.orders import start_run, wait_until
from tests.servers import serving


def prefect(stack):
    """Return a client of Prefect's own API."""
    user, _, password = stack.settings["PREFECT_API_AUTH_STRING"].partition(":")
    return httpx.Client(base_url=stack.settings["PREFECT_API_URL"] + "/", auth=(user, password), timeout=30)


def items_like(stack, text):
    """Return the items whose source ends so."""
    with stack.api() as api:
        return [item for item in api.get("/v1/items").json() if item["source"].endswith(text)]


def test_prefects_api_needs_its_password(stack):
    """It runs code, so nobody uses it without."""
    assert httpx.get(stack.settings["PREFECT_API_URL"] + "/deployments/count").status_code in {401, 403, 404, 405}
    bare = httpx.post(stack.settings["PREFECT_API_URL"] + "/deployments/filter", json={})
    assert bare.status_code == 401


def test_an_order_from_prefects_own_api(stack, web, published):
    """A run of ``ingest-order`` with sources places the order itself; its bundle runs in the same process."""
    run_id = start_run(
        stack, "ingest-order/ingest-order", {"sources": [web.url + "/files/own.mp4?rest"], "key": "rest-1"}
    )
    wait_until(lambda: [one for one in items_like(stack, "?rest") if one["state"] == "published"], 90)

    def run():
        with prefect(stack) as api:
            return api.get(f"flow_runs/{run_id}").raise_for_status().json()

    wait_until(lambda: run()["state_type"] == "COMPLETED", 30)
    with prefect(stack) as api:
        tasks = api.post("task_runs/filter", json={"sort": "EXPECTED_START_TIME_ASC"}).json()
        names = {task["name"] for task in tasks}
    assert {"download the sources", "identify the contents", "store the masters"} <= names


def test_runs_show_progress_and_a_link_that_plays(stack, published):
    """The Prefect UI has a bar for each encode and upload, and a link to what was made."""
    with prefect(stack) as api:
        found = api.post("artifacts/filter", json={"limit": 200}).raise_for_status().json()
    bars = [one["data"] for one in found if one["type"] == "progress"]
    links = [one["data"] for one in found if one["type"] == "markdown" and "/watch/" in one["data"]]
    assert 100.0 in bars
    assert any(published["asset_id"] in link for link in links), [one["type"] for one in found]


@pytest.mark.browser
def test_an_order_from_the_prefect_ui(stack, web, published):
    """Somebody signs in, opens the deployment, fills in the form and presses the button."""
    password = stack.settings["PREFECT_API_AUTH_STRING"]
    with prefect(stack) as api:
        found = api.get("deployments/name/ingest-order/ingest-order").raise_for_status().json()
    base = stack.settings["HEADRACE_PREFECT_UI_URL"].rstrip("/")
    with opened(base) as (page, _seen):
        page.wait_for_selector("input[type=password]", timeout=30_000)
        page.fill("input[type=password]", password)
        page.keyboard.press("Enter")
        page.wait_for_selector("text=Deployments", timeout=30_000)
        source = web.url + "/files/own.mp4?ui"
        parameters = json.dumps({"sources": [source], "recipe": "web"})
        page.goto(f"{base}/deployments/deployment/{found['id']}/run?parameters={parameters}")
        page.get_by_role("button", name="Submit").click(timeout=30_000)
        wait_until(lambda: [one for one in items_like(stack, "?ui") if one["state"] == "published"], 90)


def test_the_schedules_run_by_themselves(stack):
    """``reconcile`` and ``watch-feed`` are started by Prefect's scheduler, not by us."""

    def completed():
        with prefect(stack) as api:
            wanted = {"flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}, "limit": 200}
            runs = api.post("flow_runs/filter", json=wanted).raise_for_status().json()
        return {run["name"] for run in runs if run["auto_scheduled"]}

    wait_until(lambda: {"reconcile", "watch feeds"} <= completed(), 150)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_source_that_is_busy_is_tried_again_and_does_not_hold_up_the_others(stack, web):
    """Three short retries, then the item leaves its bundle for later; the good one is stored meanwhile."""
    with serving(web.folder) as server, stack.api() as api:
        sources = [server.url + "/busy", server.url + "/good"]
        order = api.post("/v1/orders", json={"sources": sources, "recipe": "archive"}).json()

        def items():
            return api.get(f"/v1/orders/{order['order_id']}").json()["item_list"]

        wait_until(lambda: items()[1]["state"] == "stored", 120)
        wait_until(lambda: items()[0]["state"] == "queued" and items()[0]["not_before"], 60)
        assert items()[0]["attempts"] == 4
        assert len(server.seen["/busy"]) == 4
        assert len(server.seen["/good"]) == 1
        assert api.post(f"/v1/orders/{order['order_id']}/cancel").json()["cancelled"] == 1
        assert items()[0]["state"] == "cancelled"
