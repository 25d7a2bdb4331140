"""Work pools, queues and the deployments of ``prefect.yaml`` on the Prefect server; runs that are dead.

1. ``prefect.yaml`` is the only description of the deployments; ``prefect deploy`` reads it,
   here as on a cluster. It takes two seconds, so it runs only when something has changed.
2. What was registered last is a Prefect variable, so it is gone when the database is.
3. When the embedded stack registers, no flow run lives: what Prefect believes to run died with
   the last stack, and is said to have crashed, which frees the slots it held. Elsewhere
   (``deploy``) workers of other machines go on, and nothing is said of their runs.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from urllib.parse import urlsplit

import headrace
from headrace import process
from headrace.errors import StackError
from headrace.stack.health import request
from headrace.stack.orchestrator import CPU_POOL, IO_POOL, IO_QUEUES

VARIABLE = "headrace_registered"
DEPLOY_TIMEOUT_SECONDS = 100.0
CALL_TIMEOUT_SECONDS = 30.0
_EXCEPTION = re.compile(r"[\w.]+(Error|Exception)\b: ")
PAGE = 200
PAGES = 50
"""Ten thousand runs at once are more than any stack has; a bound, should one not take its state."""
_OK = range(200, 300)
_CONFLICT = 409
_NOT_FOUND = 404


def register() -> None:
    """End the runs that died with the last stack, then ``deploy``."""
    _end_dead_runs(_Api.of_environment())
    deploy()


def deploy() -> None:
    """Bring the server of ``PREFECT_API_URL`` to what this installation describes."""
    api = _Api.of_environment()
    _provide_pools(api)
    description = find_description()
    wanted = fingerprint(description, flow_sources())
    if api.variable(VARIABLE) == wanted:
        sys.stdout.write("the deployments are unchanged\n")
        return
    _deploy(description)
    api.set_variable(VARIABLE, wanted)


def find_description() -> Path:
    """Return ``prefect.yaml``: beside this file in a wheel, in the root of a clone."""
    here = Path(__file__).resolve()
    for folder in (here.parent, here.parent.parent.parent):
        if (folder / "prefect.yaml").is_file():
            return folder / "prefect.yaml"
    raise StackError("prefect.yaml is missing from this installation", hint="Install headrace again.")


def flow_sources() -> list[Path]:
    """Return the files of the package ``flows``: their signatures become the deployments' parameters."""
    spec = PathFinder.find_spec("flows")
    places = list(spec.submodule_search_locations or ()) if spec else []
    return sorted(file for place in places for file in Path(place).glob("*.py"))


def fingerprint(description: Path, sources: list[Path]) -> str:
    """Return a hash of all that decides what is registered."""
    digest = hashlib.sha256(headrace.__version__.encode())
    for file in (description, *sources):
        digest.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


class _Api:
    """The little of Prefect's REST API that is needed here; its client takes a second to import."""

    def __init__(self, url: str, auth: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or parts.hostname is None:
            raise StackError(f"PREFECT_API_URL is {url!r}", hint="Give the address inside: http://HOST:PORT/api.")
        self._host = parts.hostname
        self._port = parts.port or 80
        self._root = parts.path.rstrip("/")
        self._auth = auth

    @classmethod
    def of_environment(cls) -> _Api:
        """Return the API that the environment names."""
        return cls(os.environ["PREFECT_API_URL"], os.environ.get("PREFECT_API_AUTH_STRING", ""))

    def call(self, method: str, path: str, body: object = None, *, fine: tuple[int, ...] = ()) -> tuple[int, object]:
        status, answer = request(
            self._port,
            method,
            self._root + path,
            auth=self._auth,
            body=body,
            timeout_seconds=CALL_TIMEOUT_SECONDS,
            host=self._host,
        )
        if status not in _OK and status not in fine:
            raise StackError(f"Prefect answers {status or 'nothing'} to {method} {path}")
        return status, answer

    def variable(self, name: str) -> object:
        status, answer = self.call("GET", f"/variables/name/{name}", fine=(_NOT_FOUND,))
        return answer.get("value") if status in _OK and isinstance(answer, dict) else None

    def set_variable(self, name: str, value: str) -> None:
        body = {"name": name, "value": value}
        status, _ = self.call("POST", "/variables/", body, fine=(_CONFLICT,))
        if status == _CONFLICT:
            self.call("PATCH", f"/variables/name/{name}", {"value": value})


def _provide_pools(api: _Api) -> None:
    for pool in (IO_POOL, CPU_POOL):
        api.call("POST", "/work_pools/", {"name": pool, "type": "process"}, fine=(_CONFLICT,))
    for queue, priority in IO_QUEUES.items():
        body = {"name": queue, "priority": priority}
        api.call("POST", f"/work_pools/{IO_POOL}/queues", body, fine=(_CONFLICT,))


def _end_dead_runs(api: _Api) -> None:
    """Move the runs that died with the last stack to a final state."""
    states = {"RUNNING": "CRASHED", "PENDING": "CRASHED", "CANCELLING": "CANCELLED"}
    wanted = {"flow_runs": {"state": {"type": {"any_": list(states)}}}, "limit": PAGE}
    for _ in range(PAGES):
        _, runs = api.call("POST", "/flow_runs/filter", wanted)
        if not isinstance(runs, list) or not runs:
            return
        for run in runs:
            state = {"type": states[run["state_type"]], "message": "Its process ended with the stack."}
            api.call("POST", f"/flow_runs/{run['id']}/set_state", {"state": state})


def _deploy(description: Path) -> None:
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(description)]
    ended = process.run(command, cwd=Path(os.environ["PREFECT_HOME"]), timeout_seconds=DEPLOY_TIMEOUT_SECONDS)
    sys.stdout.write(f"{ended.stdout}\n{ended.stderr}\n")
    # `prefect deploy --all` goes on after a deployment that fails.
    if ended.returncode or "error" in ended.stderr.lower():
        raise StackError(f"prefect deploy failed: {reason_in(ended.stdout + ended.stderr) or ended.returncode}")


def reason_in(output: str) -> str:
    """Return the line of a program's output that names an exception, else its last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    named = [line for line in lines if _EXCEPTION.match(line)]
    return (named or lines or [""])[-1]
