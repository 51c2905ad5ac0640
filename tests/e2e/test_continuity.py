"""Where continuity is hard: a transaction that decodes differently after a reconnect, a message at
the very place of a commit, and a restart after idle time."""

import base64
import os
import signal

import pytest

from lib.model import place
from lib.postgres import lsn_number
from lib.wait import free_port, wait_for

ROWS = 300_000

TABLES = """create table t1 (id int primary key); create table t2 (id int primary key);
create publication p for table t1"""


def open_across_alter(pg):
    """A transaction that writes t2 before and after t2 joins the publication. A session that has
    decoded another change of t2 meanwhile sends all of it; one that starts afterwards leaves out
    what was written before the ALTER. Returns the connection, not yet committed."""
    t = pg.connect(autocommit=False)
    t.execute("insert into t1 values (10)")
    t.execute("insert into t2 values (10)")
    pg.sql("alter publication p add table t2")
    pg.sql("insert into t2 values (50)")
    t.execute("insert into t1 select generate_series(1000, %s)", [999 + ROWS])
    t.execute("insert into t2 values (11)")
    return t


def sender_pid(pg):
    return pg.sql("select active_pid from pg_replication_slots where slot_name = 'rowcast'")[0][0]


def end_sender(pg):
    os.kill(sender_pid(pg), signal.SIGTERM)


def test_the_experiment_holds(pg, make_rowcast):
    """The two decodings do differ; else the tests below prove nothing."""
    pg.sql(TABLES)
    rc = make_rowcast("--publication", "p", source=pg.conninfo()).start()
    with rc.stream(start="now") as s:
        t = open_across_alter(pg)
        s.entries_until(lambda e: e.get("row") == {"id": 50}, 30)
        t.commit()
        whole = [c for c in s.changes(ROWS + 3, 120) if "op" in c]
        assert [c["row"]["id"] for c in whole if c["table"] == "public.t2"] == [10, 11]


def test_cut_before_the_commit(pg, make_rowcast):
    pg.sql(TABLES)
    rc = make_rowcast("--publication", "p", source=pg.conninfo()).start()
    with rc.stream(start="now") as s:
        t = open_across_alter(pg)
        s.entries_until(lambda e: e.get("row") == {"id": 50}, 30)
        s.entries_until(lambda e: e.get("type") == "end", 30)
        since = rc.process.log_size()
        end_sender(pg)
        rc.wait_log("retry", since=since)
        rc.wait_ready()
        t.commit()
        entries = s.entries_until(lambda e: e.get("type") == "end", 120)
    changes = [e for e in entries if "op" in e]
    assert not [e for e in entries if e.get("type") == "restart"]
    assert [c["seq"] for c in changes] == list(range(len(changes)))
    assert [c["row"]["id"] for c in changes if c["table"] == "public.t2"] == [11]
    assert len(changes) == ROWS + 2


@pytest.mark.parametrize("cut", ["sender", "rowcast"])
def test_cut_in_the_middle(pg, make_rowcast, cut):
    """Some of the transaction went out already; it comes again, with other content: the client is
    told to forget, and gets all of it once more. Nobody else sees a trace."""
    pg.sql(TABLES)
    rc = make_rowcast("--publication", "p", source=pg.conninfo()).start()
    s = rc.stream(start="now")
    t = open_across_alter(pg)
    s.entries_until(lambda e: e.get("row") == {"id": 50}, 30)
    s.entries_until(lambda e: e.get("type") == "end", 30)
    sender = sender_pid(pg)
    t.commit()
    first = s.changes(2_000, 60)
    if cut == "sender":
        os.kill(sender, signal.SIGTERM)  # at once: it must not have sent everything
    assert [c["row"]["id"] for c in first if c["table"] == "public.t2"] == [10]
    if cut == "sender":
        wait_for(lambda: sender_pid(pg) not in (None, sender), 30, "another connection")
    else:
        rc.kill9()
        rc.start()
        s = rc.stream(start=first[-1]["cursor"])
    entries = s.entries_until(lambda e: e.get("type") == "end", 120)
    restarts = [i for i, e in enumerate(entries) if e.get("type") == "restart"]
    assert len(restarts) == 1, f"{len(restarts)} restarts in {len(entries)} entries"
    again = [e for e in entries[restarts[0]:] if "op" in e]
    assert [place(c) for c in again] == [(place(first[0])[0], i) for i in range(ROWS + 2)]
    assert [c["row"]["id"] for c in again if c["table"] == "public.t2"] == [11]
    assert again[-1]["last"] is True
    # Those who come later, or stood before the transaction, see only the second form.
    with rc.stream(start="earliest") as other:
        entries = other.entries_until(lambda e: e.get("row") == {"id": 11}, 120)
    assert not [e for e in entries if e.get("type") == "restart"]
    assert [e["row"]["id"] for e in entries if e.get("table") == "public.t2" and "op" in e] \
        == [50, 11]
    if cut == "sender":
        assert rc.metrics().get("rowcast_restarts_total") == 1
    assert rc.log_contains("differ|other content|decoded again")
    s.close()


def test_cut_in_the_middle_of_the_same(pg, make_rowcast):
    """The usual case: decoded again, the same. The client sees each change once and no restart."""
    pg.sql(TABLES)
    rc = make_rowcast("--publication", "p", source=pg.conninfo()).start()
    with rc.stream(start="now") as s:
        pg.sql("insert into t1 select generate_series(1, %s)", ROWS)
        got = s.changes(20_000, 60)
        end_sender(pg)
        entries = s.entries_until(lambda e: e.get("type") == "end", 120)
        got += [e for e in entries if "op" in e]
        assert not [e for e in entries if e.get("type") == "restart"]
    assert [c["seq"] for c in got] == list(range(ROWS))


@pytest.mark.parametrize("version", [15, 18])
def test_a_message_just_before_a_commit(make_postgres, make_rowcast, version):
    """A non-transactional message has the LSN of the commit record behind it: it still has a
    position of its own, and whoever resumes from it gets the transaction."""
    pg = make_postgres(version)
    pg.sql(TABLES)
    rc = make_rowcast("--publication", "p", "--messages", "on", source=pg.conninfo()).start()
    with rc.stream(start="now") as s:
        with pg.connect(autocommit=False) as t:
            t.execute("insert into t1 values (1)")
            t.execute("select pg_logical_emit_message(false, 'note', 'hello')")
            t.commit()
        message, insert = s.changes(2)
    assert (message["op"], message["prefix"]) == ("message", "note")
    assert message["transactional"] is False
    assert base64.b64decode(message["content"]) == b"hello"
    assert insert["row"] == {"id": 1}
    assert place(message) < place(insert)
    assert lsn_number(message["lsn"]) == lsn_number(insert["lsn"]) - 1, "not the place aimed at"
    for restart in (False, True):
        if restart:
            rc.restart(kill=True)
        with rc.stream(start=message["cursor"]) as s:
            assert s.changes(1)[0]["cursor"] == insert["cursor"]
        with rc.stream(start="earliest") as s:
            assert [c["cursor"] for c in s.changes(2)] == [message["cursor"], insert["cursor"]]


def test_idle_minutes_are_no_gap(pg, make_rowcast):
    """Ten minutes in which only another database is written: the slot follows, and a restart after
    them goes on as if nothing had been."""
    pg.sql(TABLES)
    pg.sql("create database other")
    pg.sql("create table noise (id int, pad text)", db="other")
    rc = make_rowcast("--publication", "p", source=pg.conninfo()).start()
    pg.sql("insert into t1 values (1)")
    with rc.stream(start="earliest") as s:
        cursor = s.changes(1)[0]["cursor"]
    for _ in range(5):
        pg.sql("insert into noise select n, repeat('x', 500) from generate_series(1, 5000) n",
               db="other")
        pg.wait_confirmed("rowcast", pg.lsn(), deadline=30)
    rc.kill9()
    rc.process.env = {"LD_PRELOAD": "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
                      "FAKETIME": "+600", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    rc.start()
    pg.sql("insert into t1 values (2)")
    with rc.stream(start=cursor) as s:
        assert s.subscribed["recovered"] is True
        entries = s.entries_until(lambda e: "op" in e)
    assert entries[-1]["row"] == {"id": 2}
    assert not [e for e in entries if e.get("type") in ("gap", "restart")]
    assert not rc.log_contains("gap")
    assert rc.stop() == 0


def test_the_slot_consumed_by_somebody_else_is_a_gap(pg, make_rowcast):
    pg.sql(TABLES)
    rc = make_rowcast("--publication", "p", source=pg.conninfo()).start()
    pg.sql("insert into t1 values (1)")
    pg.wait_confirmed("rowcast", pg.lsn())
    assert rc.stop() == 0
    pg.sql("insert into t1 values (2)")
    pg.sql("select pg_replication_slot_advance('rowcast', pg_current_wal_lsn())")
    rc.start(ready=False)
    assert rc.wait_exit() == 10
    assert rc.log_contains("slot rowcast: gap: it stands at .*, the journal ends at ")


def test_server_stops_quickly_while_idle(each_pg, make_rowcast):
    """A fast shutdown waits for us to acknowledge the end of WAL: that must be at once."""
    each_pg.sql(TABLES)
    rc = make_rowcast("--publication", "p", source=each_pg.conninfo()).start()
    each_pg.sql("insert into t1 values (1)")
    each_pg.process.send(2)  # SIGINT: fast
    wait_for(lambda: not each_pg.process.alive(), 5, "the fast shutdown to end")
    each_pg.start()
    rc.wait_ready()


def test_a_sink_that_is_away_does_not_hold_up_a_shutdown(each_pg, make_rowcast):
    """What it has not taken cannot be acknowledged; the server would wait for it without an end."""
    each_pg.sql(TABLES)
    rc = make_rowcast("--publication", "p", source=each_pg.conninfo(),
                      kafka=f"127.0.0.1:{free_port()}").start(ready=False)
    each_pg.wait_slot_active("rowcast")
    each_pg.sql("insert into t1 values (1)")
    end = each_pg.lsn()
    rc.wait_metric(lambda m: (m.get("rowcast_lsn", kind="received") or 0) >= end)
    each_pg.process.send(2)  # SIGINT: fast
    wait_for(lambda: not each_pg.process.alive(), 5, "the fast shutdown to end")
    each_pg.start()
    each_pg.wait_slot_active("rowcast")
    assert each_pg.slot("rowcast")["confirmed_flush_lsn"] < end
