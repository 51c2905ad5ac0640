"""A primary dies and its standby has the slot; a rowcast dies and another one takes over; a server
is upgraded and adopted."""

import contextlib
import json
import subprocess
import time

import pytest

from lib.postgres import lsn_number
from lib.process import as_user
from lib.rowcast import command
from lib.wait import wait_for

TABLES = "create table t (id int primary key); create publication p for table t"


@contextlib.contextmanager
def running(pg):
    try:
        yield pg
    finally:
        pg.destroy()


def ids(entries):
    return [e["row"]["id"] for e in entries if "op" in e]


@pytest.mark.parametrize("version", [18])
def test_a_synchronized_slot_is_gone_on_with(make_postgres, make_rowcast, version):
    """Nobody does anything but promote: no change is lost, none comes twice, old cursors hold."""
    pg = make_postgres(version, conf={"synchronized_standby_slots": "other"})
    pg.sql(TABLES)
    pg.sql("select pg_create_physical_replication_slot('other')")
    with running(pg.standby({"primary_conninfo": pg.conninfo(), "primary_slot_name": "other",
                             "sync_replication_slots": "on"})) as other:
        hosts = (f"host=127.0.0.1,127.0.0.1 port={pg.port},{other.port} user=postgres "
                 "dbname=postgres target_session_attrs=read-write connect_timeout=2")
        rc = make_rowcast("--publication", "p", source=hosts).start()
        pg.sql("insert into t values (1)")
        with rc.stream(start="earliest") as s:
            before = s.entries_until(lambda e: "op" in e)[-1]["cursor"]
        assert pg.slot("rowcast")["failover"] is True
        other.restart()  # a fresh worker looks often; one that saw nothing new, twice a minute
        wait_for(lambda: (other.slot("rowcast") or {}).get("synced")
                 and not other.slot("rowcast")["temporary"], 60, "the slot on the standby")
        connected = rc.stream(start=before)
        pg.sql("insert into t values (2)")
        connected.entries_until(lambda e: e.get("row") == {"id": 2})
        pg.kill9()
        other.promote()
        # The setting came with the files: it would wait for a standby of its own.
        rc.wait_log("holds the stream back.*synchronized_standby_slots", 30)
        other.sql("alter system set synchronized_standby_slots = ''")
        other.reload()
        rc.wait_ready(60)
        other.sql("insert into t values (3)")
        assert ids(connected.entries_until(lambda e: e.get("row") == {"id": 3}, 30)) == [3]
        assert connected.hello["timeline"] == 2, "the new timeline was not told"
        for cursor in (before, connected.cursor):
            with rc.stream(start=cursor) as s:
                assert s.subscribed["recovered"] is True
                other.sql("insert into t select max(id) + 1 from t")
                last = other.value("select max(id) from t")
                got = s.entries_until(lambda e: e.get("row") == {"id": last}, 30)
                assert not [e for e in got if e.get("type") in ("gap", "restart")]
                assert ids(got) == list(range(2 if cursor == before else 4, last + 1))
        connected.close()
        assert rc.stop() == 0
        # The old primary comes back, and a name leads to it: with mark too the journal is kept.
        pg.configure({"synchronized_standby_slots": ""})
        pg.start()
        rc = make_rowcast("--publication", "p", "--on-gap", "mark", source=pg.conninfo(),
                          journal=rc.journal).start(ready=False)
        assert rc.wait_exit() == 12, rc.process.log_tail()
        assert rc.log_contains("timeline 1, the journal on 2: the primary before a failover")
        rc = make_rowcast("--publication", "p", source=other.conninfo(), journal=rc.journal).start()
        with rc.stream(start=before) as s:
            assert ids(s.entries_until(lambda e: e.get("row") == {"id": last}, 30)) \
                == list(range(2, last + 1))
        # Its slot can be told from one that a failover would lose.
        out = command("check", "--source", pg.conninfo(), "--publication", "p").stdout
        assert "not marked for failover" not in out, out
        with running(pg.standby({"primary_conninfo": pg.conninfo()})):
            pg.sql("select pg_create_logical_replication_slot('plain', 'pgoutput')")
            out = command("check", "--source", pg.conninfo(), "--publication", "p", "--slot",
                          "plain").stdout
            assert "warn: slot plain: the server has a standby, but the slot is not marked" in out
            out = command("check", "--source", pg.conninfo(), "--publication", "p").stdout
            assert "not marked" not in out, out


def test_a_standby_takes_over_a_shared_journal(pg, make_rowcast):
    """Within seconds, without a gap; the client that goes on there misses nothing."""
    pg.sql(TABLES)
    first = make_rowcast("--publication", "p", source=pg.conninfo()).start()
    second = make_rowcast("--publication", "p", "--standby", "on", source=pg.conninfo(),
                          journal=first.journal).start(ready=False)
    second.wait_log("level=warn.*standing by until the journal is free.*in use by process")
    pg.sql("insert into t values (1)")
    with first.stream(start="earliest") as s:
        cursor = s.entries_until(lambda e: "op" in e)[-1]["cursor"]
        pg.sql("insert into t values (2)")
        first.kill9()
        began = time.monotonic()
        second.wait_ready()
        took = time.monotonic() - began
    print(f"took over a shared journal in {took:.2f} s")
    assert took < 10
    pg.sql("insert into t values (3)")
    with second.stream(start=cursor) as s:
        got = s.entries_until(lambda e: e.get("row") == {"id": 3})
    assert ids(got) == [2, 3] and not [e for e in got if e.get("type") == "gap"]
    # And a third one, which is told to end while it waits.
    third = make_rowcast("--publication", "p", "--standby", "on", source=pg.conninfo(),
                         journal=first.journal).start(ready=False)
    third.wait_log("standing by")
    assert third.stop() == 0
    refused = make_rowcast("--publication", "p", source=pg.conninfo(),
                           journal=first.journal).start(ready=False)
    assert refused.wait_exit() == 6


def test_a_standby_with_a_journal_of_its_own(pg, make_rowcast):
    """An empty one begins where the slot stands, under the same stream id: a cursor from behind
    there goes on, an older one is told that it is too old. Then the first comes back, and its
    journal lacks what the other had: that is a gap, told as configured."""
    pg.sql(TABLES)
    pg.sql("select pg_create_logical_replication_slot('other', 'pgoutput')")
    arguments = ("--publication", "p", "--on-gap", "mark")
    first = make_rowcast(*arguments, source=pg.conninfo()).start()
    second = make_rowcast(*arguments, source=pg.conninfo()).start(ready=False)
    second.wait_log("level=warn.*standing by.*is in use by process")
    pg.sql("insert into t values (1)")
    with first.stream(start="earliest") as s:
        old = s.entries_until(lambda e: "op" in e)[-1]["cursor"]
        pg.sql("insert into t values (2)")
        new = s.entries_until(lambda e: e.get("row") == {"id": 2})[-1]["cursor"]
    pg.wait_confirmed("rowcast", pg.lsn())
    first.kill9()
    began = time.monotonic()
    second.wait_ready()
    took = time.monotonic() - began
    print(f"took over with its own journal in {took:.2f} s")
    assert took < 10
    pg.sql("insert into t values (3)")
    with second.stream(start="earliest") as s:
        assert ids(s.entries_until(lambda e: "op" in e)) == [3]
    s = second.stream()
    s.send({"subscribe": {"from": old}})
    assert s.expect("reset")["code"] == "cursor_expired"
    s.close()
    assert new.split(".")[0] == second.status()["stream"]
    # The first one again: it waits, and takes over with the gap told.
    first.start(ready=False)
    first.wait_log("is in use by process")
    pg.wait_confirmed("rowcast", pg.lsn())
    second.kill9()
    first.wait_ready()
    pg.sql("insert into t values (4)")
    with first.stream(start=old) as s:
        got = s.entries_until(lambda e: e.get("row") == {"id": 4})
    gap, = [e for e in got if e.get("type") == "gap"]
    assert gap["reason"].startswith("slot_consumed: ")
    assert lsn_number(gap["from_lsn"]) < lsn_number(gap["to_lsn"])
    assert ids(got) == [2, 4]


def test_a_journal_of_mere_progress_is_no_obstacle(pg, make_rowcast):
    """One that had the slot for a quiet moment has nothing to lose: goes on where that stands."""
    pg.sql(TABLES)
    rc = make_rowcast("--publication", "p", source=pg.conninfo()).start()
    assert rc.stop() == 0
    pg.sql("insert into t values (1)")
    pg.sql("select pg_replication_slot_advance('rowcast', pg_current_wal_lsn())")
    rc.start()
    pg.sql("insert into t values (2)")
    with rc.stream(start="earliest") as s:
        assert ids(s.entries_until(lambda e: "op" in e)) == [2]


def test_an_upgraded_server_is_adopted(make_postgres, make_rowcast):
    """What pg_upgrade leaves: the same tables and LSNs on another system."""
    pg, other = make_postgres(15), make_postgres(15, own_system=True)
    for server in (pg, other):
        server.sql(TABLES)
    rc = make_rowcast("--publication", "p", source=pg.conninfo()).start()
    pg.sql("insert into t values (1)")
    with rc.stream(start="earliest") as s:
        cursor = s.entries_until(lambda e: e.get("type") == "end")[-1]["cursor"]
    assert rc.stop() == 0
    pg.stop()

    def adopt(**more):
        return command("adopt", "--source", other.conninfo(**more), "--journal", rc.journal)
    none = rc.dir / "none"
    assert command("adopt", "--source", other.conninfo(), "--journal", none).returncode == 6
    assert not none.exists(), "a mistyped journal was made"
    done = adopt()
    assert done.returncode == 4 and "pg_create_logical_replication_slot" in done.stderr, done
    other.sql("select pg_create_logical_replication_slot('rowcast', 'pgoutput')")
    done = adopt()
    assert done.returncode == 12 and "WAL ends at" in done.stderr, done
    other.sql("select pg_drop_replication_slot('rowcast')")
    other.stop()
    subprocess.run(as_user("postgres", [other.bin / "pg_resetwal", "-l",
                                        "000000010000000000000005", other.data]),
                   check=True, stdout=subprocess.DEVNULL)
    other.start()
    other.sql("select pg_create_logical_replication_slot('rowcast', 'pgoutput')")
    other.sql("alter table t add column gone int; alter table t drop column id;"
              "alter table t add column id int primary key default 0")
    done = adopt()
    assert done.returncode == 2 and "column id has attnum" in done.stderr, done
    other.sql("drop table t; create table t (id int primary key);"
              "alter publication p add table t")
    other.sql("create database third")
    assert adopt(db="third").returncode == 2
    other.sql("select pg_replication_slot_advance('rowcast', pg_current_wal_lsn())")
    done = adopt()
    assert done.returncode == 0, done.stderr
    assert "taken on your word" in done.stdout
    rc = make_rowcast("--publication", "p", source=other.conninfo(), journal=rc.journal).start()
    other.sql("insert into t values (2)")
    with rc.stream(start=cursor) as s:
        got = s.entries_until(lambda e: e.get("row") == {"id": 2})
    assert ids(got) == [2] and not [e for e in got if e.get("type") == "gap"]
    assert got[-1]["cursor"].split(".")[0] == cursor.split(".")[0]


def test_kafka_is_asked_again_after_another_instance_had_the_slot(pg, kafka, make_rowcast):
    """Two with journals of their own take turns. The one that takes over goes on behind the
    position that the other one left in Kafka, not behind the one that it read itself at its
    start."""
    pg.sql(TABLES)
    arguments = ("--publication", "p", "--on-gap", "mark", "--topic-prefix", "turns",
                 "--kafka-format", "json", "--kafka-partitions", "1")
    topic = "turns.public.t"

    def make():
        return make_rowcast(*arguments, source=pg.conninfo(), kafka=kafka.bootstrap)

    def wait_for_rows(*rows):
        got = kafka.wait_records(len(rows), topic)
        assert [json.loads(r.value)["row"]["id"] for r in got] == list(rows)
        pg.wait_confirmed("rowcast", pg.lsn(), 30)  # by way of Kafka's position

    def let_go(rc):
        assert command("detach", "--journal", rc.journal).returncode == 0
        pg.wait_slot_active("rowcast", False)
    first = make().start()
    first.wait_log("Kafka has no position of this stream")
    let_go(first)
    second = make().start()
    pg.sql("insert into t values (1)")
    wait_for_rows(1)
    assert command("attach", "--journal", first.journal).returncode == 0
    first.wait_log("is in use by process")
    second.kill9()
    first.wait_ready()
    first.wait_log("Kafka goes on behind its position", 30)
    pg.sql("insert into t values (2)")
    wait_for_rows(1, 2)
