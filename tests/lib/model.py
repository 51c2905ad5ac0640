"""A random writer, and a model that is rebuilt from events and must equal the tables.

Rows are kept by field number, so a renamed column keeps its values, and a number that were ever
given to two columns would show."""

import collections
import os
import random

import psycopg

from . import wild
from .wild import Wild

SCHEMA = """
create table orders (id int primary key, customer bigint, total numeric(12,2), note text);
alter table orders alter note set storage external;
create table "Odd.Name" (k text, "Sub Key" int, v text, primary key (k, "Sub Key"));
create table events (id int, body text, n numeric);
alter table events replica identity full;
alter table events alter body set storage external;
create table items (id int, code text not null, v text);
create unique index items_code on items (code);
alter table items replica identity using index items_code;
"""

TABLES = {"public.orders": "orders", 'public."Odd.Name"': '"Odd.Name"', "public.events": "events",
          "public.items": "items"}

SEED = int(os.environ.get("MODEL_SEED", "1"))  # of what is random in the tests

EXPECTED = (psycopg.errors.LockNotAvailable, psycopg.errors.UniqueViolation,
            psycopg.errors.DeadlockDetected, psycopg.errors.InFailedSqlTransaction,
            psycopg.errors.DuplicateColumn, psycopg.errors.UndefinedColumn,
            psycopg.errors.InvalidSavepointSpecification, psycopg.errors.ObjectInUse)


class Writer:
    """Transactions of random inserts, updates, deletes, key changes, large values, truncates,
    savepoints, rollbacks and DDL, several at a time on connections of their own. wild: also what
    lib.wild does, which needs its SCHEMA."""

    def __init__(self, pg, seed, connections=3, ddl=True, truncate=True, wild=False):
        self.pg = pg
        self.random = random.Random(seed)
        self.ddl = ddl
        self.truncate = truncate and pg.version > 10  # 10 does not decode it
        self.size = connections
        self.names = 0
        self.connections = []
        self.commits = 0
        self.wild = Wild(pg, self.random) if wild else None

    def connect(self):
        self.close()
        self.connections = [self.pg.connect(autocommit=False) for _ in range(self.size)]
        for c in self.connections:
            c.execute("set lock_timeout = '20ms'")
            c.commit()

    def close(self):
        for c in self.connections:
            c.close()
        self.connections = []

    def run(self, steps):
        """`steps` statements; when the server died, raises OperationalError."""
        if not self.connections:
            self.connect()
        for _ in range(steps):
            c = self.random.choice(self.connections)
            try:
                self._step(c)
            except self._expected():
                c.rollback()
        for c in self.connections:
            try:
                c.commit()
            except self._expected():
                c.rollback()
        if self.wild:
            self.wild.finish(None)

    def _expected(self):
        return EXPECTED + wild.EXPECTED if self.wild else EXPECTED

    def _step(self, c):
        if self.wild and self.random.random() < 0.35:
            self.wild.step(c)
            return
        r = self.random.random()
        if r < 0.17:
            c.commit()
            self.commits += 1
        elif r < 0.20:
            c.rollback()
        elif r < 0.24:
            c.execute("savepoint s")
        elif r < 0.27:
            c.execute("rollback to savepoint s")
        elif r < 0.275 and self.truncate:
            c.execute("truncate " + self.random.choice(list(TABLES.values())))
        elif r < 0.285 and self.ddl:
            self._alter(c)
        else:
            self._change(c)

    def _alter(self, c):
        extra = [row[0] for row in c.execute(
            "select attname from pg_attribute where attrelid = 'orders'::regclass and attnum > 4"
            " and not attisdropped")]
        what = self.random.choice(["add", "drop", "rename"])
        self.names += 1
        if what == "add" and len(extra) < 6:
            kind = self.random.choice(["text", "int", "numeric"])
            c.execute(f"alter table orders add column x{self.names} {kind}")
        elif extra and what == "drop":
            c.execute(f"alter table orders drop column {self.random.choice(extra)}")
        elif extra:
            c.execute(f"alter table orders rename column {self.random.choice(extra)}"
                      f" to y{self.names}")

    def _change(self, c):
        rnd = self.random
        i, j = rnd.randrange(60), rnd.randrange(60)
        note = rnd.choice(["", "plain", None, "x" * rnd.randrange(100), rnd.randbytes(3000).hex(),
                           'quote " back \\ new\nline \u00e9\u4e2d'])
        number = rnd.choice([None, "0.00", "-12.50", "99999999.99"])
        statements = [
            ("insert into orders (id, customer, total, note) values (%s, %s, %s, %s)",
             (i, 2**60 + j, number, note)),
            ("insert into orders (id, note) select g, %s from generate_series(%s::int, %s::int) g"
             " on conflict do nothing", (note, i, i + j)),
            ("update orders set total = %s where id = %s", (number, i)),
            ("update orders set customer = %s where id between %s and %s", (j, i, i + 3)),
            ("update orders set note = %s where id = %s", (note, i)),
            ("update orders set id = %s where id = %s", (j, i)),
            ("delete from orders where id between %s and %s", (i, i + 2)),
            ('insert into "Odd.Name" values (%s, %s, %s)', (f"k{i}", j, note)),
            ('update "Odd.Name" set v = %s where k = %s', (note, f"k{i}")),
            ('update "Odd.Name" set k = %s, "Sub Key" = %s where k = %s', (f"k{j}", i, f"k{i}")),
            ('delete from "Odd.Name" where "Sub Key" = %s', (j,)),
            ("insert into events values (%s, %s, %s)", (i, note, number)),
            ("update events set n = %s where id = %s", (number, i)),
            ("update events set id = %s where id = %s", (j, i)),
            ("delete from events where id = %s", (i,)),
            ("insert into items values (%s, %s, %s)", (i, f"c{j}", note)),
            ("update items set code = %s where code = %s", (f"c{i}", f"c{j}")),
            ("update items set v = %s where id = %s", (note, i)),
            ("delete from items where code = %s", (f"c{j}",)),
        ]
        c.execute(*rnd.choice(statements))

    def touch(self):
        """A last change of every table, so that its newest shape is in the stream."""
        self.pg.sql("""insert into orders (id) values (100000);
            insert into "Odd.Name" values ('last', 0, ''); insert into events (id) values (100000);
            insert into items values (0, 'last', '')""")


class State:
    """Tables rebuilt from changes; `numbers` is the column name -> field number map of the shape
    that a change was made with."""

    def __init__(self):
        self.rows = {table: {} for table in TABLES}
        self.bags = {"public.events": collections.Counter()}  # no key: rows counted

    def apply(self, change, numbers):
        table, op = change["table"], change["op"]
        where = f"{op} of {table} at {change['lsn']} {change['seq']}"
        if op == "truncate":
            for t in change["tables"]:
                if t in self.bags:
                    self.bags[t].clear()
                elif t in self.rows:
                    self.rows[t].clear()
            return
        row = _by_number(change.get("row"), numbers)
        if table not in self.bags and table not in self.rows:
            return  # the oracle's
        if table in self.bags:
            old = _by_number(change.get("old"), numbers)
            self._apply_bag(self.bags[table], op, row, old, where)
            return
        rows, key = self.rows[table], _freeze(_by_number(change["key"], numbers))
        unchanged = {numbers[name] for name in change.get("unchanged", ())}
        if op == "insert":
            assert key not in rows, f"{where}: the row is there already"
        else:
            assert key in rows, f"{where}: there is no such row"
        old = rows.pop(key, {})
        if op == "delete":
            return
        for number in unchanged:
            assert number in old, f"{where}: unchanged value {number} was never seen"
            row[number] = old[number]
        now = _freeze({n: row[n] for n, _ in key})
        assert now not in rows, f"{where}: two rows of one key"
        rows[now] = row

    @staticmethod
    def _apply_bag(bag, op, row, old, where):
        if op in ("update", "delete"):
            was = _freeze(old)
            assert bag[was] > 0, f"{where}: no such row {old}"
            bag[was] -= 1
        if op in ("insert", "update"):
            bag[_freeze(row)] += 1

    def assert_equals_tables(self, pg, numbers):
        """numbers: table -> the newest name -> number map."""
        with pg.connect(row_factory=psycopg.rows.dict_row) as c:
            for table in TABLES:
                real = [{numbers[table][name]: None if value is None else str(value)
                         for name, value in row.items()}
                        for row in c.execute(f"select * from {table}")]
                live = set(numbers[table].values())
                real = collections.Counter(_freeze(row) for row in real)
                if table in self.bags:
                    mine = +self.bags[table]
                else:
                    # A column added later is NULL in rows not seen since; a dropped one is gone.
                    mine = collections.Counter(
                        _freeze({n: row.get(n) for n in live}) for row in self.rows[table].values())
                assert mine == real, f"{table}: only in the stream {list((mine - real))[:3]}, " \
                                     f"only in the table {list((real - mine))[:3]}"


def _by_number(row, numbers):
    return {numbers[name]: None if value is None else str(value)
            for name, value in (row or {}).items()}


def _freeze(row):
    return tuple(sorted(row.items()))


def place(change):
    """A change's position, comparable."""
    high, low = change["lsn"].split("/")
    return int(high, 16) << 32 | int(low, 16), change["seq"]


class Replay:
    """Takes entries in stream order: keeps the changes, their order, and the state."""

    def __init__(self):
        self.changes = []
        self.everything = []  # logical messages too
        self.state = State()
        self.numbers = {}  # table -> newest map
        self.used = {}     # position -> map

    def take(self, entry):
        if entry.get("type") == "relation":
            self.numbers[entry["table"]] = {c["name"]: c["number"] for c in entry["columns"]}
            return
        if "op" in entry:
            self.everything.append(entry)
        if "op" in entry and entry["op"] != "message":
            if self.changes:
                assert place(self.changes[-1]) < place(entry), \
                    f"out of order: {self.changes[-1]} before {entry}"
            self.changes.append(entry)
            self.used[place(entry)] = self.numbers[entry["table"]]
            self.state.apply(entry, self.numbers[entry["table"]])

    def places(self):
        return [place(c) for c in self.changes]
