"""Orders as tests place them, and waiting for what comes of them."""

from __future__ import annotations

import json
import time

import httpx
import psutil


def ingest(stack, *words, timeout=300, status=0):
    """Run ``ingest --wait --json`` and return its items."""
    done = stack.cli("ingest", "--wait", "--json", *words, timeout=timeout)
    assert done.returncode == status, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def encoders(stack):
    """Return the encoders that work for a stack."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or [""]
        if "ffmpeg" in words[0] and any(str(stack.home) in word for word in words):
            found.append(process.pid)
    return found


def wait_until(condition, seconds):
    """Wait for a condition, and fail when it takes longer."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.1)


def start_run(stack, deployment, parameters):
    """Start a run through Prefect's own REST API; return its id."""
    user, _, password = stack.settings["PREFECT_API_AUTH_STRING"].partition(":")
    with httpx.Client(base_url=stack.settings["PREFECT_API_URL"] + "/", auth=(user, password)) as prefect:
        flow, _, name = deployment.partition("/")
        found = prefect.get(f"deployments/name/{flow}/{name}").raise_for_status().json()
        made = prefect.post(f"deployments/{found['id']}/create_flow_run", json={"parameters": parameters})
        return made.raise_for_status().json()["id"]
