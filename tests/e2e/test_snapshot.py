"""Existing rows, read while the tables are written: who upserts ends with the tables."""

import collections
import json
import random
import threading
import time

from lib.model import SCHEMA, SEED, TABLES, Writer
from lib.rowcast import command
from lib.upserts import Upserts
from lib.wait import wait_for

FILL = """
insert into orders (id, customer, total, note)
    select g, g, g, case when g % 7 = 0 then repeat(md5(g::text), 100) else 'n' || g end
    from generate_series(0, {n}) g where g < 60 or g > 1000;
insert into "Odd.Name"
    select 'k' || g, g % 60, repeat('v', g % 3000) from generate_series(0, {n}) g;
insert into events select g % 60, repeat('e', g % 50), g from generate_series(0, {n}) g;
insert into items select g % 60, 'c' || g, 'i' from generate_series(0, {n}) g;
"""


class Hammer(threading.Thread):
    """Writes until it is told to stop."""

    def __init__(self, pg, seed, **what):
        super().__init__(daemon=True)
        self.writer = Writer(pg, seed, **what)
        self.ending = threading.Event()
        self.failure = None

    def run(self):
        try:
            while not self.ending.is_set():
                self.writer.run(20)
        except BaseException as e:  # told by the test's own thread
            self.failure = e

    def stop(self):
        self.ending.set()
        self.join(30)
        self.writer.close()
        if self.failure:
            raise self.failure


class Client(threading.Thread):
    """Upserts what comes over WebSocket; goes on by cursor when rowcast dies."""

    def __init__(self, rc):
        super().__init__(daemon=True)
        self.rc = rc
        self.consumer = Upserts()
        self.cursor = "earliest"
        self.ending = False
        self.failure = None

    def run(self):
        while not self.ending and not self.failure:
            try:
                with self.rc.stream(start=self.cursor, deadline=5) as s:
                    while not self.ending:
                        try:
                            entry = s.entry(1)
                        except TimeoutError:
                            continue
                        self.consumer.take(entry)
                        self.cursor = s.cursor
            except AssertionError as e:
                self.failure = e
            except Exception:  # rowcast is away
                time.sleep(0.01)


def wait_idle(rc, deadline=60):
    """Nothing is being read, nothing waits for it, and what was read is on disk."""
    def idle(metrics):
        return (metrics.get("rowcast_snapshot_tables") == 0
                and metrics.get("rowcast_journal_unwritten_bytes") == 0)
    wait_for(lambda: idle(rc.metrics()), deadline,
             lambda: f"the snapshots to end:\n{rc.process.log_tail()}", ignore=(OSError,))


def entries(rc):
    out = command("journal", "dump", rc.journal)
    assert out.returncode == 0, out.stderr
    return [json.loads(line) for line in out.stdout.splitlines()]


def dumped(rc):
    consumer = Upserts()
    for entry in entries(rc):
        consumer.take(entry)
    return consumer


def ask(rc, table):
    answer = command("snapshot", table, "--journal", rc.journal)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout == f"public.{table}: queued\n"


def test_exact_while_written(each_pg, make_rowcast):
    """Rows, keys, large values, truncates and columns change while all tables are read, rowcast is
    killed and connections are cut: WebSocket and journal end with the tables."""
    print(f"MODEL_SEED={SEED}")
    pg = each_pg
    pg.sql(SCHEMA)
    pg.sql(FILL.format(n=6000))
    chance = random.Random(SEED + pg.version)
    hammer = Hammer(pg, SEED + pg.version, truncate=False)
    hammer.start()
    rc = make_rowcast("--table", "public.*", "--snapshot", "initial", "--snapshot-rate", "8MiB",
                      source=pg.conninfo()).start()
    client = Client(rc)
    client.start()
    for blow in ("kill", "readers", "kill", "stream", "kill", "ask"):
        time.sleep(chance.uniform(0.05, 0.3))
        if blow == "kill":
            rc.kill9()
            rc.start()
        elif blow == "readers":
            pg.sql("select count(pg_terminate_backend(pid)) from pg_stat_activity"
                   " where query like '%%COPY%%' and pid <> pg_backend_pid()")
        elif blow == "stream":
            pg.sql("select pg_terminate_backend(active_pid) from pg_replication_slots")
    wait_idle(rc)
    hammer.writer.truncate = pg.version > 10
    for table in ("orders", "events", "items"):
        ask(rc, table)
    wait_idle(rc)
    hammer.stop()
    hammer.writer.touch()
    pg.wait_confirmed("rowcast", pg.lsn() - 1, deadline=60)
    found = dumped(rc)
    differences = found.differences(pg)
    assert not differences, "\n".join(differences) + f"\n{found.marks}"
    assert {("end", table) for table in TABLES} <= set(found.marks)
    wait_for(lambda: client.failure or not client.consumer.differences(pg), 30,
             lambda: f"the client to have it all: {client.consumer.differences(pg)}",
             ignore=(RuntimeError, KeyError))  # it is changed meanwhile
    client.ending = True
    client.join(10)
    if client.failure:
        raise client.failure
    assert client.consumer.marks == found.marks


def test_what_is_read_and_when(pg, make_rowcast):
    """Never unasked by default; a table that is published later; an empty one; none twice."""
    pg.sql("create table a (id int primary key); insert into a select generate_series(1, 100);"
           "create table empty (id int primary key);"
           "create publication rowcast for table a, empty")
    rc = make_rowcast(source=pg.conninfo()).start()
    assert not [e for e in entries(rc) if e.get("type") == "snapshot"]
    missing = command("snapshot", "b", "--journal", rc.journal)
    assert missing.returncode == 2 and "no table that is published" in missing.stderr
    ask(rc, "empty")
    ask(rc, "a")
    wait_idle(rc)
    assert rc.stop() == 0
    # Switched on for an old journal: what is there is not read, what comes later is.
    again = make_rowcast("--snapshot", "initial", source=pg.conninfo(), journal=rc.journal).start()
    pg.sql("create table b (id int primary key, v text); insert into b select g, 'old' from"
           " generate_series(1, 50) g; alter publication rowcast add table b;"
           "update b set v = 'new' where id = 7")
    again.wait_metric(lambda m: m.get("rowcast_snapshot_tables_done_total") == 1)
    for kill in (False, True):
        again.restart(kill)
    found = dumped(again)
    assert collections.Counter(found.marks) == {
        (step, f"public.{table}"): 1 for table in ("a", "empty", "b") for step in ("begin", "end")}
    assert found.reads == {"public.a": 100, "public.b": 50}
    assert not found.differences(pg, ("public.a", "public.b"))


# Rows of the end move into the first pages, without their large values being told.
MOVES = """update t set n = 1, id = id + 100000 where id > 11500 and id % 2 = 0;
update t set n = 2 where id > 11000 and id < 12000"""


def half_read(pg, make_rowcast):
    """A table of rows with large values, with room in its first pages, which are read already."""
    pg.sql("create table t (id int primary key, n int, big text);"
           "alter table t alter big set storage external;"
           "insert into t select g, 0, repeat(md5(g::text), 64) from generate_series(1, 12000) g;"
           "create publication rowcast for table t")
    with pg.connect(autocommit=True) as c:
        c.execute("delete from t where id <= 4000")
        c.execute("vacuum t")  # room in the first pages
    rc = make_rowcast("--snapshot", "initial", "--snapshot-connections", "1",
                      "--snapshot-rate", "8MiB", source=pg.conninfo()).start()
    rc.wait_metric(lambda m: (m.get("rowcast_snapshot_rows_total") or 0) > 0)
    return rc


def test_moved_rows_keep_large_values(pg, make_rowcast):
    """Rows that move into pages that were read already, by updates without their large values."""
    rc = half_read(pg, make_rowcast)
    pg.sql(MOVES)
    wait_idle(rc)
    found = dumped(rc)
    assert not found.differences(pg, ("public.t",))
    assert found.marks == [("begin", "public.t"), ("end", "public.t")]


def test_columns_change_meanwhile(pg, make_rowcast):
    """What a new column's default and a rewrite put into rows that were read already is read."""
    pg.sql("create table t (id int primary key, v int);"
           "insert into t select g, g from generate_series(1, 40000) g;"
           "create publication rowcast for table t")
    rc = make_rowcast("--snapshot", "initial", "--snapshot-connections", "1",
                      "--snapshot-rate", "768KiB", source=pg.conninfo()).start()
    rc.wait_metric(lambda m: (m.get("rowcast_snapshot_rows_total") or 0) > 0)
    pg.sql("alter table t add column more text default 'more'")
    rc.wait_log("its columns")
    rc.wait_metric(lambda m: (m.get("rowcast_snapshot_rows_total") or 0) > 40000)
    pg.sql("alter table t alter column v type int using v + 1000000")
    wait_idle(rc)
    found = dumped(rc)
    assert not found.differences(pg, ("public.t",))
    assert ("restart", "public.t") in found.marks


def test_in_wal_and_not_visible(pg, make_rowcast):
    """A commit that waits for a synchronous standby is in the stream, and no snapshot sees it."""
    pg.sql("create table t (id int primary key, v text); insert into t values (1, 'old');"
           "create table u (id int primary key, v text); insert into u values (1, 'old');"
           "create publication rowcast for table t, u")
    rc = make_rowcast(source=pg.conninfo()).start()
    pg.configure({"synchronous_standby_names": "nobody"})
    pg.reload()
    wait_for(lambda: pg.value("show synchronous_standby_names") == "nobody", what="the reload")
    waiting = [threading.Thread(target=pg.sql, args=(f"update {t} set v = 'new'",), daemon=True)
               for t in ("t", "u")]
    for thread in waiting:
        thread.start()
    rc.wait_metric(lambda m: m.get("rowcast_changes_total", op="update") == 2)
    ask(rc, "t")
    rc.wait_metric(lambda m: (m.get("rowcast_snapshot_chunks_retried_total") or 0) > 2)
    pg.wait_confirmed("rowcast", pg.lsn() - 1)
    rc.restart(kill=True)  # the next process does not hear of these transactions any more
    rc.wait_log("with synchronous_standby_names it may have committed before")
    assert not [e for e in entries(rc) if e.get("op") == "read"]
    pg.configure({"synchronous_standby_names": ""})
    pg.reload()
    wait_idle(rc)
    for thread in waiting:
        thread.join(10)
    assert [e["row"]["v"] for e in entries(rc) if e.get("op") == "read"] == ["new"]


def test_goes_on_after_kill9(pg, make_rowcast):
    """What is in the journal is not read again; a table without a key is, and says so."""
    pg.sql("create table t (id int primary key, v text);"
           "insert into t select g, repeat('x', 100) from generate_series(1, 25000) g;"
           "create table bag (v text); alter table bag replica identity full;"
           "insert into bag select repeat('y', 400) from generate_series(1, 12000);"
           "create publication rowcast for table t, bag")
    rc = make_rowcast("--snapshot", "initial", "--snapshot-rate", "2MiB",
                      source=pg.conninfo()).start()
    for table in ("public.t", "public.bag", "public.bag"):
        before = dumped(rc).reads[table]
        wait_for(lambda: dumped(rc).reads[table] > before, 15, f"more rows of {table}")
        rc.restart(kill=True)
    wait_idle(rc)
    found = dumped(rc)
    assert ("restart", "public.bag") in found.marks
    assert ("restart", "public.t") not in found.marks
    assert len(found.rows["public.t"]) == 25000
    # Only what was under way when the process was killed came twice, if it did.
    assert found.reads["public.t"] < 25000 + 3 * 9000, found.reads
    assert not found.differences(pg, ("public.t", "public.bag"))
    ends = {(e["table"], e["rows"]) for e in entries(rc) if e.get("step") == "end"}
    assert ends == {("public.bag", 12000), ("public.t", 25000)}, ends


def test_again_after_a_gap(pg, make_rowcast):
    """when_needed: what a lost slot has missed is read again, behind the gap."""
    pg.sql("create table t (id int primary key, v text);"
           "insert into t select g, 'a' from generate_series(1, 100) g;"
           "create publication rowcast for table t")
    rc = make_rowcast("--snapshot", "when_needed", "--on-gap", "mark",
                      source=pg.conninfo()).start()
    wait_idle(rc)
    assert rc.stop() == 0
    pg.sql("select pg_drop_replication_slot('rowcast')")
    pg.sql("update t set v = 'b' where id <= 50; insert into t values (1000, 'x')")
    rc.start()
    wait_for(lambda: dumped(rc).marks.count(("end", "public.t")) == 2, 15, "a second reading")
    assert not dumped(rc).differences(pg, ("public.t",))
    told = [(e["type"], e.get("step"), e.get("reason")) for e in entries(rc)
            if e.get("type") in ("gap", "snapshot")]
    assert [t[:2] for t in told] == [("snapshot", "begin"), ("snapshot", "end"), ("gap", None),
                                     ("snapshot", "begin"), ("snapshot", "end")]
    assert told[3][2] == "continuity was broken"


def test_moved_while_rowcast_was_away(pg, make_rowcast):
    """Rows that nobody read yet move, while no rowcast runs, into pages that were read already."""
    rc = half_read(pg, make_rowcast)
    rc.kill9()
    pg.sql(MOVES)
    rc.start()
    wait_idle(rc)
    assert not dumped(rc).differences(pg, ("public.t",))


def test_what_cannot_be_read_takes_nobodys_place(pg, make_rowcast):
    """More tables than are read at once: each is named once, and the others are read."""
    pg.sql("create role reader login replication; create table z (id int primary key);"
           "insert into z values (1); grant select on z to reader")
    for n in range(6):
        pg.sql(f"create table a{n} (id int primary key)")
    pg.sql("create publication rowcast for all tables")
    rc = make_rowcast("--snapshot", "initial", source=pg.conninfo(user="reader")).start()
    for n in range(6):
        rc.wait_log(f"GRANT SELECT ON public.a{n} TO")
    rc.wait_metric(lambda m: m.get("rowcast_snapshot_tables_done_total") == 1)
    assert dumped(rc).reads["public.z"] == 1
    wait_for(lambda: "cannot be read" in json.loads(rc.get("/readyz")[1])["text"], 15, "the text")
    assert rc.process.log_text().count("GRANT SELECT") == 6
