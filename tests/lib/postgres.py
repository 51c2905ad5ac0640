"""Throwaway PostgreSQL servers."""

import fcntl
import os
import pathlib
import pwd
import shutil
import signal
import subprocess

import psycopg

from . import paths, process
from .process import Process
from .wait import free_port, wait_for

OLDEST, DEBIAN, NEWEST = 10, 15, 18
IMMEDIATE = {"debug_logical_replication_streaming": "immediate"}  # every transaction is streamed


def servers(text):
    """[(version, settings)] from "10,15,18-immediate"; "all": each version, and those that can
    stream every transaction once more doing so."""
    if text == "all":
        text = ",".join([*map(str, range(OLDEST, NEWEST + 1)),
                         *(f"{v}-immediate" for v in range(16, NEWEST + 1))])
    return [(int(item.split("-")[0]), IMMEDIATE if item.endswith("-immediate") else {})
            for item in text.split(",")]


# What tests that depend on the server run on.
SERVERS = servers(os.environ.get("ROWCAST_TEST_VERSIONS") or f"{OLDEST},{DEBIAN},{NEWEST}")


def servers_from(oldest, default):
    """For tests that run on some servers: these ("15,18-immediate"), or what ROWCAST_TEST_VERSIONS
    says instead, of those from `oldest` on."""
    asked = [server for server in SERVERS if server[0] >= oldest]
    return asked if os.environ.get("ROWCAST_TEST_VERSIONS") else servers(default)


def versions(*default, oldest=OLDEST):
    """The same for tests with settings of their own: versions only."""
    return [v for v, settings in servers_from(oldest, ",".join(map(str, default))) if not settings]


def server_name(server):
    """"18-immediate", as ROWCAST_TEST_VERSIONS has it."""
    return f"{server[0]}{'-immediate' if server[1] else ''}"


USER = "postgres"  # servers refuse to run as root

# fsync is off: a crash of the server is not a crash of the machine.
CONF = {
    "wal_level": "logical",
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "max_connections": "50",
    "max_wal_senders": "10",
    "max_replication_slots": "10",
    "max_prepared_transactions": "20",
    "autovacuum": "off",
    "log_line_prefix": "%m [%p] %a ",
    "listen_addresses": "127.0.0.1",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class Postgres:
    """A server of its own: data directory, Unix socket, TCP port; not started by the constructor.

        pg = Postgres(18, conf={"wal_sender_timeout": "2s"}).start()
        pg.sql("create table t (id int primary key)")
        pg.sql("insert into t values (%s)", 1)
        pg.destroy()

    version: 10 to 18; 15 is Debian's own. conf: settings over CONF. hba: lines of pg_hba.conf that
    come before "everybody may do everything" (user postgres needs no password). own_system: with
    a system id of its own; else all servers of a version have the same."""

    def __init__(self, version=DEBIAN, conf=None, hba=(), own_system=False):
        self.version = version
        self.dir = paths.scratch(f"pg{version}")
        self.data = self.dir / "data"
        self.port = free_port()
        self.socket_dir = self.dir
        self.bin = bin_dir(version)
        if own_system:
            self.data.mkdir()
            _give_to_user(self.dir)
            _initdb(self.bin, self.data)
        else:
            subprocess.run(["cp", "-a", "--reflink=auto", _template(version), self.data],
                           check=True)
        _give_to_user(self.dir)
        self.configure({**CONF, "port": self.port, "unix_socket_directories": self.socket_dir,
                        **(conf or {})})
        trust = (self.data / "pg_hba.conf").read_text()
        (self.data / "pg_hba.conf").write_text("\n".join([*hba, trust]))
        self.process = Process(f"PostgreSQL {version}", [self.bin / "postgres", "-D", self.data],
                               self.dir / "postgres.log", user=USER, death_signal="QUIT")
        _give_to_user(self.dir)

    def configure(self, conf):
        """Appends settings to postgresql.conf; reload() or restart() makes them hold."""
        with open(self.data / "postgresql.conf", "a") as f:
            for name, value in conf.items():
                f.write(f"{name} = '{value}'\n")

    def start(self):
        """Starts it and waits until it answers."""
        self.process.start()
        wait_for(self._answers, 60, lambda: f"{self.process.name} to answer:\n"
                 + self.process.log_tail(), ignore=(psycopg.OperationalError,))
        return self

    def _answers(self):
        assert self.process.alive(), f"{self.process.name} ended:\n{self.process.log_tail()}"
        return self.sql("select true")

    def stop(self, mode="fast"):
        """mode: fast, immediate (as a crash: recovery on start) or smart."""
        signals = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
        self.process.stop(signals[mode], 60)

    def processes(self):
        """Process ids of all of the server."""
        return [self.process.pid, *process.children(self.process.pid)]

    def kill9(self):
        """SIGKILL to every process of the server."""
        everyone = process.children(self.process.pid)
        self.process.kill9()
        for pid in everyone:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        # The next start fails while one is left.
        wait_for(lambda: not any(map(process.runs, everyone)),
                 what="the end of the server's processes", every=0.002)

    def restart(self, mode="fast"):
        self.stop(mode)
        return self.start()

    def reload(self):
        self.process.send(signal.SIGHUP)

    def copy(self, conf=None, signal=None, slots=True):
        """A copy of this server's files, made while it is stopped; not running. signal: the file
        that makes it recover (standby.signal, recovery.signal). slots=False leaves its replication
        slots out, as pg_basebackup does."""
        other = Postgres(self.version)
        shutil.rmtree(other.data)
        self.stop()
        subprocess.run(["cp", "-a", "--reflink=auto", self.data, other.data], check=True)
        for slot in [] if slots else (other.data / "pg_replslot").iterdir():
            shutil.rmtree(slot)
        if signal:
            (other.data / signal).touch()
        other.configure({"port": other.port, "unix_socket_directories": other.socket_dir,
                         **(conf or {})})
        _give_to_user(other.dir)
        self.start()
        return other

    def standby(self, conf=None, slots=True):
        """A hot standby of this server, running; made from its files while it is stopped."""
        return self.copy({"primary_conninfo": self.conninfo(), "hot_standby_feedback": "on",
                          **(conf or {})}, "standby.signal", slots).start()

    def promote(self):
        """Makes a standby a primary; returns when it is one."""
        assert self.value("select pg_promote(true, 60)"), self.process.log_tail()

    def destroy(self):
        """Stops it and removes its files, except the log."""
        if self.process.alive():
            self.stop("immediate")
        self._remove_shared_memory()
        shutil.rmtree(self.data, ignore_errors=True)

    def _remove_shared_memory(self):
        """What is left by kill9 without another start: the seventh line names it (key, id)."""
        pid_file = self.data / "postmaster.pid"
        lines = pid_file.read_text().splitlines() if pid_file.exists() else []
        if len(lines) > 6 and lines[6].split():
            subprocess.run(["ipcrm", "-m", lines[6].split()[1]], stderr=subprocess.DEVNULL)

    def conninfo(self, db="postgres", unix=False, user=USER):
        host = self.socket_dir if unix else "127.0.0.1"
        return f"host={host} port={self.port} user={user} dbname={db}"

    def url(self, db="postgres", user=USER):
        return f"postgresql://{user}@127.0.0.1:{self.port}/{db}"

    def connect(self, db="postgres", autocommit=True, **options):
        """A psycopg connection over the Unix socket; the caller closes it."""
        return psycopg.connect(self.conninfo(db, unix=True), autocommit=autocommit, **options)

    def sql(self, text, *params, db="postgres"):
        """Runs SQL on a connection of its own, each call one transaction; returns the rows of the
        last statement as tuples (None when it has none). %s stands for parameters, if there are
        any; with none, several statements are allowed."""
        with self.connect(db) as connection:
            cursor = connection.execute(text, params or None)
            while cursor.nextset():
                pass
            return cursor.fetchall() if cursor.description else None

    def value(self, text, *params, db="postgres"):
        """The first column of the first row."""
        return self.sql(text, *params, db=db)[0][0]

    def lsn(self):
        """The current end of WAL as a number."""
        return lsn_number(self.value("select pg_current_wal_lsn()::text"))

    def slot(self, name):
        """The row of pg_replication_slots as a dictionary, LSNs as numbers; None without it."""
        with self.connect(row_factory=psycopg.rows.dict_row) as connection:
            row = connection.execute("select * from pg_replication_slots where slot_name = %s",
                                     [name]).fetchone()
        for key in ("restart_lsn", "confirmed_flush_lsn"):
            if row and row[key]:
                row[key] = lsn_number(row[key])
        return row

    def wait_slot_active(self, name, active=True, deadline=15):
        wait_for(lambda: (self.slot(name) or {}).get("active") is active, deadline,
                 lambda: f"slot {name} to be {'active' if active else 'free'}: {self.slot(name)}")

    def wait_confirmed(self, name, lsn, deadline=15):
        """Waits until the slot's consumer has acknowledged `lsn` (a number)."""
        wait_for(lambda: (self.slot(name) or {}).get("confirmed_flush_lsn", 0) >= lsn, deadline,
                 lambda: f"slot {name} to be confirmed up to {lsn_text(lsn)}: {self.slot(name)}")


def lsn_number(text):
    """The number of an LSN such as 0/16B3748."""
    high, low = text.split("/")
    return int(high, 16) << 32 | int(low, 16)


def lsn_text(number):
    return f"{number >> 32:X}/{number & 0xFFFFFFFF:X}"


def bin_dir(version):
    """Where the programs of a version are; fetches it when it is not there."""
    path = pathlib.Path(f"/usr/lib/postgresql/{version}/bin")
    if not (path / "postgres").exists():
        path = paths.CACHE / "postgres" / str(version) / "bin"
    if not (path / "postgres").exists():
        subprocess.run([paths.LIB / "install", "--postgres", str(version)], check=True)
    return path.resolve()


def _give_to_user(path):
    if os.getuid() == 0:
        owner = pwd.getpwnam(USER)
        for p in (path, path / "data", *(path / "data").glob("*.conf"),
                  *(path / "data").glob("*.signal")):
            os.chown(p, owner.pw_uid, owner.pw_gid)


def _initdb(programs, data):
    subprocess.run(
        process.as_user(USER if os.getuid() == 0 else None,
                        [programs / "initdb", "-D", data, "-U", USER, "-A", "trust", "-E", "UTF8",
                         "--locale=C.UTF-8", "--no-sync"]),
        check=True, stdout=subprocess.DEVNULL)


def _template(version):
    """A data directory as initdb makes it, kept in the cache: copying is much faster."""
    templates = paths.CACHE / "templates"
    templates.mkdir(parents=True, exist_ok=True)
    programs = bin_dir(version)
    build = subprocess.run([programs / "postgres", "--version"], check=True, text=True,
                           stdout=subprocess.PIPE).stdout.split()[2]
    template = templates / f"{build}-{os.getuid()}"
    with open(templates / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not template.exists():
            new = templates / "new"
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir()
            if os.getuid() == 0:
                shutil.chown(new, USER)
            _initdb(programs, new / "data")
            (new / "data").rename(template)
            new.rmdir()
    return template
