"""Servers that sleep, stand still or vanish, and boxes in between that forget a connection: each a
plain reconnect, and no change lost or seen twice."""

import json
import os
import signal

import pytest

from lib.proxy import Proxy
from lib.rowcast import command
from lib.wait import wait_for

TABLE = "create table t (id int primary key, pad text); create publication rowcast for table t"


@pytest.fixture
def impatient(make_postgres):
    """A server whose walsenders give up after two seconds: so do we then."""
    pg = make_postgres(conf={"wal_sender_timeout": "2s"})
    pg.sql(TABLE)
    return pg


def ids(stream, count):
    return [c["row"]["id"] for c in stream.changes(count, 30)]


def test_a_network_that_swallows_everything(impatient, make_rowcast):
    """Nothing comes, nothing is refused, the connections stay open: TCP itself sees no fault."""
    pg = impatient
    with Proxy(pg.port) as proxy:
        rc = make_rowcast(source=proxy.conninfo(pg) + " connect_timeout=2").start()
        with rc.stream(tables=["t"], start="now") as stream:
            pg.sql("insert into t values (1)")
            assert ids(stream, 1) == [1]
            proxy.swallow()
            pg.sql("insert into t values (2)")
            rc.wait_log("not connected to the source.*no word from the server for 2 s")
            assert rc.get("/readyz")[0] == 503
            proxy.pass_on()
            assert ids(stream, 1) == [2]
        assert rc.stop() == 0


def test_a_walsender_that_stands_still(impatient, make_rowcast):
    """The server works, the process that reads WAL for us does not."""
    pg = impatient
    rc = make_rowcast(source=pg.conninfo()).start()
    pid = pg.slot("rowcast")["active_pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        pg.sql("insert into t values (1)")
        rc.wait_log(rf"though the server works.*pid {pid}")
    finally:
        os.kill(pid, signal.SIGCONT)
    with rc.stream(tables=["t"], start="earliest") as stream:
        assert ids(stream, 1) == [1]


def test_a_server_that_was_suspended(impatient, make_rowcast):
    """All of its processes stand still, and go on hours later by its clock: without a word of ours
    to the operator but the one that it was away."""
    pg = impatient
    rc = make_rowcast(source=pg.conninfo() + " connect_timeout=2").start()
    everyone = pg.processes()
    for pid in everyone:
        os.kill(pid, signal.SIGSTOP)
    try:
        rc.wait_log("not connected to the source")
    finally:
        for pid in everyone:
            os.kill(pid, signal.SIGCONT)
    pg.sql("insert into t values (1)")
    with rc.stream(tables=["t"], start="earliest") as stream:
        assert ids(stream, 1) == [1]
    assert rc.log_contains("level=error") is None


def test_a_gateway_that_cuts_silent_connections(make_postgres, make_rowcast):
    """Status goes out below its period, so that the stream is never silent."""
    pg = make_postgres(conf={"wal_sender_timeout": "4s"})
    pg.sql(TABLE)
    with Proxy(pg.port, silent_max=2) as proxy:
        rc = make_rowcast(source=proxy.conninfo(pg)).start()
        began = pg.value("select backend_start from pg_stat_replication")
        wait_for(lambda: pg.value("select now() - %s > interval '6.5 s'", began), 30,
                 "three of the gateway's periods to pass")
        pg.sql("insert into t values (1)")
        with rc.stream(tables=["t"], start="earliest") as stream:
            assert ids(stream, 1) == [1]
        assert pg.value("select backend_start from pg_stat_replication") == began
        assert rc.metrics().get("rowcast_reconnects_total") == 0
        assert rc.log_contains("level=warn.*not connected") is None


def test_a_clock_that_jumps_ages_nothing(pg, make_rowcast):
    """A machine that slept for ten hours: the age limit does not empty the journal, the stream
    goes on, and a client resumes."""
    pg.sql(TABLE)
    rc = make_rowcast("--journal-age", "1h", "--segment-size", "64KiB", source=pg.conninfo())
    clock = rc.dir / "clock"
    clock.write_text("+0")
    rc.process.env = {"LD_PRELOAD": "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
                      "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1",
                      "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    rc.start()
    with rc.stream(tables=["t"], start="earliest") as stream:
        pg.sql("insert into t select n, md5(n::text) from generate_series(1, 20000) n")
        assert len(ids(stream, 20000)) == 20000
        cursor = stream.cursor
    before = rc.metrics().get("rowcast_journal_segments")
    assert before > 2, "not enough segments to lose any"
    clock.write_text("+10h")
    pg.sql("insert into t select n, md5(n::text) from generate_series(20001, 40000) n")
    with rc.stream(tables=["t"], start=cursor) as stream:
        assert ids(stream, 20000)[0] == 20001
    pg.sql("select pg_terminate_backend(active_pid) from pg_replication_slots")
    rc.wait_log("not connected")
    times = [line.split()[0] for line in rc.process.log_text().splitlines()]
    assert times[0][5:15] != times[-1][5:15] or int(times[-1][16:18]) - int(times[0][16:18]) >= 9
    assert rc.metrics().get("rowcast_journal_segments") > before
    with rc.stream(tables=["t"], start="earliest") as stream:
        assert ids(stream, 40000) == list(range(1, 40001))


def test_a_database_may_sleep_while_nothing_happens(pg, make_rowcast):
    """Let go after a quiet time, so that no session of ours keeps it awake; connected to on demand,
    and on a schedule that the gathered WAL shortens. Consumers are served all the while."""
    pg.sql(TABLE)
    rc = make_rowcast("--idle-detach", "1s", source=pg.conninfo()).start()

    def control(*verb):
        done = command(*verb, "--journal", rc.journal)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def is_detached():
        return json.loads(control("status"))["state"] == "detached"

    def sessions():
        return pg.sql("select pid, application_name from pg_stat_activity"
                      " where application_name like 'rowcast%'")
    pg.sql("insert into t values (1)")
    wait_for(is_detached, 15, lambda: f"it to detach: {control('status')}")
    wait_for(lambda: not sessions(), 5, lambda: f"our sessions to end: {sessions()}")
    assert pg.slot("rowcast")["active"] is False
    assert rc.get("/readyz")[0] == 200 and "detached" in rc.get("/readyz")[1]
    pg.sql("insert into t values (2)")
    with rc.stream(tables=["t"], start="earliest") as stream:
        assert ids(stream, 1) == [1]
        assert is_detached(), "a consumer woke the database"
        assert control("attach") == "attaching\n"
        assert ids(stream, 1) == [2]
        wait_for(is_detached, 15, "it to detach again")
        control("snapshot", "public.t")  # whoever asks for rows has it attached
        rows = stream.changes(2, 30)
        assert [(c["op"], c["row"]["id"]) for c in rows] == [("read", 1), ("read", 2)]
        wait_for(is_detached, 15, "it to detach behind the rows")
        assert rc.stop() == 0
    rc.process.argv += ["--idle-detach=none", "--idle-attach-every", "2s", "--idle-wal-budget",
                        "1MiB"]
    rc.process.argv.remove("--idle-detach")
    rc.process.argv.remove("1s")
    rc.start()
    assert control("detach").startswith("detaching")
    wait_for(is_detached, 15, "it to detach when told")
    pg.sql("create table other as select n, repeat('x', 1000) from generate_series(1, 4000) n")
    pg.sql("insert into t values (3)")
    with rc.stream(tables=["t"], start=stream.cursor) as stream:
        assert ids(stream, 1) == [3]
    rc.wait_log("more WAL had gathered than idle-wal-budget allows")
    assert rc.metrics().get("rowcast_reconnects_total") == 0
