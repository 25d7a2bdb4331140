"""Orders as tests place them, and waiting for what comes of them."""

from __future__ import annotations

import json
import time

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
