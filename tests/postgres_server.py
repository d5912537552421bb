"""A real PostgreSQL on a free loopback port, and a proxy in front of it that loses answers.

The programs are Debian's, or whatever `initdb` is on the path. They refuse to
run as root, so then they run as `postgres` or `nobody`.
"""

import asyncio
import glob
import os
import pwd
import shutil
import subprocess
import tempfile
import time

import psycopg

from faultproxy import Proxy
from servers import free_ports

PASSWORD = "pass word's"


def programs():
    """The folder with `initdb` and `postgres`, or None."""
    folders = sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)
    found = shutil.which("initdb")
    folders += [os.path.dirname(os.path.realpath(found))] if found else []
    return next((folder for folder in folders if os.path.exists(os.path.join(folder, "postgres"))), None)


def somebody():
    """How to start a program as somebody who is not root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
            return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        except KeyError:
            continue
    return {}


class Postgres:
    """One server with one database, `db`. `admin` is its owner."""

    user = "loader"
    password = PASSWORD
    database = "db"

    def __init__(self, tls=False):
        self.folder = tempfile.mkdtemp(prefix="lakeward-pg-")
        self.process = None
        self.log = open(os.path.join(self.folder, "log"), "wb")
        self.tls = tls
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self):
        programs_in, options = programs(), somebody()
        secret = os.path.join(self.folder, "password")
        with open(secret, "w") as file:
            file.write(PASSWORD)
        if tls := self.tls:
            self._certificate()
        if options:
            for path in [self.folder, *glob.glob(os.path.join(self.folder, "*"))]:
                os.chown(path, options["user"], options["group"])
        self.data = os.path.join(self.folder, "data")
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": self.folder}
        subprocess.run(
            [os.path.join(programs_in, "initdb"), "-D", self.data, "-U", "admin", "-A", "scram-sha-256",
             f"--pwfile={secret}", "-E", "UTF8", "-N"],
            check=True, stdout=self.log, stderr=self.log, env=environment, cwd=self.folder, **options,
        )
        [self.port] = free_ports(1)
        self.host = "127.0.0.1"
        settings = {
            "listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": "", "fsync": "off",
            "max_connections": 60, "log_min_messages": "warning", "max_prepared_transactions": 4,
        }
        if tls:
            settings |= {"ssl": "on", "ssl_cert_file": self.certificate, "ssl_key_file": self.key}
        arguments = [f"--{name}={value}" for name, value in settings.items()]
        self.process = subprocess.Popen(
            [os.path.join(programs_in, "postgres"), "-D", self.data, *arguments], stdin=subprocess.DEVNULL,
            stdout=self.log, stderr=self.log, env=environment, cwd=self.folder, start_new_session=True, **options,
        )
        deadline = time.monotonic() + 60
        while True:
            try:
                with self.connect(dbname="postgres") as connection:
                    connection.execute("CREATE DATABASE db")
                    word = psycopg.sql.Literal(PASSWORD).as_string(connection)
                    connection.execute(f"CREATE USER loader PASSWORD {word}")
                break
            except psycopg.OperationalError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        self.run("GRANT ALL ON SCHEMA public TO loader")

    def _certificate(self):
        self.certificate, self.key = (os.path.join(self.folder, name) for name in ("server.crt", "server.key"))
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
             "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
             "-addext", "basicConstraints=critical,CA:FALSE", "-keyout", self.key, "-out", self.certificate],
            check=True, capture_output=True,
        )
        os.chmod(self.key, 0o600)

    def connect(self, user="admin", dbname="db"):
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user=user, password=PASSWORD, dbname=dbname, autocommit=True,
            connect_timeout=5,
        )

    def run(self, *statements, user="admin"):
        with self.connect(user) as connection:
            for statement in statements:
                connection.execute(statement)

    def rows(self, query):
        with self.connect() as connection:
            return connection.execute(query).fetchall()

    def destination(self, table, port=None, **settings):
        return {
            "type": "postgres", "host": "127.0.0.1", "port": port or self.port, "database": self.database,
            "user": self.user, "password": PASSWORD, "table": table, **settings,
        }

    def stop(self):
        if self.process is not None:
            # SIGINT: a fast shutdown, so that no child is left behind.
            self.process.send_signal(2)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class LosingProxy(Proxy):
    """Passes everything on. Once armed, the answer to the next COMMIT is lost after the server has given it, and the
    connection is cut."""

    COMMIT = b"Q\x00\x00\x00\x0bCOMMIT\x00"

    def __init__(self, port):
        self.upstream = port
        self.armed = False
        self.lost = 0
        self.refusing = False
        super().__init__()

    async def _connection(self, reader, writer):
        if self.refusing:
            writer.close()
            return
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.upstream)
        except OSError:
            writer.close()
            return
        losing = asyncio.Event()

        async def up():
            while data := await reader.read(1 << 16):
                if self.armed and data.endswith(self.COMMIT):
                    self.armed = False
                    losing.set()
                up_writer.write(data)
                await up_writer.drain()

        async def down():
            while data := await up_reader.read(1 << 16):
                if losing.is_set():
                    self.lost += 1
                    self.refusing = True
                    return
                writer.write(data)
                await writer.drain()

        tasks = [asyncio.ensure_future(up()), asyncio.ensure_future(down())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            writer.close()
            up_writer.close()
