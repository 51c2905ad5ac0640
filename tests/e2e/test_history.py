"""The source's history is broken: with --on-gap stop each way of it ends the process with a status
of its own; with mark the gap stands in the stream, and what comes after is complete."""

import contextlib
import json

import pytest

from lib.postgres import Postgres, lsn_number, lsn_text
from lib.stream import Stream
from lib.wait import wait_for

TABLES = "create table t (id int primary key); create publication p for table t"
SLOT_LOST, INVALIDATED, CONSUMED, PROMOTED, RESTORED, DIVERGED, OTHER = 4, 9, 10, 11, 12, 13, 14


def started(make_rowcast, pg, *args, journal=None, **options):
    return make_rowcast("--publication", "p", *args, source=pg.conninfo(), journal=journal,
                        **options)


def read_some(pg, make_rowcast):
    """A journal with one row, and the cursor behind it; rowcast has ended."""
    pg.sql(TABLES)
    rc = started(make_rowcast, pg).start()
    pg.sql("insert into t values (1)")
    with rc.stream(start="earliest") as s:
        end = s.entries_until(lambda e: e.get("type") == "end")[-1]
    pg.wait_confirmed("rowcast", pg.lsn())
    assert rc.stop() == 0
    return rc, end["cursor"]


def stops(make_rowcast, pg, journal, code, name, on_gap="stop"):
    """The named error with its status, and the journal as it was."""
    rc = started(make_rowcast, pg, "--on-gap", on_gap, journal=journal).start(ready=False)
    assert rc.wait_exit() == code, rc.process.log_tail()
    assert rc.log_contains(f"class={name} exit={code} .*remedy: ")


def goes_on(rc, pg, cursor, name, ids):
    """From the old cursor: the gap with both ends, then all rows that come."""
    before = lsn_number(f"0/{cursor.split('.')[2]}")
    pg.sql("insert into t select unnest(%s::int[])", ids)
    with rc.stream(start=cursor) as s:
        entries = s.entries_until(lambda e: e.get("row") == {"id": ids[-1]})
    gaps = [e for e in entries if e.get("type") == "gap"]
    assert len(gaps) == 1, entries
    gap = gaps[0]
    assert gap["reason"].startswith(name + ": ")
    assert before < lsn_number(gap["from_lsn"]) < lsn_number(gap["to_lsn"])
    assert [e["row"]["id"] for e in entries if "op" in e] == ids
    assert entries.index(gap) < min(i for i, e in enumerate(entries) if "op" in e)
    assert len({e["cursor"].split(".")[0] for e in entries if "op" in e}
               | {cursor.split(".")[0]}) == 2, "the generation did not rise"
    return entries[-1]["cursor"]


def drop_slot(pg):
    pg.sql("select pg_drop_replication_slot('rowcast')")


def advance_slot(pg):
    pg.sql("update t set id = id")
    pg.sql("select pg_replication_slot_advance('rowcast', pg_current_wal_lsn())")


def exceed_wal(pg):
    for _ in range(4):
        pg.sql("insert into t select generate_series(1000, 1200); delete from t where id >= 1000")
        pg.sql("select pg_switch_wal()")
    pg.sql("checkpoint")
    wait_for(lambda: pg.slot("rowcast")["wal_status"] == "lost", what="the slot to be lost")


def leave_idle(pg):
    pg.sql("alter system set idle_replication_slot_timeout = '1s'")
    pg.reload()

    def invalid():
        pg.sql("checkpoint")
        return pg.slot("rowcast")["invalidation_reason"] == "idle_timeout"
    wait_for(invalid, what="the slot to be invalidated", every=0.2)
    pg.sql("alter system reset idle_replication_slot_timeout")
    pg.reload()


@pytest.mark.parametrize("version, hurt, code, name", [
    (15, drop_slot, SLOT_LOST, "slot_lost"), (15, exceed_wal, INVALIDATED, "slot_invalidated"),
    (18, leave_idle, INVALIDATED, "slot_invalidated"),
    (15, advance_slot, CONSUMED, "slot_consumed")], ids=lambda v: getattr(v, "__name__", None))
def test_the_slot(make_postgres, make_rowcast, version, hurt, code, name):
    pg = make_postgres(version, conf={"max_slot_wal_keep_size": "1MB", "min_wal_size": "32MB",
                                      "max_wal_size": "32MB"})
    rc, cursor = read_some(pg, make_rowcast)
    hurt(pg)
    stops(make_rowcast, pg, rc.journal, code, name)
    rc = started(make_rowcast, pg, "--on-gap", "mark", journal=rc.journal).start()
    cursor = goes_on(rc, pg, cursor, name, [2, 3])
    # A second time, killed, and with a client that stays connected.
    assert rc.stop() == 0
    hurt(pg)
    rc.start()
    cursor = goes_on(rc, pg, cursor, name, [4, 5])
    rc.restart(kill=True)
    with rc.stream(start=cursor) as s:
        assert s.subscribed["recovered"] is True
        pg.sql("insert into t values (6)")
        assert s.changes(1)[0]["row"] == {"id": 6}


@contextlib.contextmanager
def running(pg):
    try:
        yield pg
    finally:
        pg.destroy()


def test_promoted_without_the_slot(pg, make_rowcast):
    rc, cursor = read_some(pg, make_rowcast)
    with running(pg.standby(slots=False)) as other:
        pg.sql("insert into t values (2)")
        wait_for(lambda: other.value("select count(*) from t") == 2, what="the row there")
        pg.stop()
        other.promote()
        stops(make_rowcast, other, rc.journal, PROMOTED, "promoted_without_slot")
        rc = started(make_rowcast, other, "--on-gap", "mark", journal=rc.journal).start()
        goes_on(rc, other, cursor, "promoted_without_slot", [3, 4])


def starts_over(rc, pg, cursor, name, ids):
    """The old cursor is refused with the reason; the earliest is the gap; then all rows that come.
    Returns the ids that were read."""
    pg.sql("insert into t select unnest(%s::int[])", ids)
    s = Stream(rc.port)
    s.send({"subscribe": {"from": cursor}})
    reset = s.expect("reset")
    assert reset["code"] == "other_stream" and f"{name}: " in reset["text"], reset
    s.close()
    with rc.stream(start="earliest") as s:
        entries = [e for e in s.entries_until(lambda e: e.get("row") == {"id": ids[-1]})
                   if e.get("type") != "relation"]
    assert entries[0]["type"] == "gap" and entries[0]["reason"].startswith(name + ": "), entries[0]
    assert [e for e in entries if e.get("type") == "gap"] == entries[:1]
    had = [e["row"]["id"] for e in entries if "op" in e]
    assert had[-len(ids):] == ids
    return had


def test_restored_from_a_copy(pg, make_rowcast):
    """The files of an earlier time, as pg_basebackup or a snapshot of the disk bring them back."""
    pg.sql(TABLES)
    with running(pg.copy()) as old:
        rc = started(make_rowcast, pg).start()
        pg.sql("insert into t select generate_series(1, 5000)")
        with rc.stream(start="earliest") as s:
            cursor = s.entries_until(lambda e: e.get("type") == "end")[-1]["cursor"]
        assert rc.stop() == 0
        old.start()
        stops(make_rowcast, old, rc.journal, RESTORED, "server_restored")
        rc = started(make_rowcast, old, "--on-gap", "mark", journal=rc.journal).start()
        assert starts_over(rc, old, cursor, "server_restored", [7, 8]) == [7, 8]
        rc.restart(kill=True)
        assert starts_over(rc, old, cursor, "server_restored", [9]) == [7, 8, 9]


def test_recovered_to_a_point_in_time(pg, make_rowcast):
    """Another timeline, which left ours before what the journal has. The slot came with the files:
    what lies behind its place is read again."""
    rc, cursor = read_some(pg, make_rowcast)
    with running(pg.copy({"restore_command": f"cp {pg.data}/pg_wal/%f %p",
                          "recovery_target_action": "promote"}, "recovery.signal")) as other:
        pg.sql("insert into t values (2)")
        other.configure({"recovery_target_lsn": lsn_text(pg.lsn())})
        rc.start()
        pg.sql("insert into t values (3)")
        with rc.stream(start=cursor) as s:
            cursor = s.entries_until(lambda e: e.get("row") == {"id": 3})[-1]["cursor"]
        pg.sql("select pg_switch_wal()")
        assert rc.stop() == 0
        other.start()
        wait_for(lambda: not other.value("select pg_is_in_recovery()"), 30, "the promotion")
        stops(make_rowcast, other, rc.journal, DIVERGED, "timeline_diverged")
        rc = started(make_rowcast, other, "--on-gap", "mark", journal=rc.journal).start()
        had = starts_over(rc, other, cursor, "timeline_diverged", [4, 5])
        assert had[-3:] == [2, 4, 5]


def test_another_system(pg, make_postgres, make_rowcast):
    """A wrong host, or a database made anew, costs nothing, whatever is done with gaps."""
    other = make_postgres(15, own_system=True)
    rc, cursor = read_some(pg, make_rowcast)
    other.sql(TABLES)
    other.sql("create database third")
    other.sql(TABLES, db="third")
    for on_gap in ("stop", "mark"):
        stops(make_rowcast, other, rc.journal, OTHER, "other_system", on_gap)
        third = make_rowcast("--publication", "p", "--on-gap", on_gap,
                             source=other.conninfo("third"), journal=rc.journal)
        assert third.start(ready=False).wait_exit() == 6, "another database's name"
    assert other.slot("rowcast") is None
    pg.sql("insert into t values (2)")
    rc.start()
    with rc.stream(start=cursor) as s:
        assert s.changes(1)[0]["row"] == {"id": 2}
    assert rc.stop() == 0
    drop_slot(pg)
    with pg.connect("template1") as c:
        c.execute("drop database postgres with (force)")
        c.execute("create database postgres")
    pg.sql(TABLES)
    stops(make_rowcast, pg, rc.journal, OTHER, "other_system", "mark")


def test_kafka_and_existing_rows_behind_a_gap(make_postgres, kafka, make_rowcast):
    """Kafka is told of each gap and gets all that comes after; with --snapshot when_needed the
    existing rows follow. First positions go on (a dropped slot), then back (an older copy)."""
    pg = make_postgres(15)
    pg.sql(TABLES)
    with running(pg.copy()) as older:
        behind_gaps(pg, older, kafka, make_rowcast)


def behind_gaps(pg, older, kafka, make_rowcast):
    arguments = ("--on-gap", "mark", "--snapshot", "when_needed", "--topic-prefix", "broken",
                 "--kafka-format", "json", "--kafka-partitions", "1")

    def records(topic):
        return [json.loads(r.value) for r in kafka.records(topic) if r.value]

    def wait_for_records(gaps, inserted, read):
        def done():
            changes = records("broken.public.t")
            got = [c["row"]["id"] for c in changes if c["op"] == "insert"]
            rows = [c["row"]["id"] for c in changes if c["op"] == "read"]
            told = [e["reason"].split(":")[0] for e in records("broken.event")
                    if e["type"] == "gap"]
            assert got == inserted and rows == read and told == gaps, (got, rows, told)
            return True
        wait_for(done, 60, "Kafka's records", ignore=(AssertionError,), every=0.3)

    rc = started(make_rowcast, pg, *arguments, kafka=kafka.bootstrap).start()
    rc.wait_log("existing rows of a table are read")
    pg.sql("insert into t values (1)")
    wait_for(lambda: [c["row"]["id"] for c in records("broken.public.t")] == [1], 60, "the row")
    assert rc.stop() == 0
    drop_slot(pg)
    pg.sql("insert into t values (2)")  # in nobody's stream
    since = rc.process.log_size()
    rc.start()
    rc.wait_log("existing rows of a table are read", since=since)
    pg.sql("select pg_logical_emit_message(false, 'far', repeat('x', 1000000))")
    pg.sql("insert into t values (3)")
    wait_for_records(["slot_lost"], [1, 3], [1, 2])
    assert rc.stop() == 0
    older.start()
    older.sql("insert into t values (4)")
    rc = started(make_rowcast, older, *arguments, kafka=kafka.bootstrap, journal=rc.journal).start()
    rc.wait_log("existing rows of a table are read")
    older.sql("insert into t values (5)")
    said = ["slot_lost", "Kafka's position is of another stream", "server_restored"]
    wait_for_records(said, [1, 3, 5], [1, 2, 4])
    rc.restart(kill=True)
    older.sql("insert into t values (6)")
    wait_for_records(said, [1, 3, 5, 6], [1, 2, 4])
