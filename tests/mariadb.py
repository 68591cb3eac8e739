"""A MariaDB server of a test's own, on a Unix socket and nothing else, gone with it."""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NONE = "no MariaDB server here: apt-get install mariadb-server"
USER = "mysql"  # root may not run the server; it runs as the package's own user then
PATIENCE = 60.0  # seconds for a start or a stop


def binary() -> str | None:
    """The server's, which Debian keeps from the path of users."""
    return shutil.which("mariadbd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@contextmanager
def server() -> Iterator["Server"]:
    """A running server."""
    here = binary()
    assert here is not None, NONE
    root = Path(tempfile.mkdtemp(prefix="my-"))
    if os.geteuid() == 0:
        user = pwd.getpwnam(USER)
        os.chown(root, user.pw_uid, user.pw_gid)
    root.chmod(0o755)
    running = Server(here, root)
    try:
        running.install()
        running.start()
        yield running
    finally:
        running.stop("immediate")
        shutil.rmtree(root, ignore_errors=True)


class Server:
    """See tests.postgres.Server."""

    def __init__(self, binary: str, root: Path) -> None:
        self._binary, self._root = binary, root
        self._socket = root / "socket"
        self._process: subprocess.Popen[bytes] | None = None

    def database(self, name: str) -> str:
        """Makes a database; its URL for Optuna."""
        import pymysql

        with pymysql.connect(unix_socket=str(self._socket), user="root") as session:
            session.cursor().execute(f"CREATE DATABASE {name}")
        return f"mysql+pymysql://root@/{name}?unix_socket={self._socket}"

    def install(self) -> None:
        """Makes the server's own tables. Anyone here may be root to it: it holds nothing, and is gone soon."""
        program = shutil.which("mariadb-install-db")
        assert program is not None, NONE
        own = ["--auth-root-authentication-method=normal", "--skip-test-db", *self._user()]
        subprocess.run([program, "--no-defaults", f"--datadir={self._root / 'data'}", *own], check=True, stdout=-3)

    def start(self) -> None:
        """Waits until it takes connections."""
        places = [f"--datadir={self._root / 'data'}", f"--socket={self._socket}", f"--pid-file={self._root / 'pid'}"]
        command = [self._binary, "--no-defaults", *places, "--skip-networking", "--innodb-flush-log-at-trx-commit=0"]
        with (self._root / "log").open("ab") as log:
            self._process = subprocess.Popen([*command, *self._user()], stdout=log, stderr=log, cwd="/")
        deadline = time.monotonic() + PATIENCE
        while not self._socket.exists():
            assert self._process.poll() is None and time.monotonic() < deadline, (self._root / "log").read_text()
            time.sleep(0.05)

    def stop(self, how: str = "fast") -> None:
        """`fast` ends every session, `immediate` does not even say so."""
        if self._process is None:
            return
        self._process.kill() if how == "immediate" else self._process.terminate()
        self._process.wait(PATIENCE)
        self._socket.unlink(missing_ok=True)

    def _user(self) -> list[str]:
        return [f"--user={USER}"] if os.geteuid() == 0 else []
