"""Kind to the server: it never keeps WAL, never waits, and is never fuller for our sake than it
has to be; and what an operator can ask of a running rowcast."""

import json
import os
import signal
import stat
import time

from lib.postgres import lsn_number
from lib.rowcast import command
from lib.wait import free_port, wait_for


def ask(rc):
    """What `rowcast status` says of a running rowcast."""
    done = command("status", "--journal", rc.journal)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def stops_fast(pg, of=2.0):
    """Stops the server as `pg_ctl stop -m fast` does; the seconds that it took."""
    began = time.monotonic()
    pg.process.send(signal.SIGINT)
    wait_for(lambda: not pg.process.alive(), 20, "the fast shutdown to end")
    took = time.monotonic() - began
    assert took < of, f"the shutdown took {took:.1f} s"
    return took


def test_status_is_asked_at_the_control_socket(pg, make_rowcast):
    """Of the owner alone; it survives kill -9, and says so when nobody is there."""
    pg.sql("create table t (id int primary key)")
    rc = make_rowcast("--table", "public.t", source=pg.url())
    nobody = command("status", "--journal", rc.dir / "nothing")
    assert (nobody.returncode, "nothing" in nobody.stderr) == (6, True), nobody
    rc.start()
    assert stat.S_IMODE(os.stat(rc.journal / "control").st_mode) == 0o600
    said = ask(rc)
    assert (said["slot"], said["state"], said["pid"]) == ("rowcast", "live", rc.process.pid)
    assert said["sinks"] == {"websocket": {"gates": False}}
    pg.sql("insert into t values (1)")
    end = pg.lsn()
    wait_for(lambda: all(lsn_number(ask(rc)[key]) >= end for key in
                         ("received", "appended", "watermark", "acknowledged")), 15,
             lambda: f"the positions to reach {end}: {ask(rc)}")
    rc.kill9()
    gone = command("status", "--journal", rc.journal)
    assert (gone.returncode, "no rowcast runs" in gone.stderr) == (6, True), gone
    rc.start()
    assert ask(rc)["state"] == "live"
    assert rc.stop() == 0
    assert not (rc.journal / "control").exists()


def test_neither_idle_time_nor_neighbours_hold_wal(each_pg, make_rowcast):
    """Nobody writes what is captured: the slot follows all the same, and so does what it keeps."""
    pg = each_pg
    pg.sql("create table t (id int primary key); create publication rowcast for table t")
    pg.sql("create database elsewhere")
    rc = make_rowcast(source=pg.conninfo()).start()
    pg.sql("create table big as select n from generate_series(1, 10000) n", db="elsewhere")
    end = pg.lsn()
    pg.wait_confirmed("rowcast", end, deadline=10)
    pg.sql("select pg_switch_wal()")
    pg.wait_confirmed("rowcast", pg.lsn(), deadline=10)

    def follows():
        pg.sql("checkpoint")  # the place to restart from moves with it
        return pg.slot("rowcast")["restart_lsn"] >= end
    wait_for(follows, 15, lambda: f"restart_lsn to follow: {pg.slot('rowcast')}")
    rc.wait_metric(lambda m: m.get("rowcast_slot_safe_wal_size_bytes") == -1,
                   what="the server's figures")


def test_a_stopping_server_does_not_wait_for_room(each_pg, make_rowcast):
    """Reading has stopped for want of room in the journal, so nobody hears what the server asks."""
    pg = each_pg
    pg.sql("create table t (id int, pad text); create publication rowcast for table t")
    rc = make_rowcast("--journal-size", "1MiB", "--segment-size", "256KiB", "--memory", "1MiB",
                      "--compression", "-7", source=pg.conninfo(),
                      kafka=f"127.0.0.1:{free_port()}").start(ready=False)
    pg.wait_slot_active("rowcast")
    pg.sql("insert into t select n, string_agg(md5(n || '.' || i), '')"
           " from generate_series(1, 20000) n, generate_series(1, 20) i group by n")
    rc.wait_log("reading stopped", 60)
    stops_fast(pg)
    assert rc.log_contains("the server is stopping")
    pg.start()
    pg.wait_slot_active("rowcast")


def test_what_the_server_pays_is_said_once(pg, make_rowcast):
    """A transaction of another session keeps WAL and catalogs; commits wait for us: a warning, a
    metric and a word in /readyz and check, each once, and once more when it is over."""
    pg.sql("create table t (id int primary key); create table other (id int, pad text);"
           "create publication rowcast for table t")
    args = ["--warn-retained-wal", "1MiB", "--warn-xmin-age", "3"]
    rc = make_rowcast(*args, source=pg.conninfo()).start()
    assert rc.stop() == 0
    with pg.connect(autocommit=False, application_name="nightly") as long:
        long.execute("insert into other values (0)")
        pid = long.info.backend_pid
        for _ in range(4):
            pg.sql("insert into other select n, repeat('x', 500) from generate_series(1, 4000) n")
        pg.configure({"synchronous_standby_names": "*"})
        pg.reload()
        rc.start()
        line = rc.wait_log("warning=retained_wal cause=.*")[0]
        assert f"pid {pid}, user postgres, application \\\"nightly\\\"" in line, line
        rc.wait_log("warning=synchronous .*synchronous_standby_names")
        ready = json.loads(rc.get("/readyz")[1])
        assert ready["state"] == "live" and str(pid) in ready["warning"], ready
        assert ask(rc)["warning"] == ready["warning"]
        found = command("check", *args, "--source", pg.conninfo()).stdout
        assert f"warn: retained_wal: the server keeps" in found and f"pid {pid}" in found, found
        assert "warn: synchronous: " in found
        assert "warn: synchronous_standby_names: is *, which counts our connection" in found
        warned = [reason for reason in ("retained_wal", "xmin_age", "synchronous", "safe_wal")
                  if rc.metrics().get("rowcast_source_warning", reason=reason)]
        assert warned == ["retained_wal", "xmin_age", "synchronous"]
        long.rollback()
    pg.configure({"synchronous_standby_names": ""})
    pg.reload()
    wait_for(lambda: pg.sql("checkpoint") is None and ask(rc)["warning"] == "", 30,
             lambda: f"the warnings to end: {ask(rc)}")
    log = rc.process.log_text()
    for reason in ("retained_wal", "xmin_age", "synchronous"):
        assert log.count(f"warning={reason} cause=") == 1, log
        assert log.count(f'msg="the warning is over" slot=rowcast warning={reason}') == 1, log


def test_slot_drop(pg, make_rowcast):
    """Not while somebody reads it, not another's; then it is gone, and with it what it kept."""
    pg.sql("create table t (id int primary key)")
    pg.sql("create database elsewhere")

    def drop(*args, db="postgres"):
        return command("slot", "drop", "--source", pg.conninfo(db), *args)
    rc = make_rowcast("--table", "t", source=pg.conninfo()).start()
    pid = pg.slot("rowcast")["active_pid"]
    used = drop()
    assert used.returncode == 3 and f"in use by pid {pid}" in used.stderr, used
    rc.kill9()
    other = drop(db="elsewhere")
    assert other.returncode == 3 and "belongs to database postgres" in other.stderr, other
    done = drop()
    assert done.returncode == 0 and "dropped slot rowcast" in done.stdout, done
    assert pg.slot("rowcast") is None
    gone = drop()
    assert gone.returncode == 3 and "does not exist" in gone.stderr, gone
    pg.sql("select pg_create_logical_replication_slot('theirs', 'test_decoding')")
    theirs = drop("--slot", "theirs")
    assert theirs.returncode == 3 and "test_decoding" in theirs.stderr, theirs
    assert command("slot", "--source", pg.conninfo()).returncode == 2


def test_a_stopping_server_does_not_wait_for_what_is_in_work(make_postgres, make_rowcast):
    """Existing rows are being read, slowly; a large transaction is being received while it is
    open; Kafka, which the slot waits for, is away. After the restart all of it goes on."""
    pg = make_postgres(18, conf={"logical_decoding_work_mem": "64kB"})
    pg.sql("create table t (id int primary key, pad text); create publication rowcast for table t;"
           "insert into t select n, md5(n::text) from generate_series(1, 100000) n")
    rc = make_rowcast("--snapshot", "initial", "--snapshot-rate", "100KiB",
                      source=pg.conninfo(), kafka=f"127.0.0.1:{free_port()}").start(ready=False)
    pg.wait_slot_active("rowcast")
    writer = pg.connect(autocommit=False)
    writer.execute("insert into t select n, md5(n::text) from generate_series(100001, 150000) n")
    rc.wait_metric(lambda m: m.get("rowcast_spool_bytes"), what="the open transaction's changes")
    stops_fast(pg)
    writer.close()
    pg.start()
    pg.wait_slot_active("rowcast")
    pg.sql("insert into t values (0)")
    with rc.stream(tables=["t"], start="earliest") as stream:
        stream.entries_until(lambda e: e.get("op") == "insert" and e["row"]["id"] == 0, 30)


def test_an_ended_session_is_no_shutdown(pg, make_rowcast):
    """An administrator ends the look-up session: a new one is made, and the stream goes on."""
    pg.sql("create table t (id int primary key); create publication rowcast for table t")
    rc = make_rowcast(source=pg.conninfo()).start()
    stream_pid = pg.slot("rowcast")["active_pid"]
    of_lookup = "from pg_stat_activity where application_name = 'rowcast_lookup'"
    ended = pg.value(f"select pid {of_lookup}")
    assert pg.value("select pg_terminate_backend(%s)", ended)
    wait_for(lambda: pg.sql(f"select pid {of_lookup} and state = 'idle' and pid <> %s", ended), 10,
             "a new look-up session that has asked")
    wait_for(lambda: pg.value(f"select clock_timestamp() - backend_start > interval '3 s'"
                              f" {of_lookup}"), 10, "what would be given up to be given up")
    assert pg.slot("rowcast")["active_pid"] == stream_pid
    assert rc.metrics().get("rowcast_reconnects_total") == 0
