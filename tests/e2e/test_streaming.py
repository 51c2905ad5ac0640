"""Transactions received while they are open: what comes of them is what comes of whole ones, within
a budget of memory and disk, whatever ends in the middle."""

import collections
import json
import pathlib
import random
import re
import subprocess
import threading

import psycopg
import pytest

from lib.postgres import DEBIAN, NEWEST, lsn_text
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
create table other (id int);
create publication rowcast for table a, b, s1.c, p;
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
            self.c.execute("truncate " + rnd.choice(["a", "b", "a, b", "p", "s1.c restart identity"]))
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
    return [e for e in entries if e.get("type") != "progress"]


def changes(entries):
    """Each change with the shape that it was made with."""
    shapes, found = {}, []
    for entry in entries:
        if entry.get("type") == "relation":
            shapes[entry["table"]] = json.dumps(entry["columns"])
        elif "op" in entry:
            found.append((entry, shapes.get(entry.get("table"))))
    return found


def assert_same(one, other):
    for (a, shape), (b, other_shape) in zip(changes(one), changes(other)):
        assert a == b and shape == other_shape, f"streamed {a} ({shape}), whole {b} ({other_shape})"
    assert len(changes(one)) == len(changes(other))
    ends = [[e for e in entries if e.get("type") == "end"] for entries in (one, other)]
    assert ends[0] == ends[1]


@pytest.mark.parametrize("version, conf", [(DEBIAN, SMALL), (NEWEST, IMMEDIATE)])
def test_streamed_is_as_whole(version, conf, make_postgres, make_rowcast):
    """The same WAL read both ways: the same changes, shapes, positions and ends."""
    pg = make_postgres(version, conf=conf)
    pg.sql(SCHEMA)
    rcs = {mode: make_rowcast("--slot", mode, "--streaming", mode[2:], "--spool-memory", "256KiB", source=pg.conninfo()).start()
           for mode in ("s_on", "s_off")}
    for part in range(3):
        random_work(pg, 100 * version + part, 500)
        if part < 2:
            rcs["s_on"].restart(kill=part == 1)
    pg.sql("insert into a (id) values (1000000)")
    for mode in rcs:
        pg.wait_confirmed(mode, pg.lsn() - 1, 60)
    metrics = rcs["s_on"].metrics()
    assert metrics.get("rowcast_streamed_transactions_total") > 5
    assert metrics.get("rowcast_stream_aborts_total", what="subtransaction") > 5
    assert metrics.get("rowcast_spools") == 0
    assert rcs["s_off"].metrics().get("rowcast_streamed_transactions_total") == 0
    rcs["s_on"].wait_log("open-transactions=streamed")
    rcs["s_off"].wait_log("open-transactions=held-back")
    assert [rc.stop() for rc in rcs.values()] == [0, 0]
    one, other = (dumped(rc) for rc in rcs.values())
    assert len(changes(other)) > 5000, "hardly anything was changed"
    assert {e["op"] for e, _ in changes(other)} == {"insert", "update", "delete", "truncate"}
    assert_same(one, other)
