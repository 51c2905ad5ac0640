"""Transactions received while they are open: what comes of them is what comes of whole ones, within
a budget of memory and disk, whatever ends in the middle."""

import json
import pathlib
import random
import re
import subprocess

import psycopg
import pytest

from lib.model import SEED
from lib.postgres import NEWEST, server_name, servers_from
from lib.rowcast import command
from lib.wait import wait_for

# The smallest there is: what does not fit is streamed (or spilled by the server, with off).
SMALL = {"logical_decoding_work_mem": "64kB", "max_prepared_transactions": "20"}
IMMEDIATE = {**SMALL, "debug_logical_replication_streaming": "immediate"}

EXPECTED = (psycopg.errors.LockNotAvailable, psycopg.errors.UniqueViolation,
            psycopg.errors.DeadlockDetected, psycopg.errors.UndefinedColumn,
            psycopg.errors.DuplicateColumn, psycopg.errors.ObjectInUse,
            psycopg.errors.InvalidSchemaName, psycopg.errors.UndefinedTable,
            psycopg.errors.UndefinedObject, psycopg.errors.DuplicateTable)

SCHEMA = """
create type mood as enum ('low', 'high');
create table a (id int primary key, m mood, n numeric, note text);
alter table a alter note set storage external;
create table b (id int, v text, w int);
alter table b replica identity full;
create schema s1; create table s1.c (id serial primary key, v text);
create table p (id int, part int, v text, primary key (id, part)) partition by list (part);
create table p0 partition of p for values in (0);
create table p1 partition of p for values in (1);
create table cleared (id int); create table cleared2 (id int);
create table other (id int);
create publication rowcast for table a, b, s1.c, p, cleared, cleared2;
"""


class Session:
    """One connection of the random work: a transaction with nested savepoints."""

    def __init__(self, pg, rnd):
        self.c = pg.connect(autocommit=False)
        self.c.execute("set lock_timeout = '20ms'")
        self.c.commit()
        self.random, self.depth, self.names = rnd, 0, 0

    def step(self):
        """False when the transaction ended."""
        r = self.random.random()
        try:
            if r < 0.06:
                self.end()
            elif r < 0.18 and self.depth < 6:
                self.depth += 1
                self.c.execute(f"savepoint s{self.depth}")
            elif r < 0.24 and self.depth:
                self.c.execute(f"release savepoint s{self.depth}")
                self.depth -= 1
            elif r < 0.34 and self.depth:
                self.depth = self.random.randrange(1, self.depth + 1)
                self.c.execute(f"rollback to savepoint s{self.depth}")
            else:
                self.change(r)
        except EXPECTED:
            if self.depth:
                self.c.execute(f"rollback to savepoint s{self.depth}")
            else:
                self.c.rollback()

    def end(self):
        self.depth = 0
        if self.random.random() < 0.2:
            self.c.rollback()
        else:
            self.c.commit()

    def change(self, r):
        rnd = self.random
        i, n = rnd.randrange(3000), rnd.choice([1, 1, 2, 300])
        large = rnd.choice(["", None, "x" * 50, rnd.randbytes(2500).hex()])
        if r < 0.40:
            self.ddl()
        elif r < 0.42:
            self.c.execute("truncate " + rnd.choice(["cleared", "cleared, cleared2",
                                                     "s1.c restart identity"]))
        else:
            self.c.execute(*rnd.choice([
                ("insert into a (id, m, n, note) select g, 'low', g * 1.10, %s"
                 " from generate_series(%s::int, %s::int) g on conflict do nothing",
                 (large, i, i + n)),
                ("update a set note = %s where id between %s and %s", (large, i, i + n)),
                ("update a set m = 'high', n = -n where id between %s and %s", (i, i + n)),
                ("update a set id = id + 100000 where id = %s", (i,)),
                ("delete from a where id between %s and %s", (i, i + n // 2)),
                ("insert into b select g, %s, g from generate_series(%s::int, %s::int) g",
                 (large, i, i + n)),
                ("update b set w = w + 1 where id between %s and %s", (i, i + 5)),
                ("delete from b where id between %s and %s", (i, i + n)),
                ("insert into s1.c (v) select %s from generate_series(1, %s::int)", (large, n)),
                ("insert into p select g, g %% 2, %s from generate_series(%s::int, %s::int) g"
                 " on conflict do nothing", (large, i, i + n)),
                ("update p set part = 1 - part where id between %s and %s", (i, i + 3)),
                ("insert into other values (%s)", (i,)),
            ]))

    def ddl(self):
        rnd = self.random
        self.names += 1
        extra = [row[0] for row in self.c.execute(
            "select attname from pg_attribute where attrelid = 'a'::regclass and attnum > 4"
            " and not attisdropped")]
        column = rnd.choice(extra or ["none"])
        statements = [
            f"alter table a add column x{rnd.randrange(1000)} text default 'd'",
            f"alter table a drop column {column}",
            f"alter table a rename column {column} to y{rnd.randrange(1000)}",
            f"alter table a alter column {column} type varchar(100)",
            "alter table a replica identity " + rnd.choice(["full", "default"]),
            "alter table b alter column w type " + rnd.choice(["bigint", "int"]),
            "create temp table t on commit drop as select 1",
        ]
        self.c.execute(rnd.choice(statements))


def random_work(pg, seed, steps, sessions=5):
    """Also renames a schema and a type from outside, which needs no lock of their tables."""
    rnd = random.Random(seed)
    others = [Session(pg, rnd) for _ in range(sessions)]
    for step in range(steps):
        rnd.choice(others).step()
        if step % 150 == 149:
            pg.sql("alter type mood rename to feeling; alter type feeling rename to mood;"
                   "alter schema s1 rename to s2; alter schema s2 rename to s1;")
    for session in others:
        session.end()
        session.c.close()


def dumped(rc):
    """What stands in the journal: entries but for progress, without what names the stream."""
    out = command("journal", "dump", rc.journal)
    assert out.returncode == 0, out.stderr
    entries = [json.loads(line) for line in out.stdout.splitlines()]
    for entry in entries:
        if "cursor" in entry:
            entry["cursor"] = entry["cursor"].split(".", 1)[1]
        entry.pop("last", None)  # said where it still stands in the same batch
    return [e for e in entries if e.get("type") != "progress"]


def changes(entries):
    """Each change with the shape that it was made with. (But for its numbers: what a look-up told
    of a column depends on when it was asked.)"""
    shapes, found = {}, []
    for entry in entries:
        if entry.get("type") == "relation":
            shapes[entry["table"]] = json.dumps([{**c, "number": 0} for c in entry["columns"]])
        elif "op" in entry:
            found.append((entry, shapes.get(entry.get("table"))))
    return found


def assert_same(one, other):
    for (a, shape), (b, other_shape) in zip(changes(one), changes(other)):
        assert a == b and shape == other_shape, f"streamed {a} ({shape}), whole {b} ({other_shape})"
    assert len(changes(one)) == len(changes(other))
    ends = [[e for e in entries if e.get("type") == "end"] for entries in (one, other)]
    assert ends[0] == ends[1]


@pytest.mark.parametrize("server", servers_from(14, "15,18-immediate"), ids=server_name)
def test_streamed_is_as_whole(server, make_postgres, make_rowcast):
    """The same WAL read both ways: the same changes, shapes, positions and ends."""
    print(f"MODEL_SEED={SEED}")
    version, conf = server
    pg = make_postgres(version, conf={**SMALL, **conf})
    pg.sql(SCHEMA)
    pg.sql("insert into a (id, m, n) select g, 'low', g from generate_series(0, 3300, 2) g;"
           "insert into b select g, 'v', g from generate_series(0, 3300, 2) g")  # to be updated
    rcs = {mode: make_rowcast("--slot", mode, "--streaming", mode[2:], "--spool-memory", "256KiB",
                              source=pg.conninfo()).start()
           for mode in ("s_on", "s_off")}
    for part in range(3):
        random_work(pg, 1000 * SEED + 10 * version + part, 300)
        if part < 2:
            rcs["s_on"].restart(kill=part == 1)
    pg.sql("insert into a (id) values (1000000)")
    for mode in rcs:
        pg.wait_confirmed(mode, pg.lsn() - 1, 60)
    metrics = rcs["s_on"].metrics()
    assert metrics.get("rowcast_streamed_transactions_total") > 5
    assert metrics.get("rowcast_stream_aborts_total", what="subtransaction") > 0
    assert metrics.get("rowcast_spools") == 0
    assert rcs["s_off"].metrics().get("rowcast_streamed_transactions_total") == 0
    rcs["s_on"].wait_log("open-transactions=streamed")
    rcs["s_off"].wait_log("open-transactions=held-back")
    assert [rc.stop() for rc in rcs.values()] == [0, 0]
    one, other = (dumped(rc) for rc in rcs.values())
    assert len(changes(other)) > 2000, "hardly anything was changed"
    assert {e["op"] for e, _ in changes(other)} >= {"insert", "update", "truncate"}
    assert_same(one, other)


# ---- budgets ----

TABLE = "create table t (id bigint primary key, v text); create publication rowcast for table t"


def big(pg, make_rowcast, *args):
    """A rowcast on a new table of this server."""
    pg.sql(TABLE)
    return make_rowcast(*args, source=pg.conninfo()).start()


def insert(connection, first, last, size=100):
    connection.execute("insert into t select g, repeat('v', %s) from generate_series(%s::bigint,"
                       " %s::bigint) g", (size, first, last))


def memory_peak(rc):
    status = pathlib.Path(f"/proc/{rc.process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


def total(rc, **labels):
    return rc.metrics().get("rowcast_changes_total", table="public.t", **labels) or 0


def test_ten_at_once_within_the_budget(make_postgres, make_rowcast):
    pg = make_postgres(NEWEST, conf=SMALL)
    rc = big(pg, make_rowcast)
    sessions = [pg.connect(autocommit=False) for _ in range(10)]
    for part in range(10):
        for i, session in enumerate(sessions):
            first = i * 1000000 + part * 1500
            insert(session, first, first + 1499, 400)
    rc.wait_metric(lambda m: m.get("rowcast_spools") == 10 and
                   m.get("rowcast_spool_bytes", place="disk") > 40e6, what="ten spools on disk")
    assert rc.metrics().get("rowcast_spool_bytes", place="memory") <= 8 << 20
    assert total(rc) == 0, "something was passed on before its commit"
    spool = pathlib.Path(rc.journal) / "spool"
    assert spool.stat().st_mode & 0o777 == 0o700 and not list(spool.iterdir())
    sessions[3].rollback()
    for i in (7, 1, 0, 9, 8, 2, 4, 5, 6):
        sessions[i].commit()
        sessions[i].close()
    rc.wait_metric(lambda m: m.get("rowcast_changes_total", table="public.t") == 9 * 15000, 60,
                   "all that was committed")
    pg.wait_confirmed("rowcast", pg.lsn() - 1)
    metrics = rc.metrics()
    assert metrics.get("rowcast_spools") == 0 and metrics.get("rowcast_spool_bytes") == 0
    assert metrics.get("rowcast_stream_aborts_total", what="transaction") == 1
    assert memory_peak(rc) < 64, f"{memory_peak(rc)} MiB"
    firsts = [e["key"]["id"] for e, _ in changes(dumped(rc)) if e["seq"] == 0]
    order = [int(first) // 1000000 for first in firsts]
    assert order == [7, 1, 0, 9, 8, 2, 4, 5, 6], "not the commit order"


@pytest.mark.parametrize("full", ["limit", "disk"])
def test_a_full_spool_goes_on_without(full, make_postgres, make_rowcast):
    """Said once, with the remedy; nothing is lost; the transaction comes when it is committed."""
    pg = make_postgres(conf=SMALL)
    pg.sql(TABLE)
    rc = make_rowcast(*(["--spool-size", "1MiB"] if full == "limit" else []), source=pg.conninfo())
    spool = pathlib.Path(rc.journal) / "spool"
    spool.mkdir(parents=True)  # there before the journal: it may be a disk of its own
    mounted = full == "disk" and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m,mode=0700", "none", spool]).returncode == 0
    try:
        if full == "disk" and not mounted:
            pytest.skip("a tmpfs cannot be mounted here")
        rc.start()
        session = pg.connect(autocommit=False)
        pg.sql("insert into t values (-1, 'before')")
        insert(session, 1, 60000, 300)
        remedy = "raise spool-size" if full == "limit" else "No space left.*make room there"
        rc.wait_log(f"spool of the open transaction.*{remedy}.*without streaming for an hour", 30)
        rc.wait_log("open-transactions=held-back")
        pg.sql("insert into t values (0, 'between')")
        rc.wait_metric(lambda m: m.get("rowcast_changes_total", table="public.t") == 2)
        session.commit()
        session.close()
        rc.wait_metric(lambda m: m.get("rowcast_changes_total", table="public.t") == 60002, 60)
        pg.wait_confirmed("rowcast", pg.lsn() - 1)
        assert rc.metrics().get("rowcast_streaming_fallbacks_total") == 1
        assert rc.process.log_text().count("without streaming for an hour") == 1
        assert [int(e["key"]["id"]) for e, _ in changes(dumped(rc))] == [-1, *range(0, 60001)]
    finally:
        if mounted:
            subprocess.run(["umount", "-l", spool], check=True)


# ---- the end in the middle ----

def test_killed_in_spool_and_replay(make_postgres, make_rowcast):
    """kill -9 while a transaction is received, and again while it goes into the journal: a client
    that resumes by cursor has each row once."""
    pg = make_postgres(conf=SMALL)
    rc = big(pg, make_rowcast)
    session = pg.connect(autocommit=False)
    insert(session, 1, 50000)
    rc.wait_metric(lambda m: m.get("rowcast_spool_bytes") > 1e6, what="a spool")
    rc.restart(kill=True)
    rc.wait_metric(lambda m: m.get("rowcast_spool_bytes") > 1e6, what="the spool again")
    insert(session, 50001, 300000)
    with rc.stream(tables=["public.t"], start="now") as stream:
        session.commit()
        rows = stream.changes(1000, deadline=60)
        rc.kill9()
        cursor = stream.cursor
    partial = command("journal", "dump", rc.journal).stdout
    assert '"type":"end"' not in partial.rsplit('"seq":0,', 1)[1], "it was whole already"
    rc.start()
    with rc.stream(tables=["public.t"], start=cursor) as stream:
        rows += stream.changes(3000, deadline=60)
        stream.abort()  # a close would wait behind the rest
    assert [r["seq"] for r in rows] == list(range(4000))
    pg.wait_confirmed("rowcast", pg.lsn() - 1, 60)
    assert rc.metrics().get("rowcast_restarts_total") == 0
    whole = command("journal", "dump", rc.journal).stdout
    places = re.findall(r'"key":\{"id":"(\d+)"\}.*"seq":(\d+),', whole)
    assert places == [(str(i + 1), str(i)) for i in range(300000)]


# ---- what only PostgreSQL's own corners send ----

@pytest.mark.parametrize("mode", ["on", "off"])
def test_an_abort_that_nobody_asked_for(mode, make_postgres, make_rowcast):
    """18 sends a Stream Abort of a transaction that it spilled, streaming or not."""
    pg = make_postgres(NEWEST, conf=SMALL)
    rc = big(pg, make_rowcast, "--streaming", mode)
    with pg.connect() as c:
        for _ in range(3):
            c.execute("begin; savepoint a; insert into t values (1, 'v'); release a")
            insert(c, 2, 5000)
            c.execute("rollback")
    pg.sql("insert into t values (7, 'kept')")
    pg.wait_confirmed("rowcast", pg.lsn() - 1)
    assert [e["key"]["id"] for e, _ in changes(dumped(rc))] == ["7"]
    assert rc.metrics().get("rowcast_reconnects_total") == 0


def test_prepared_transactions_come_when_they_are_committed(make_postgres, make_rowcast):
    """Large and small ones, at COMMIT PREPARED; one that is rolled back never."""
    pg = make_postgres(conf=SMALL)
    rc = big(pg, make_rowcast)
    for gid, first, last in (("large", 1, 3000), ("small", 4001, 4002), ("gone", 5001, 8000)):
        with pg.connect(autocommit=False) as c:
            insert(c, first, last)
            c.execute(f"prepare transaction '{gid}'")
    pg.sql("insert into t values (0, 'between')")
    pg.wait_confirmed("rowcast", pg.lsn() - 1)
    assert total(rc) == 1
    assert rc.metrics().get("rowcast_streamed_transactions_total") == 2
    rc.restart(kill=True)
    for statement in ("commit prepared 'small'", "rollback prepared 'gone'",
                      "commit prepared 'large'"):
        pg.sql(statement)
    pg.wait_confirmed("rowcast", pg.lsn() - 1)
    ids = [int(e["key"]["id"]) for e, _ in changes(dumped(rc))]
    assert ids == [0, 4001, 4002, *range(1, 3001)]


def test_messages_of_rolled_back_savepoints(make_postgres, make_rowcast):
    """PostgreSQL does not say whose a message of an open transaction is: where that matters it is
    read again whole."""
    pg = make_postgres(NEWEST, conf=IMMEDIATE)
    rc = big(pg, make_rowcast, "--messages", "on")
    emit = "select pg_logical_emit_message(true, 'test', %s)"
    with pg.connect(autocommit=False) as c:
        c.execute("insert into t values (1, 'v')")
        c.execute("savepoint a; insert into t values (2, 'gone')")
        c.execute(emit, ("gone",))
        c.execute("insert into t values (3, 'gone'); rollback to a")
        c.execute(emit, ("kept",))
    pg.wait_confirmed("rowcast", pg.lsn() - 1)
    metrics = rc.metrics()
    assert metrics.get("rowcast_streamed_transactions_total") == 1
    assert metrics.get("rowcast_streaming_fallbacks_total") == 0
    with pg.connect(autocommit=False) as c:
        c.execute("insert into t values (4, 'v')")
        c.execute("savepoint a")
        c.execute(emit, ("gone",))
        c.execute("rollback to a; insert into t values (5, 'v')")
    rc.wait_log("logical messages.*switch off messages.*without streaming for an hour")
    pg.wait_confirmed("rowcast", pg.lsn() - 1)
    found = [e["key"]["id"] if "key" in e else e["content"] for e, _ in changes(dumped(rc))]
    assert found == ["1", "a2VwdA==", "4", "5"]
