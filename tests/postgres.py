"""A PostgreSQL server of a test's own, on a Unix socket and nothing else, gone with it."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

NONE = "no PostgreSQL server here: apt-get install postgresql"
USER = "postgres"  # root may not run the server; it runs as the package's own user then


def binaries() -> Path | None:
    """The folder of initdb and postgres: where Debian puts them, or on the path."""
    found = shutil.which("initdb")
    own = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return own[-1] if own else Path(found).resolve().parent if found else None


@contextmanager
def server() -> Iterator["Server"]:
    """A running server."""
    here = binaries()
    assert here is not None, NONE
    root = Path(tempfile.mkdtemp(prefix="pg-"))
    if os.geteuid() == 0:
        user = pwd.getpwnam(USER)
        os.chown(root, user.pw_uid, user.pw_gid)
    root.chmod(0o755)
    running = Server(here, root)
    running.run("initdb", "-D", str(root / "data"), "-U", USER, "-A", "trust", "--no-sync")
    try:
        running.start()
        yield running
    finally:
        running.stop("immediate")
        shutil.rmtree(root, ignore_errors=True)


class Server:
    """`url` is Optuna's."""

    def __init__(self, binaries: Path, root: Path) -> None:
        self._binaries, self._root = binaries, root

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://{USER}@/postgres?host={self._root}"

    def run(self, program: str, *arguments: str) -> str:
        """One of PostgreSQL's programs, as a user who may."""
        command: Sequence[str] = (str(self._binaries / program), *arguments)
        if os.geteuid() == 0:
            command = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", *command)
        done = subprocess.run(command, capture_output=True, text=True, cwd="/", stdin=subprocess.DEVNULL, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self) -> None:
        options = f"-c listen_addresses='' -c unix_socket_directories={self._root} -c fsync=off"
        log = str(self._root / "log")
        self.run("pg_ctl", "-D", str(self._root / "data"), "-w", "-l", log, "-o", options, "start")

    def stop(self, how: str = "fast") -> None:
        """`fast` ends every session, `immediate` does not even say so."""
        self.run("pg_ctl", "-D", str(self._root / "data"), "-m", how, "-w", "stop")

    def database(self, name: str) -> str:
        """Makes a database; its URL for Optuna."""
        import psycopg

        with psycopg.connect(host=str(self._root), user=USER, dbname="postgres", autocommit=True) as session:
            session.execute(f"CREATE DATABASE {name}")  # type: ignore[call-overload]
        return self.url.replace("/postgres?", f"/{name}?")
