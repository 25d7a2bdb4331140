"""Whatever is killed in the middle of a run: after ``up`` the order ends as it would have."""

from __future__ import annotations

import contextlib
import os
import signal
import time

import psutil
import pytest

from headrace.stack import folders, record
from headrace.stack.layout import MARKER
from tests.conftest import running, stack_in
from tests.engine import films
from tests.orders import encoders, wait_until

PATIENCE_SECONDS = 240.0
"""A lease lasts 30 s, ``reconcile`` comes each minute, and the machine may be busy."""


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A stack that may be broken, for the long tests."""
    home = folders.private_folder(tmp_path_factory.mktemp("kill") / "home")
    with running(stack_in(home)) as started:
        yield started


@pytest.fixture(scope="module")
def sources(web):
    """Two short films and a longer one, whose encode takes some seconds; and one that is missing."""
    for number in (1, 2):
        films.film(web.folder / f"kill-{number}.mp4", seconds=1, size="160x90", more=f"-metadata title=k{number}")
    films.film(web.folder / "kill-3.mp4", seconds=40, size="1280x720")
    return [f"{web.url}/files/kill-{number}.mp4" for number in (1, 2, 3)] + [web.url + "/missing"]


def place(stack, sources, tag):
    """Order the films anew: the tag in the query and in the bytes makes them unknown content."""
    done = stack.cli("ingest", *(f"{source}?{tag}" for source in sources))
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def freshen(web, tag):
    """Make each film new content, so that nothing of it is known."""
    for path in web.folder.glob("kill-*.mp4"):
        with path.open("ab") as file:  # a box of type "free" may follow at the end (ISO/IEC 14496-12, 8.1.2)
            file.write((8 + len(tag)).to_bytes(4, "big") + b"free" + tag.encode())


def pid_of(stack, part):
    """Return a part's process."""
    return stack.status()["parts"][part]["pid"]


def runs_of(stack):
    """Return the flow runs that are at work for a stack."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if "prefect.engine" in (process.info["cmdline"] or []) and process.environ().get(MARKER) == stack.layout.id:
                found.append(process.pid)
    return found


def everything_of(stack):
    """Return every process of a stack."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if process.environ().get(MARKER) == stack.layout.id:
                found.append(process.pid)
    return found


def kill(pids):
    """End processes as a lost machine would."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def assert_ends_as_it_would_have(stack, order_id):
    """Three published, one failed with its reason; one live publication each; nothing left over, all bytes right."""

    def order():
        with stack.api() as api:
            return api.get(f"/v1/orders/{order_id}").raise_for_status().json()["item_list"]

    wait_until(lambda: all(item["state"] in {"published", "failed"} for item in order()), PATIENCE_SECONDS)
    found = order()
    assert [item["state"] for item in found] == ["published"] * 3 + ["failed"], found
    assert found[3]["error"]["code"] == "source_not_found"
    assert stack.cli("verify", "--read-data").returncode == 0
    with stack.api() as api:
        live = {api.get(f"/v1/assets/{item['asset_id']}/playback").json()["hls"].split("/")[4] for item in found[:3]}
    assert len(live) == 3
    streams = stack.layout.objects / "headrace-streams"
    for publication in live:
        attempts = list((streams / publication).iterdir())
        assert len(attempts) == 1, attempts
        assert (attempts[0] / "master.m3u8").is_file()
    wait_until(lambda: not list((stack.home / "scratch" / "publications").glob("*")), 10)


def in_the_middle(stack):
    """Wait until an encoder is at work."""
    wait_until(lambda: encoders(stack), 90)
    time.sleep(0.5)


@pytest.mark.long
@pytest.mark.timeout(400)
def test_a_killed_worker_loses_nothing(stack, web, sources):
    """The worker and the runs that it started are killed while they encode."""
    freshen(web, "worker")
    order_id = place(stack, sources, "worker")
    in_the_middle(stack)
    kill([pid_of(stack, "worker-cpu"), *runs_of(stack)])
    wait_until(lambda: not encoders(stack), 3)  # an encoder dies with its run
    assert stack.up().returncode == 0
    assert_ends_as_it_would_have(stack, order_id)


@pytest.mark.long
@pytest.mark.timeout(400)
@pytest.mark.parametrize("part", ["prefect", "gateway", "postgres", "s3", "worker-io"])
def test_a_killed_part_loses_nothing(own, web, sources, part):
    """Each server is killed while runs are at work with it."""
    freshen(web, part)
    order_id = place(own, sources, part)
    in_the_middle(own)
    kill([pid_of(own, part)])
    assert own.up().returncode == 0
    assert_ends_as_it_would_have(own, order_id)


@pytest.mark.long
@pytest.mark.timeout(400)
@pytest.mark.parametrize("moment", ["downloading", "transcoding", "publishing"])
def test_a_lost_machine_loses_nothing(own, web, sources, moment):
    """Every process is killed at once, the supervisor first, as soon as an item is in a state."""
    freshen(web, moment)
    order_id = place(own, sources, moment)
    passed = {"downloading": 1, "transcoding": 2, "publishing": 3}

    def reached():
        with own.api() as api:
            states = {item["state"] for item in api.get(f"/v1/orders/{order_id}").json()["item_list"]}
        return states & {moment, "published"} if passed[moment] > 1 else states - {"queued"}

    wait_until(reached, 90)
    supervisor = record.holder(own.layout)
    assert supervisor is not None
    kill([supervisor, *everything_of(own)])
    assert own.up().returncode == 0
    assert_ends_as_it_would_have(own, order_id)
