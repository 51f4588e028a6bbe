"""A real PostgreSQL server for tests, from the system's packages: made in two seconds by an ordinary user."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile
import uuid
from pathlib import Path

import pytest

#: What clients over the network log in with: a word that no message may have.
PASSWORD = "pa55w0rd-of-the-tests"
#: The user that the server runs as where this is the superuser, as which it refuses to run.
_NOBODY = "65534"


class Server:
    """A server in a folder of its own, with the database `tests`. It listens on a socket in that folder,
    where anybody may log in, and on the loopback address, where a password is asked for."""

    def __init__(self) -> None:
        programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
        found = programs[-1] if programs else Path(shutil.which("initdb") or "missing").parent
        if not (found / "initdb").exists():
            pytest.skip("PostgreSQL's server is not installed")
        self._programs = found
        self.folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # a socket's path has few characters
        self._data = self.folder / "data"
        self._as: list[str] = []
        if os.geteuid() == 0:
            os.chown(self.folder, int(_NOBODY), int(_NOBODY))
            self._as = ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        password = self.folder / "password"
        password.write_text(PASSWORD)
        self._call("initdb", "-D", self._data, "-U", "owner", "-E", "UTF8", "--locale=C", "--no-sync",
                   "--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={password}")  # fmt: skip
        settings = {
            "listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": self.folder,
            "fsync": "off", "max_connections": 40,
        }  # fmt: skip
        with (self._data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
        self.start()
        self.run("CREATE DATABASE tests", database="postgres")

    def _call(self, program: str, *arguments: object) -> None:
        done = subprocess.run(
            [*self._as, self._programs / program, *map(str, arguments)], cwd=self.folder, text=True,
            check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout

    def start(self) -> None:
        log = self.folder / "log"
        self._call("pg_ctl", "-D", self._data, "-w", "-t", "60", "-l", log, "start")

    def stop(self, how: str = "immediate") -> None:
        """`immediate` is as the server's process being killed."""
        self._call("pg_ctl", "-D", self._data, "-w", "-t", "60", "-m", how, "stop")

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder)

    def run(self, *statements: str, database: str = "tests") -> list[tuple[object, ...]]:
        """What the last of the statements returns, each in a transaction of its own, as the owner."""
        import psycopg

        place = {"host": str(self.folder), "port": self.port, "user": "owner", "dbname": database}
        with psycopg.connect(**place, autocommit=True) as connection:
            for statement in statements:
                done = connection.execute(statement)
            return done.fetchall() if done.description else []

    def address(self, schema: str | None = None, *, user: str = "owner", database: str = "tests") -> str:
        """The address of a table, by default of a new one: a schema of its own."""
        schema = f"t{uuid.uuid4().hex[:12]}" if schema is None else schema
        return f"postgresql://{user}@/{database}?host={self.folder}&port={self.port}&schema={schema}"

    def network(self, *, user: str = "owner", password: str = PASSWORD, database: str = "tests") -> str:
        """The address over the network, with its password."""
        return (
            f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}?schema=s{uuid.uuid4().hex[:8]}"
        )


def schema_of(address: str) -> str:
    found = re.search("schema=([^&]+)", address)
    assert found is not None
    return found[1]
