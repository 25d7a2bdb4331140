"""The wheel is whole: installed in a fresh environment, away from any clone, it starts and takes in a file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from headrace.stack import credentials
from headrace.stack.layout import Layout
from tests.conftest import ROOT, free_ports, removed_afterwards

pytestmark = pytest.mark.long

PACKAGES = ("headrace", "tasks", "flows", "gateway", "dashboard", "sql")
UP_SECONDS = 240.0


def run(argv: list[str | Path], *, cwd: Path, environment: dict[str, str] | None = None) -> str:
    """Run a command to its good end; return what it printed."""
    done = subprocess.run(
        argv, cwd=cwd, env=environment, capture_output=True, text=True, timeout=UP_SECONDS, check=False
    )
    assert done.returncode == 0, f"{argv}: {done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Build the wheel as ``make wheel`` does."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
    run([*pip, "--no-build-isolation", "--wheel-dir", folder, ROOT], cwd=folder)
    (built,) = folder.glob("headrace-*.whl")
    return built


@dataclass(frozen=True)
class Installed:
    """An environment that has the wheel and, by reference, what it depends on; and a home for its stack."""

    binaries: Path
    layout: Layout
    environment: dict[str, str]
    cwd: Path

    def python(self, code: str) -> str:
        """Run a line of Python in it."""
        return run([self.binaries / "python", "-c", code], cwd=self.cwd, environment=self.environment)

    def headrace(self, *words: str | Path) -> str:
        """Run the command that the wheel has installed."""
        return run([self.binaries / "headrace", *words], cwd=self.cwd, environment=self.environment)


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Iterator[Installed]:
    """Install the wheel, and let the running interpreter's packages be found after it."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder / "environment", symlinks=True)
    binaries = folder / "environment" / "bin"
    pip = [sys.executable, "-m", "pip", "--python", binaries / "python", "install", "--quiet"]
    run([*pip, "--disable-pip-version-check", "--no-deps", "--no-index", wheel], cwd=folder)
    where = run([binaries / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], cwd=folder)
    # A plain line: the .pth files in there, such as the clone's own, are not read.
    (Path(where.strip()) / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    dropped = ("HEADRACE_", "PREFECT_", "PYTHON", "VIRTUAL_ENV")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    with removed_afterwards(folder / "home") as layout:
        environment["HEADRACE_HOME"] = str(layout.home)
        yield Installed(binaries, layout, environment, elsewhere)


def test_the_wheel_holds_everything(wheel):
    """Migrations, deployments, dashboard and player are in it, tests and the clone's leftovers are not."""
    held = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        *("headrace/stack/prefect.yaml", "dashboard/app.py", "dashboard/style.css", "dashboard/.streamlit/config.toml"),
        *("gateway/static/hls.min.js", "gateway/static/watch.html", "sql/env.py"),
        *(f"sql/versions/{file.name}" for file in (ROOT / "sql" / "versions").glob("*.py")),
    }
    assert wanted - held == set()
    tops = {one.split("/")[0] for one in held if not one.startswith("headrace-")}
    assert tops == set(PACKAGES)
    assert not [one for one in held if "__pycache__" in one]


def test_modules_come_from_the_wheel(installed):
    """Every package is found in the fresh environment, none in the clone."""
    found = f"u.find_spec(one).submodule_search_locations[0] for one in {PACKAGES}"
    code = f"import importlib.util as u; print(*({found}), sep='\\n')"
    places = [Path(line) for line in installed.python(code).splitlines()]
    assert len(places) == len(PACKAGES)
    for place in places:
        assert place.is_relative_to(installed.binaries.parent), place
    assert str(ROOT) not in installed.python("import sys; print(*sys.path, sep='\\n')").splitlines()


def test_it_takes_in_a_file_from_outside_any_clone(installed, tmp_path):
    """``up``, ``ingest``, ``get`` and ``down`` by the installed command alone, without PYTHONPATH."""
    original = tmp_path / "notes.txt"
    original.write_bytes(b"kept for good\n" * 1000)
    try:
        started = installed.headrace("up", "--detach", "--port-base", str(free_ports()))
        assert started.splitlines()[-1] == "ready"
        (item,) = map(
            json.loads, installed.headrace("ingest", "--wait", "--json", "--recipe", "archive", original).splitlines()
        )
        assert item["state"] == "stored"
        installed.headrace("get", item["asset_id"], "-o", tmp_path / "back.txt")
        assert (tmp_path / "back.txt").read_bytes() == original.read_bytes()
        settings = credentials.read(installed.layout)
        assert httpx.get(settings["HEADRACE_URL"] + "/static/hls.min.js", trust_env=False).status_code == 200
        assert httpx.get(settings["HEADRACE_DASHBOARD_URL"] + "/_stcore/health", trust_env=False).status_code == 200
        for name, part in json.loads(installed.headrace("status", "--json"))["parts"].items():
            if part["pid"] is not None and Path("/proc").is_dir():
                names = [line.split(b"=")[0] for line in Path(f"/proc/{part['pid']}/environ").read_bytes().split(b"\0")]
                assert b"PYTHONPATH" not in names, name
    finally:
        installed.headrace("down")
