"""Existing rows: what stands in the way of one table, and what must not be taken for visible."""

import contextlib
import threading

from lib.postgres import NEWEST
from lib.rowcast import command
from lib.wait import wait_for
from test_snapshot import ask, dumped, entries, wait_idle


def test_tables_that_cannot_be_read_keep_none_waiting(make_postgres, make_rowcast):
    """Six that the role may not read and six that somebody has locked: the others are read; and
    they too, when they can be."""
    pg = make_postgres(NEWEST)
    closed, locked = [f"a{i}" for i in range(6)], [f"b{i}" for i in range(6)]
    for table in (*closed, *locked, "z1", "z2"):
        pg.sql(f"create table {table} (id int primary key, v text); insert into {table} select g,"
               " repeat('x', 100) from generate_series(1, 8000) g")
    all_tables, readable = (*closed, *locked, "z1", "z2"), (*locked, "z1", "z2")
    pg.sql("create role reader login replication; create publication rowcast for table "
           f"{', '.join(all_tables)}; grant select on {', '.join(readable)} to reader")
    pg.sql("select pg_create_logical_replication_slot('rowcast', 'pgoutput')")
    rc = make_rowcast("--create", "off", source=pg.conninfo(user="reader")).start()
    with contextlib.closing(pg.connect(autocommit=False)) as other:
        other.execute("lock table " + ", ".join(locked))
        pg.sql("create table flushed ()")  # what that wrote to WAL is else on disk 15 s later only
        answer = command("snapshot", "public.*", "--journal", rc.journal)
        assert answer.returncode == 0, answer.stderr
        rc.wait_metric(lambda m: m.get("rowcast_snapshot_tables_done_total") == 2, 30)
        assert {t for step, t in dumped(rc).marks if step == "end"} == {"public.z1", "public.z2"}
    rc.wait_metric(lambda m: m.get("rowcast_snapshot_tables_done_total") == 8, 30)
    pg.sql("grant select on all tables in schema public to reader")
    rc.restart(kill=True)
    wait_idle(rc)
    assert dumped(rc).reads == {f"public.{t}": 8000 for t in (*closed, *locked, "z1", "z2")}


@contextlib.contextmanager
def waiting_commit(pg, statement):
    """A transaction that is in WAL, and waits for a standby that does not come."""
    pg.configure({"synchronous_standby_names": "nobody"})
    pg.reload()
    wait_for(lambda: pg.value("show synchronous_standby_names") == "nobody", what="the reload")
    before = pg.lsn()
    thread = threading.Thread(target=pg.sql, args=(statement,), daemon=True)
    thread.start()
    wait_for(lambda: pg.lsn() > before and pg.value(
        "select count(*) from pg_stat_activity where wait_event = 'SyncRep'") == 1,
             what="it to wait")
    yield
    pg.configure({"synchronous_standby_names": ""})
    pg.reload()
    thread.join(10)


def test_committed_before_the_slot_and_not_visible(make_postgres, make_rowcast):
    """The slot begins behind a commit that waits for a standby: the stream never tells of it, so no
    row is read before it can be seen."""
    pg = make_postgres(NEWEST)
    pg.sql("create table t (id int primary key, v text); insert into t values (1, 'old');"
           "create publication rowcast for table t")
    pg.sql("select pg_create_logical_replication_slot('rowcast', 'pgoutput')")
    with waiting_commit(pg, "update t set v = 'new'"):
        pg.sql("select pg_replication_slot_advance('rowcast', pg_current_wal_lsn())")
        rc = make_rowcast("--snapshot", "initial", source=pg.conninfo()).start()
        rc.wait_log("with synchronous_standby_names it may have committed before")
        assert not [e for e in entries(rc) if e.get("op") == "read"]
    wait_idle(rc)
    assert [e["row"]["v"] for e in entries(rc) if e.get("op") == "read"] == ["new"]


def test_in_wal_for_long_and_not_visible(pg, make_rowcast):
    """As test_in_wal_and_not_visible, when thousands of others have committed since."""
    pg.sql("create table t (id int primary key, v text); insert into t values (1, 'old');"
           "create table u (id int); alter table u replica identity full;"
           "create publication rowcast for table t, u")
    rc = make_rowcast(source=pg.conninfo()).start()
    with waiting_commit(pg, "update t set v = 'new'"):
        with pg.connect() as c:
            c.execute("set synchronous_commit = local; create procedure many() language plpgsql as"
                      " 'begin for i in 1..5000 loop insert into u values (i); commit; end loop; "
                      "end'")
            c.execute("call many()")
        rc.wait_metric(lambda m: m.get("rowcast_changes_total", op="insert") == 5000, 30)
        ask(rc, "t")
        rc.wait_metric(lambda m: (m.get("rowcast_snapshot_chunks_retried_total") or 0) > 2)
        assert not [e for e in entries(rc) if e.get("op") == "read"]
    wait_idle(rc)
    assert [e["row"]["v"] for e in entries(rc) if e.get("op") == "read"] == ["new"]
