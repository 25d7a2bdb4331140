"""Long lists over several processes: everything arrives, failures are told, and who dies takes its own only."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from headrace.download.spread import MANY, processes_for
from tests.conftest import ROOT
from tests.servers import serving

FILES = MANY + 44


@pytest.fixture
def site(tmp_path):
    folder = tmp_path / "site"
    folder.mkdir()
    for number in range(FILES):
        (folder / f"{number}.bin").write_bytes(content(number))
    with serving(folder) as server:
        yield server


def content(number):
    return f"file {number} ".encode() * 50


def listed(site, folder, more=""):
    path = folder / "list"
    path.write_text("".join(f"{site.url}/files/{number}.bin\n" for number in range(FILES)) + more)
    return path


def started(folder, *words):
    argv = [sys.executable, "-m", "headrace.cli", "fetch", *map(str, words), "-d", str(folder / "out"), "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    return subprocess.Popen(argv, env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True)


def processes_of(child):
    """Wait until a command has its processes, and some more."""
    until = time.monotonic() + 20
    while not (found := psutil.Process(child.pid).children()) and time.monotonic() < until:
        time.sleep(0.02)
    time.sleep(0.5)
    return found


def ended(out):
    rows = [json.loads(line) for line in out.splitlines()]
    return [row for row in rows if row["event"] in {"finished", "failed"}], rows[-1]


def test_so_many_processes():
    """One for short lists, and never more than files at once."""
    assert processes_for(MANY - 1, 8) == 1
    assert processes_for(MANY, 1) == 1
    assert processes_for(10**6, 8) == min(os.cpu_count() or 1, 8)


def test_a_long_list_arrives_whole(site, tmp_path):
    """Each file once, and what fails is told with its reason."""
    child = started(tmp_path, "--from-file", listed(site, tmp_path, f"{site.url}/missing\n"))
    out, err = child.communicate(timeout=60)
    assert child.returncode == 3, err
    assert "Traceback" not in err
    rows, summary = ended(out)
    assert len(rows) == FILES + 1
    assert [row["error"]["code"] for row in rows if row["event"] == "failed"] == ["source_not_found"]
    assert (summary["files"], summary["failed"]) == (FILES + 1, 1)
    assert all((tmp_path / "out" / f"{number}.bin").read_bytes() == content(number) for number in range(FILES))
    assert all(len(asked) == 1 for asked in site.seen.values())


def test_a_process_that_dies_takes_its_own_jobs_only(site, tmp_path):
    """The others go on, the exit status says that some failed, and nobody waits for ever."""
    child = started(tmp_path, "--from-file", listed(site, tmp_path), "--limit-rate", "40k", "-j", "4")
    found = processes_of(child)
    if not found:
        pytest.fail("there is one core here: the long list is worked off by one process")
    found[0].kill()
    out, err = child.communicate(timeout=120)
    assert child.returncode == 3, err
    rows, _ = ended(out)
    assert len(rows) == FILES
    lost = [row for row in rows if row["event"] == "failed"]
    assert 0 < len(lost) < FILES
    assert {row["error"]["code"] for row in lost} == {"tool_interrupted"}


@pytest.mark.parametrize("whom", ["the first one", "all, as a terminal does"])
def test_an_interrupt_ends_all_of_them(site, tmp_path, whom):
    """None is left, and no file without a journal."""
    child = started(tmp_path, "--from-file", listed(site, tmp_path), "--limit-rate", "10k")
    found = processes_of(child)
    if whom == "the first one":
        child.send_signal(signal.SIGINT)
    else:
        os.killpg(child.pid, signal.SIGINT)
    _, err = child.communicate(timeout=20)
    assert child.returncode == 130, err
    assert "Traceback" not in err
    assert not still_there(found)
    assert not list((tmp_path / "out").glob("*.part"))


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_nobody_outlives_who_started_them(site, tmp_path, how):
    """However that one ends; and the list can be run again at once."""
    child = started(tmp_path, "--from-file", listed(site, tmp_path), "--limit-rate", "10k")
    found = processes_of(child)
    child.send_signal(how)
    child.communicate(timeout=20)  # as long as one of them lives, it holds the pipes
    until = time.monotonic() + 5
    while still_there(found) and time.monotonic() < until:
        time.sleep(0.05)
    assert not still_there(found)
    again = started(tmp_path, "--from-file", listed(site, tmp_path))
    _, err = again.communicate(timeout=60)
    assert again.returncode == 0, err


def test_a_limit_for_the_host_is_for_all_of_them(site, tmp_path):
    """One connection is one, however many processes there could be."""
    child = started(tmp_path, "--from-file", listed(site, tmp_path), "--host-connections", "1")
    _, err = child.communicate(timeout=60)
    assert child.returncode == 0, err
    assert site.most_connections == 1


def still_there(processes):
    return [one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
