"""A source that changes between kill -9 and resume: who ends with one file, and who splices two.

``python -m tests.benchmarks.changed``: each tool begins a download, is killed in the middle,
the file is replaced by another one of the same size, and the tool is told to go on.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.download import MIB, Site
from tests.benchmarks.runs import headrace, program

SIZE_BYTES = 192 * MIB
KILL_AFTER_SECONDS = 2.0
"""At 20 MiB/s a connection, with up to 16 of them: somewhere in the middle."""


def tools(url: str, target: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield each tool that is there, with the words that begin a download and those that go on with it."""
    yield "headrace fetch", headrace("fetch", url, "-o", str(target), "--connections", "4")
    peers = {
        "aria2c -c": [
            "aria2c",
            "-q",
            "--auto-save-interval=1",
            "-x4",
            "-s4",
            "-c",
            "-d",
            str(target.parent),
            "-o",
            target.name,
            url,
        ],
        "curl -C -": ["curl", "-s", "-C", "-", "-o", str(target), url],
        "wget -c": ["wget", "-q", "-c", "-O", str(target), url],
    }
    for name, words in peers.items():
        if found := program(words[0]):
            yield name, [found, *words[1:]]


def outcome(target: Path, old: bytes, new: bytes) -> str:
    """Return what a tool has left, in words."""
    if not target.exists():
        return "no file"
    found = target.read_bytes()
    if found == new:
        return "the new file, whole"
    if found == old:
        return "the old file, whole"
    same_new = sum(found[at : at + MIB] == new[at : at + MIB] for at in range(0, len(found), MIB))
    same_old = sum(found[at : at + MIB] == old[at : at + MIB] for at in range(0, len(found), MIB))
    return f"SPLICED: {same_old} MiB of the old file, {same_new} MiB of the new one"


def main() -> None:
    """Let each tool fall into the trap, and print what came of it."""
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as made:
        folder = Path(made)
        folder.chmod(0o755)  # nginx's workers read as somebody else
        site, out = Site(folder), folder / "out"
        old = site.file("changes", SIZE_BYTES).read_bytes()
        new = old[::-1]
        with site.running():
            for name, words in tools(f"{site.url}/slow/changes", out / "file"):
                out.mkdir(exist_ok=True)
                _replace(folder / "www" / "changes", old)
                child = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                time.sleep(KILL_AFTER_SECONDS)
                child.kill()
                child.wait()
                _replace(folder / "www" / "changes", new)
                ended = subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
                print(f"{name:<16} exit {ended.returncode}: {outcome(out / 'file', old, new)}", flush=True)
                for path in out.iterdir():
                    path.unlink()


def _replace(path: Path, content: bytes) -> None:
    """Put another version in place at once, with a date of its own."""
    fresh = path.with_name("fresh")
    fresh.write_bytes(content)
    changed = time.time() - (3600 if content[0] % 2 else 7200) - content[1]
    os.utime(fresh, (changed, changed))
    fresh.replace(path)


if __name__ == "__main__":
    main()
