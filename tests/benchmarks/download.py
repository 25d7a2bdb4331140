"""``headrace fetch`` beside aria2 and curl, from an nginx on loopback, in one run.

``python -m tests.benchmarks.download [--rounds N] [--folder DIR] [CASE...]``
"""

from __future__ import annotations

import argparse
import contextlib
import filecmp
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.runs import Contender, compare, headrace, program
from tests.conftest import free_ports

MIB = 2**20
SMALL_FILES, SMALL_BYTES = 5000, 16 * 1024


class Site:
    """An nginx that serves a folder: as fast as it can, and 20 MB/s a connection under ``/slow/``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_ports(2)
        (folder / "www").mkdir()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def far_url(self) -> str:
        """The same behind the delaying proxy."""
        return f"http://127.0.0.1:{self.port + 1}"

    def file(self, name: str, size_bytes: int) -> Path:
        path = self.folder / "www" / name
        if not path.exists():
            chance = random.Random(size_bytes)
            with path.open("wb") as file:
                for start in range(0, size_bytes, 16 * MIB):
                    file.write(chance.randbytes(min(16 * MIB, size_bytes - start)))
        return path

    def small_files(self) -> Path:
        """Make the short files; return the list of their addresses."""
        folder = self.folder / "www" / "small"
        folder.mkdir(exist_ok=True)
        names = [f"{number:05}.bin" for number in range(SMALL_FILES)]
        for number, name in enumerate(names):
            (folder / name).write_bytes(random.Random(number).randbytes(SMALL_BYTES))
        listed = self.folder / "list.txt"
        listed.write_text("".join(f"{self.url}/small/{name}\n" for name in names))
        return listed

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        nginx = program("nginx")
        if nginx is None:
            sys.exit("nginx is not installed (Debian: nginx-light)")
        config = self.folder / "nginx.conf"
        temporary = "".join(
            f"{kind}_temp_path {self.folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        config.write_text(
            f"""daemon off; worker_processes 2; pid {self.folder}/nginx.pid; error_log {self.folder}/error.log;
            events {{ worker_connections 512; }}
            http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000; {temporary}
              server {{ listen 127.0.0.1:{self.port}; root {self.folder}/www;
                location /slow/ {{ alias {self.folder}/www/; limit_rate 20m; }} }} }}"""
        )
        proxy = [sys.executable, "-m", "tests.benchmarks.link", str(self.port + 1), str(self.port)]
        children = [subprocess.Popen([nginx, "-c", str(config)], stderr=subprocess.DEVNULL), subprocess.Popen(proxy)]
        try:
            self._wait()
            yield
        finally:
            for child in children:
                child.terminate()
            for child in children:
                child.wait()

    def _wait(self) -> None:
        (self.folder / "www" / "ready").write_text("x")
        for url in (self.url, self.far_url):
            deadline = time.monotonic() + 20
            while True:
                try:
                    urllib.request.urlopen(f"{url}/ready", timeout=2).close()  # noqa: S310 - our own
                    break
                except OSError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.05)


def one_file(title: str, url: str, source: Path, out: Path, rounds: int, *, curl: bool) -> None:
    """Compare one large file."""
    target = out / "file"

    def check() -> None:
        if not filecmp.cmp(source, target, shallow=False):
            raise RuntimeError("the file isn't right")

    def clear() -> None:
        for path in out.iterdir():
            path.unlink()

    contenders = [Contender("headrace fetch", headrace("fetch", url, "-o", str(target)), clear, check)]
    if aria2 := program("aria2c"):
        words = [aria2, "-q", "-x8", "-s8", "-d", str(out), "-o", "file", url]
        contenders.append(Contender("aria2c -x8 -s8", words, clear, check))
    if curl and (found := program("curl")):
        contenders.append(Contender("curl", [found, "-s", "-o", str(target), url], clear, check))
    compare(title, contenders, rounds, warm=True)


def many_files(listed: Path, folder: Path, out: Path, rounds: int) -> None:
    """Compare the short files."""

    def check() -> None:
        names = sorted(path.name for path in folder.iterdir())
        _, wrong, missing = filecmp.cmpfiles(folder, out, names, shallow=False)
        if wrong or missing:
            raise RuntimeError(f"{len(wrong)} files are wrong, {len(missing)} are missing")

    def clear() -> None:
        shutil.rmtree(out)
        out.mkdir()

    words = headrace("fetch", "--from-file", str(listed), "-d", str(out))
    contenders = [Contender("headrace fetch", words, clear, check)]
    if aria2 := program("aria2c"):
        contenders.append(
            Contender("aria2c -j16", [aria2, "-q", "-j16", "-i", str(listed), "-d", str(out)], clear, check)
        )
    compare(f"{SMALL_FILES} files of {SMALL_BYTES // 1024} KiB from a list", contenders, rounds)


def start(rounds: int) -> None:
    """Time the help, which imports what every start imports."""
    nothing = lambda: None  # noqa: E731 - short
    compare("headrace fetch --help", [Contender("headrace", headrace("fetch", "--help"), nothing, nothing)], rounds)


CASES = ("loopback", "throttled", "far", "many", "start")


def main() -> None:
    """Run the cases that were named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", default=CASES, metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="Where to download to; by default a temporary folder.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="headrace-bench-", dir=options.folder) as made:
        folder = Path(made)
        folder.chmod(0o755)  # nginx's workers read as somebody else
        site, out = Site(folder), folder / "out"
        out.mkdir()
        with site.running():
            if "loopback" in options.cases:
                source = site.file("2g", 2048 * MIB)
                one_file("2 GiB, loopback", f"{site.url}/2g", source, out, options.rounds, curl=True)
            if "throttled" in options.cases:
                source = site.file("1g", 1024 * MIB)
                title = "1 GiB, 20 MiB/s for each connection"
                one_file(title, f"{site.url}/slow/1g", source, out, options.rounds, curl=False)
            if "far" in options.cases:
                source = site.file("256m", 256 * MIB)
                title = "256 MiB, 20 ms each way, 512 KiB in flight for each connection"
                one_file(title, f"{site.far_url}/256m", source, out, options.rounds, curl=False)
            if "many" in options.cases:
                many_files(site.small_files(), folder / "www" / "small", out, options.rounds)
            if "start" in options.cases:
                start(options.rounds)


if __name__ == "__main__":
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # nobody installs a program so that it compiles itself each time
    main()
