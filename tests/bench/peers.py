"""Peers that are servers: a private PostgreSQL, and Kinto or Parse Server on it.

Each starts on a free port in a temporary folder and is gone at the end. ``Absent`` says what is
missing on this machine and how to get it.
"""

import base64
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DATABASE_USER = "postgres"


class Absent(Exception):
    """A peer cannot be started here; the text says why."""


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(ready, what: str, seconds: float = 60.0) -> None:
    """Ask *ready* until it is true."""
    until = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > until:
            raise Absent(f"{what} did not start within {seconds:g} s")
        time.sleep(0.1)


@contextmanager
def running(command: list[str], **options) -> Iterator[subprocess.Popen]:
    """A process that is ended at the end."""
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def postgres_program(name: str) -> str:
    """The path of a program of PostgreSQL."""
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    found = shutil.which(name) or (str(places[-1]) if places else None)
    if found is None:
        raise Absent("PostgreSQL is not installed (apt-get install postgresql)")
    return found


def unprivileged() -> dict:
    """Options that run a process as somebody else where this is root, whom PostgreSQL refuses."""
    if os.geteuid() != 0:
        return {}
    try:
        user = pwd.getpwnam(DATABASE_USER)
    except KeyError:
        raise Absent(
            f"PostgreSQL does not run as root and there is no user {DATABASE_USER}"
        ) from None
    return {"user": user.pw_uid, "group": user.pw_gid}


@contextmanager
def postgresql() -> Iterator[str]:
    """A private PostgreSQL as its package makes it (fsync on); gives its URL."""
    initdb, server = postgres_program("initdb"), postgres_program("postgres")
    as_user = unprivileged()
    with tempfile.TemporaryDirectory() as folder:
        if as_user:
            os.chown(folder, as_user["user"], as_user["group"])
        data, port = f"{folder}/data", free_port()
        subprocess.run(
            [initdb, "-D", data, "-U", DATABASE_USER, "-A", "trust", "-E", "UTF8", "--locale=C"],
            check=True,
            stdout=subprocess.DEVNULL,
            **as_user,
        )
        command = [server, "-D", data, "-p", str(port), "-k", folder, "-h", "127.0.0.1"]
        with running(command, cwd=folder, **as_user):
            wait_until(lambda: is_open(port), "PostgreSQL")
            yield f"postgresql://{DATABASE_USER}@127.0.0.1:{port}/postgres"


def is_open(port: int) -> bool:
    """Whether somebody listens on *port*."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


KINTO = """
[app:main]
use = egg:kinto
kinto.storage_backend = kinto.core.storage.postgresql
kinto.storage_url = {database}
kinto.permission_backend = kinto.core.permission.postgresql
kinto.permission_url = {database}
kinto.cache_backend = kinto.core.cache.memory
kinto.userid_hmac_secret = bench
kinto.bucket_create_principals = system.Authenticated
kinto.experimental_collection_schema_validation = true
kinto.batch_max_requests = 100
multiauth.policies = basicauth
multiauth.policy.basicauth.use = kinto.core.authentication.BasicAuthAuthenticationPolicy
[server:main]
use = egg:waitress#main
host = 127.0.0.1
port = {port}
threads = 16
"""


@contextmanager
def kinto(database: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Kinto on PostgreSQL, behind its own server; gives URL and headers of a user."""
    program = os.environ.get("KINTO") or shutil.which(
        "kinto", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    )
    if program is None:
        raise Absent(
            "Kinto is not installed (pip install 'kinto[postgresql]', or KINTO=<its path>)"
        )
    with tempfile.TemporaryDirectory() as folder:
        port, settings = free_port(), Path(folder) / "kinto.ini"
        settings.write_text(KINTO.format(database=database, port=port))
        subprocess.run(
            [program, "migrate", "--ini", str(settings)],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        with running([program, "start", "--ini", str(settings), "--port", str(port)]):
            url = f"http://127.0.0.1:{port}/v1"
            wait_until(lambda: answers(f"{url}/"), "Kinto")
            user = base64.b64encode(b"bench:secret").decode()
            yield url, {"Authorization": f"Basic {user}", "Content-Type": "application/json"}


PARSE = """
const express = require('express');
const { ParseServer } = require('parse-server');
(async () => {
  const server = new ParseServer({
    databaseURI: process.env.DATABASE, appId: 'bench', masterKey: 'bench', restAPIKey: 'bench',
    serverURL: `http://127.0.0.1:${process.env.PORT}/parse`, silent: true, logsFolder: null,
    allowClientClassCreation: true,
  });
  await server.start();
  const app = express();
  app.use('/parse', server.app);
  app.listen(Number(process.env.PORT), '127.0.0.1');
})();
"""


@contextmanager
def parse_server(database: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Parse Server on PostgreSQL; ``PARSE_SERVER`` names a folder where npm installed it."""
    folder, node = os.environ.get("PARSE_SERVER"), shutil.which("node")
    if folder is None or node is None:
        raise Absent(
            "Parse Server is not named (npm install parse-server express; PARSE_SERVER=its folder)"
        )
    port = free_port()
    environ = {**os.environ, "DATABASE": database, "PORT": str(port)}
    with running([node, "-e", PARSE], cwd=folder, env=environ):
        url = f"http://127.0.0.1:{port}/parse"
        wait_until(lambda: answers(f"{url}/health"), "Parse Server")
        headers = {"X-Parse-Application-Id": "bench", "X-Parse-REST-API-Key": "bench"}
        yield url, {**headers, "Content-Type": "application/json"}


def answers(url: str) -> bool:
    """Whether *url* answers at all."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False
