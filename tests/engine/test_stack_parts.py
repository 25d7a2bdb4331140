"""The parts of the embedded stack, each alone: what is decided, written and started."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import boto3
import psycopg2
import pytest
from botocore.config import Config
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import DiskFull, StackError
from headrace.stack import (
    credentials,
    folders,
    health,
    objects,
    parts,
    processes,
    record,
    registration,
    supervisor,
)
from headrace.stack import (
    postgres as engine,
)
from headrace.stack.layout import MARKER, Layout, Ports
from headrace.stack.record import PartRecord, PartState, Phase, Record
from tests.conftest import PostgresServer, S3Server, removed_afterwards

HOME = Path("/srv/a home")


def site(**inherited: str) -> parts.Site:
    layout, ports, secrets = Layout(HOME), Ports(9000), credentials.new()
    settings = credentials.settings_for(secrets, ports)
    return parts.Site(layout, ports, secrets, settings, inherited, Path("/clone"), Path("/clone/dashboard/app.py"))


def planned(made: parts.Site) -> dict[str, parts.Part]:
    cluster = engine.Cluster(made.layout.cluster, Path("/pg/bin"), None)
    return {part.name: part for part in parts.plan(made, cluster)}


def test_every_part_comes_after_those_that_it_needs() -> None:
    """The supervisor and its stop order rely on it."""
    seen: set[str] = set()
    for part in planned(site()).values():
        assert seen.issuperset(part.after), part.name
        seen.add(part.name)


def test_no_secret_is_in_an_argv() -> None:
    """Any user of the machine can read the arguments of all processes."""
    made = site()
    secrets = [getattr(made.credentials, name) for name in credentials.Credentials.__slots__]
    words = [word for part in planned(made).values() for word in part.argv]
    assert not [word for word in words for secret in secrets if secret in word]


def test_a_part_shows_nothing_of_its_environment() -> None:
    """A traceback or a log must not show secrets by accident."""
    made = site()
    for shown in (repr(made), repr(made.credentials), *(repr(part) for part in planned(made).values())):
        assert made.credentials.token not in shown
        assert made.credentials.postgres_password not in shown


def test_every_part_listens_on_loopback_only() -> None:
    """The stack has no TLS and, in part, no authentication."""
    words = [word for part in planned(site()).values() for word in part.argv]
    assert not [word for word in words if "0.0.0.0" in word or "::" in word]


def test_parts_inherit_the_operators_settings_but_not_another_prefect() -> None:
    """``HEADRACE_ALLOWED_NETWORKS=… headrace up`` must reach the workers."""
    inherited = {"HEADRACE_ALLOWED_NETWORKS": "10.0.0.0/8", "PREFECT_API_KEY": "cloud", "PYTHONDONTWRITEBYTECODE": "1"}
    worker = planned(site(**inherited))["worker-io"].environment
    assert worker["HEADRACE_ALLOWED_NETWORKS"] == "10.0.0.0/8"
    assert not {"PREFECT_API_KEY", "PYTHONDONTWRITEBYTECODE", "HEADRACE_POSTGRES_PASSWORD"} & set(worker)
    assert worker["PYTHONPATH"] == "/clone"


def test_a_proxy_does_not_get_what_goes_to_loopback() -> None:
    """Httpx and botocore would send the API's password to it."""
    worker = planned(site(HTTP_PROXY="http://proxy:3128", NO_PROXY="example.org"))["worker-io"].environment
    assert worker["NO_PROXY"] == "example.org,127.0.0.1,localhost"
    assert worker["no_proxy"] == "127.0.0.1,localhost"


def test_nothing_calls_home() -> None:
    """Prefect's analytics and Streamlit's statistics are off."""
    made = planned(site())
    assert made["worker-io"].environment["DO_NOT_TRACK"] == "1"
    assert made["prefect"].environment["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert "--browser.gatherUsageStats=false" in made["dashboard"].argv


def test_without_the_operators_word_loopback_is_not_allowed() -> None:
    """A source on 127.0.0.1 could be our own database."""
    assert "HEADRACE_ALLOWED_NETWORKS" not in planned(site())["gateway"].environment


@given(st.integers(1, 20), st.booleans(), st.booleans())
def test_a_part_gets_another_start_until_it_dies_too_often(deaths: int, starting: bool, job: bool) -> None:
    """A job none, while the stack starts one, later four, ever later and never more than 30 s."""
    verdict = supervisor.after_death(quick_deaths=deaths, starting=starting, job=job)
    assert verdict.again == (not job and deaths < (2 if starting else 5))
    assert 0 <= verdict.delay_seconds <= 30


def test_parts_stop_before_what_they_need() -> None:
    """Workers first, Postgres last."""
    order = supervisor.levels(list(planned(site()).values()))
    level = {name: at for at, names in enumerate(order) for name in names}
    assert level["worker-io"] > level["register"] > level["prefect"] > level["postgres"]
    assert level["gateway"] > level["s3"]


secret = st.from_regex(r"[A-Za-z0-9_-]{1,40}", fullmatch=True)


@given(st.dictionaries(st.from_regex(r"OTHER_[A-Z]{1,10}", fullmatch=True), secret), st.integers(1, 65531))
def test_settings_survive_being_written_and_read(yours: dict[str, str], base: int) -> None:
    """Secrets stay the same over restarts, and the operator's own lines stay."""
    ours = credentials.settings_for(credentials.new(), Ports(base))
    lines = [f"{key}={value}" for key, value in (ours | yours).items()]
    found = credentials.parse("# a comment\n\n" + "\n".join(lines))
    assert found == ours | yours
    again = credentials.complete(found, cluster=HOME, settings=HOME)
    assert credentials.settings_for(again, Ports(base)) == ours


def test_settings_are_private_and_keep_the_operators_lines(tmp_path: Path) -> None:
    """They hold every secret."""
    layout = Layout(tmp_path)
    ours = credentials.settings_for(credentials.new(), Ports())
    credentials.save(layout, {"HEADRACE_ALLOWED_NETWORKS": "10.0.0.0/8", "HEADRACE_URL": "http://old"}, ours)
    assert layout.settings.stat().st_mode & 0o777 == 0o600
    found = credentials.read(layout)
    assert found["HEADRACE_ALLOWED_NETWORKS"] == "10.0.0.0/8"
    assert found["HEADRACE_URL"] == "http://127.0.0.1:8700"
    assert [file.name for file in tmp_path.iterdir()] == ["settings.env"]


def test_settings_that_are_no_text_are_named(tmp_path: Path) -> None:
    """A damaged file is one line for a person, not a traceback."""
    (tmp_path / "settings.env").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StackError, match=r"settings\.env can't be read"):
        credentials.read(Layout(tmp_path))


def test_a_database_whose_password_is_lost_is_named() -> None:
    """A new password would not open it."""
    with pytest.raises(StackError, match="is missing"):
        credentials.complete({}, cluster=HOME / "cluster", settings=HOME / "settings.env")
    with pytest.raises(StackError, match="HEADRACE_POSTGRES_PASSWORD"):
        credentials.complete({"HEADRACE_TOKEN": "x"}, cluster=HOME / "cluster", settings=HOME / "settings.env")


def test_a_home_keeps_its_ports_until_told_otherwise() -> None:
    """Bookmarks and scripts go on working."""
    assert credentials.port_base(None, {}) == 8700
    assert credentials.port_base(None, {"HEADRACE_PORT_BASE": "9100"}) == 9100
    assert credentials.port_base(9200, {"HEADRACE_PORT_BASE": "9100"}) == 9200
    with pytest.raises(StackError, match="out of range"):
        credentials.port_base(65535, {})


def test_the_record_survives_being_written_and_read(tmp_path: Path) -> None:
    """``status`` and ``down`` read what the supervisor wrote."""
    part = PartRecord("gateway", PartState.UP, "http://x", 12, 1.5, 2.5, 3, "m")
    written = Record(Phase.READY, 1, 2.0, "m", "h", (part,))
    record.write(Layout(tmp_path), written)
    assert record.read(Layout(tmp_path)) == written


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"phase": "ready"}', '{"phase": "x", "parts": []}', "null"])
def test_a_damaged_record_counts_as_none(tmp_path: Path, text: str) -> None:
    """The lock says what is true; the record can be written again."""
    (tmp_path / "stack.json").write_text(text)
    assert record.read(Layout(tmp_path)) is None


def test_one_supervisor_at_a_time_holds_the_lock(tmp_path: Path) -> None:
    """And it is free again when its holder is gone, however it went."""
    layout = Layout(tmp_path)
    assert not record.is_held(layout)
    with record.held(layout) as first, record.held(layout) as second:
        assert (first, second) == (True, False)
        assert record.holder(layout) == os.getpid()
    assert record.holder(layout) is None


def test_a_recycled_pid_is_not_taken_for_the_process_that_had_it() -> None:
    """The time of birth tells them apart."""
    born = processes.created(os.getpid())
    assert born is not None
    assert processes.is_alive(os.getpid(), born)
    assert not processes.is_alive(os.getpid(), born - 100)


def test_only_processes_with_our_marker_are_found(tmp_path: Path) -> None:
    """Another stack's processes, and any other's, are left alone."""
    mine, other = Layout(tmp_path / "a"), Layout(tmp_path / "b")
    with subprocess.Popen(["sleep", "60"], env={**os.environ, MARKER: mine.id}) as child:
        try:
            deadline = time.monotonic() + 10
            while not processes.find(mine) and time.monotonic() < deadline:
                time.sleep(0.01)
            assert [process.pid for process in processes.find(mine)] == [child.pid]
            assert processes.find(other) == []
            assert processes.end_all(mine) == 1
        finally:
            child.kill()


def test_a_process_that_ignores_us_is_killed_with_all_that_it_started() -> None:
    """Even what has left for a session of its own."""
    code = "import signal,subprocess,time; signal.signal(15, signal.SIG_IGN); "
    code += "subprocess.Popen(['sleep', '60'], start_new_session=True); print('x', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        family = processes.descendants([child.pid])
        assert len(family) == 2
        processes.end(family, grace_seconds=0.2)
        child.wait(5)
        assert not [process for process in family if process.is_running() and process.status() != "zombie"]


def test_a_full_disk_is_said_to_be_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At any write, and before anything starts."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFull, match="full"):
        folders.write_private(tmp_path / "file", "text")
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(folders, "MINIMUM_FREE_BYTES", 2**60)
    with pytest.raises(DiskFull, match="MiB left"):
        folders.check_free_space(tmp_path / "not" / "there")


def test_a_home_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root would leave files there that its owner can't remove."""
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(StackError, match="belongs to"):
        folders.prepare_home(tmp_path)


def test_a_home_that_is_a_file_is_refused(tmp_path: Path) -> None:
    """In one line."""
    (tmp_path / "file").touch()
    with pytest.raises(StackError, match="can't be written"):
        folders.prepare_home(tmp_path / "file")


def test_a_log_that_has_grown_is_moved_while_its_writer_goes_on(tmp_path: Path) -> None:
    """The writer appends, so it needs no reopening."""
    log = tmp_path / "x.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"a" * 100 + b"\nlast\n")
        assert supervisor.tail(log) == "last"
        writer.write(b"PermissionError: no\nAn exception occurred.\n")
        assert supervisor.tail(log) == "PermissionError: no"
        supervisor.rotate(log, 50)
        writer.write(b"new\n")
    assert log.read_bytes() == b"new\n"
    assert (tmp_path / "x.log.1").read_bytes().endswith(b"occurred.\n")


def test_the_fingerprint_changes_with_a_flow(tmp_path: Path) -> None:
    """A parameter more must be registered, though ``prefect.yaml`` is the same."""
    description, flow = tmp_path / "prefect.yaml", tmp_path / "flow.py"
    description.write_text("a")
    flow.write_text("1")
    before = registration.fingerprint(description, [flow])
    assert registration.fingerprint(description, [flow]) == before
    flow.write_text("2")
    assert registration.fingerprint(description, [flow]) != before


def test_the_cause_is_found_in_what_prefect_prints() -> None:
    """Its last line says only that an exception occurred."""
    output = "Traceback (most recent call last):\n  File x\nImportError: no name 'y'\n\nAn exception occurred.\n"
    assert registration.reason_in(output) == "ImportError: no name 'y'"


def test_every_deployment_is_described_once() -> None:
    """With a module entrypoint, so that ``flows/`` is not put on ``sys.path``."""
    import yaml

    described = yaml.safe_load(registration.find_description().read_text(encoding="utf-8"))
    names = [deployment["name"] for deployment in described["deployments"]]
    assert names == ["ingest-order", "ingest-bundle", "transcode-asset", "watch-feed", "reconcile"]
    assert all(one["entrypoint"].count(".") == 2 and ":" not in one["entrypoint"] for one in described["deployments"])


def test_leftovers_of_cut_off_uploads_are_swept(tmp_path: Path) -> None:
    """Rclone hides them for ever, and never removes them after a kill."""
    objects.prepare(tmp_path)
    folder = tmp_path / "headrace-vault" / "packs"
    folder.mkdir()
    for name in ("kept", ".rclone_temp_put_1", ".rclone_temp_multipart_2", ".rclone_multipart_upload_3"):
        (folder / name).touch()
    objects.prepare(tmp_path)
    assert [file.name for file in folder.iterdir()] == ["kept"]


def test_objects_are_stored_and_ranges_read(s3_server: S3Server) -> None:
    """The endpoint takes signed requests, and a HEAD does not read the object."""
    options = Config(request_checksum_calculation="when_required", response_checksum_validation="when_required")
    client = boto3.client(
        "s3",
        endpoint_url=s3_server.endpoint_url,
        aws_access_key_id=s3_server.access_key_id,
        aws_secret_access_key=s3_server.secret_access_key,
        region_name="us-east-1",
        config=options,
    )
    client.put_object(Bucket="headrace-vault", Key="a/b", Body=b"0123456789")
    assert client.get_object(Bucket="headrace-vault", Key="a/b", Range="bytes=2-4")["Body"].read() == b"234"
    assert (s3_server.folder / "headrace-vault/a/b").read_bytes() == b"0123456789"
    assert {bucket["Name"] for bucket in client.list_buckets()["Buckets"]} >= {"headrace-vault", "headrace-streams"}


def test_each_database_of_the_test_server_is_its_own(postgres: PostgresServer) -> None:
    """Tests don't see each other's tables."""
    urls = {postgres.database(), postgres.database()}
    assert len(urls) == 2
    for url in urls:
        with psycopg2.connect(url.replace("+psycopg2", "")) as connection, connection.cursor() as cursor:
            cursor.execute("CREATE TABLE only_here (id int)")


def test_roles_and_databases_are_made_and_their_passwords_follow_the_settings(postgres: PostgresServer) -> None:
    """Twice is harmless; a role's password that was edited is set anew."""
    for secrets in (credentials.new(), credentials.new()):
        made = credentials.Credentials(
            **{name: getattr(secrets, name) for name in credentials.Credentials.__slots__}
            | {"postgres_password": postgres.password}
        )
        engine.provide_databases(postgres.port, made)
        dsn = f"postgresql://prefect:{made.prefect_database_password}@127.0.0.1:{postgres.port}"
        with psycopg2.connect(f"{dsn}/prefect") as connection, connection.cursor() as cursor:
            cursor.execute("SELECT similarity('a', 'a')")
        with pytest.raises(psycopg2.OperationalError, match="permission denied"):
            psycopg2.connect(f"{dsn}/headrace")


def test_a_wrong_password_is_named(postgres: PostgresServer) -> None:
    """Waiting would not make it right."""
    check = engine.PostgresCheck(postgres.port, "wrong", Path("settings.env"))
    with pytest.raises(StackError, match="refuses the password"):
        check.answers(0)


def test_an_interrupted_initdb_is_made_again(tmp_path: Path) -> None:
    """It works beside the cluster's place, which it takes when it is whole."""
    with removed_afterwards(tmp_path) as layout:
        half = layout.postgres / "cluster.new-1234"
        half.mkdir(parents=True)
        (half / "PG_VERSION").touch()
        made = engine.prepare(layout, "secret", durable=False)
        assert made.exists
        assert not list(layout.postgres.glob("cluster.new-*"))
        assert engine.prepare(layout, "secret", durable=False) == made


def test_a_cluster_that_is_damaged_is_named(tmp_path: Path) -> None:
    """It is never overwritten."""
    with removed_afterwards(tmp_path) as layout:
        layout.cluster.mkdir(parents=True)
        (layout.cluster / "base").mkdir()
        with pytest.raises(StackError, match="not a complete database"):
            engine.prepare(layout, "secret", durable=False)


def test_a_busy_port_is_not_free(s3_server: S3Server) -> None:
    """And who has it can be told."""
    port = int(s3_server.endpoint_url.rpartition(":")[2])
    assert not health.is_free(port)
    assert processes.listening_on(port).startswith("rclone")


def test_a_pid_file_whose_number_another_program_has_got_is_removed(tmp_path: Path) -> None:
    """Postgres would refuse to start for ever."""
    cluster = engine.Cluster(tmp_path, tmp_path, None)
    pid_file = tmp_path / "postmaster.pid"
    pid_file.write_text(f"{os.getpid()}\n{tmp_path}\n")
    engine.forget_stale_pid(cluster)
    assert not pid_file.exists()
