"""What consumers are told of a table that changes its shape: before its next row, what is different
since they were told last; once, whatever is restarted in between."""

import json
import re

import pytest

from e2e.test_binary import frames
from lib.postgres import NEWEST
from lib.rowcast import command
from lib.wait import wait_for


def brief(e):
    """A schema change as a short text: what, name, and what differs. (Not field numbers: those of a
    table that is read before its transaction is visible to the look-up are others.)"""
    said = [e["change"], e["table"]]
    if "table_before" in e:
        said.append(f"was {e['table_before']}")
    said += [f"+{c['name']} {c['type']}" for c in e.get("added", [])]
    said += [f"-{c['name']}" for c in e.get("dropped", [])]
    said += [f"{c['before']['name']} {c['before']['type']} -> {c['after']['name']} "
             f"{c['after']['type']}" for c in e.get("changed", [])
             if [c["before"][k] for k in ("name", "type")]
             != [c["after"][k] for k in ("name", "type")]]
    if "key_before" in e:
        said.append(f"key {','.join(e['key_before'])} -> {','.join(e['key'])}")
    if "replica_identity_before" in e:
        said.append(f"identity {e['replica_identity_before']} -> {e['replica_identity']}")
    return "; ".join(said)


def told(entries):
    """Schema changes in short, and how many changes came behind each: ("..", 1)."""
    found = []
    for e in entries:
        if e.get("type") == "schema_change":
            found.append([brief(e), 0])
        elif e.get("op"):
            found[-1][1] += 1
    return [tuple(f) for f in found]


STEPS = [  # what is done, what is told of it before the row that follows it
    ("create table t (id int primary key, a text, n int); insert into t values (1)",
     "created; public.t; +id integer; +a text; +n integer"),
    ("alter table t add b text; insert into t values (2)", "altered; public.t; +b text"),
    ("alter table t rename a to x; insert into t values (3)",
     "altered; public.t; a text -> x text"),
    ("alter table t alter n type bigint; insert into t values (4)",
     "altered; public.t; n integer -> n bigint"),
    ("alter table t drop b; insert into t values (5)", "altered; public.t; -b"),
    ("begin; savepoint a; alter table t add z text; insert into t values (6); rollback to a;"
     "insert into t values (7); commit", None),
    ("begin; alter table t add y text; insert into t values (8); alter table t drop y;"
     "insert into t values (9); commit", ("altered; public.t; +y text", "altered; public.t; -y")),
    ("alter table t replica identity full; insert into t values (10)",
     "altered; public.t; identity default -> full"),
    ("alter table t replica identity default; update t set n = 0;"
     "alter table t drop constraint t_pkey; alter table t alter n set default 0;"
     "alter table t add primary key (n, id); insert into t values (11)",
     ("altered; public.t; identity full -> default", "altered; public.t; key id -> id,n")),
    ("alter table t rename to u; insert into u values (12)", "altered; public.u; was public.t"),
    ("create schema s; alter table u set schema s; insert into s.u values (13)",
     "altered; s.u; was public.u"),
    ("alter schema s rename to r; insert into r.u values (14)", "altered; r.u; was s.u"),
    ("drop table r.u; create table r.u (id int primary key, q text); insert into r.u values (1)",
     "recreated; r.u; +q text; -x; -n; key id,n -> id"),
]


def prepare(pg):
    """The publication is of all tables: whatever is made or renamed is published."""
    pg.sql("create table other (id int primary key);"
           "create publication rowcast for all tables")


def test_each_shape_is_told_before_its_first_row(each_pg, make_rowcast):
    pg = each_pg
    if pg.version >= 16:  # the same inside of streamed transactions
        pg.configure({"debug_logical_replication_streaming": "immediate"})
        pg.reload()
    prepare(pg)
    rc = make_rowcast(source=pg.conninfo()).start()
    want, entries, cursor = [], [], "earliest"
    for i, (sql, expected) in enumerate(STEPS):
        pg.sql(sql)
        row = int(re.findall(r"values \((\d+)", sql)[-1])
        with rc.stream(tables=["*"], start=cursor) as stream:  # the catalog of then is that of now
            entries += stream.entries_until(
                lambda e: e.get("op") == "insert" and e["row"]["id"] == row)
            entries += stream.entries_until(lambda e: e.get("type") == "end")
            cursor = stream.cursor
        if i % 3 == 2:
            rc.restart(kill=i % 2)  # told once all the same
        want += [expected] if isinstance(expected, str) else expected or []
    assert [t for t, _ in told(entries)] == want
    # Each is followed by a change of its table, in the same transaction.
    for e, following in zip(entries, entries[1:]):
        if e.get("type") == "schema_change":
            assert (following["table"], following["lsn"]) == (e["table"], e["lsn"])
            assert [c["name"] for c in e["columns"]] == list(following["row"])
    # The same in the dump, and in the protobuf form.
    rc.wait_written()
    dumped = [json.loads(line) for line in
              command("journal", "dump", rc.journal).stdout.splitlines()]
    assert ([brief(e) for e in dumped if e.get("type") == "schema_change"]
            == [t for t, _ in told(entries)])
    frame, count = frames(rc.dir), 0
    with rc.stream(start="earliest", subprotocol="rowcast.v1.proto") as stream:
        while count < len(told(entries)):
            for entry in frame.FromString(stream.recv_raw()).entry:
                if entry.HasField("schema_change"):
                    s = entry.schema_change
                    text = told(entries)[count][0].split("; ")
                    assert s.table == text[1] and s.after.id == s.relation
                    assert bool(s.table_before) == ("was" in told(entries)[count][0])
                    added = [c.after.name for c in s.column if not c.HasField("before")]
                    assert added == [t[1:].split()[0] for t in text if t[0] == "+"]
                    count += 1


def test_it_comes_with_the_change_behind_it(pg, make_rowcast):
    """Who resumes inside a transaction gets it if and only if its change is still to come; who
    wants the table by its old name hears of the new one; whoever wants other tables does not."""
    prepare(pg)
    pg.sql("create table t (id int primary key)")
    rc = make_rowcast(source=pg.conninfo()).start()
    pg.sql("insert into t values (1)")
    pg.sql("begin; insert into t values (2); alter table t add a text; insert into t values (3);"
           "insert into t values (4); alter table t rename to u; insert into u values (5); commit;")
    with rc.stream(tables=["*"], start="earliest") as stream:
        changes = stream.changes(5)
    def behind(change, tables=("*",), ops=(), end=changes[-1]["lsn"]):
        with rc.stream(start=change["cursor"], tables=tables, ops=ops) as stream:
            entries = stream.entries_until(lambda e: e.get("type") == "end" and e["lsn"] >= end)
            return [brief(e) for e in entries if e.get("type") == "schema_change"]

    added, renamed = "altered; public.t; +a text", "altered; public.u; was public.t"
    assert [behind(c) for c in changes[1:]] == [[added, renamed], [renamed], [renamed], []]
    assert behind(changes[0], tables=["public.t"]) == [added, renamed]
    assert behind(changes[0], tables=["public.u"]) == [renamed]
    assert behind(changes[0], tables=["public.t"], ops=["delete"]) == [added, renamed]
    pg.sql("insert into other values (1)")
    assert behind(changes[0], tables=["other"]) == ["created; public.other; +id integer"]


def test_in_kafka(pg, kafka, make_rowcast):
    """A topic of one partition has them, with the place of the change behind."""
    prepare(pg)
    rc = make_rowcast("--topic-prefix", "sch", "--kafka-format", "json", source=pg.conninfo(),
                      kafka=kafka.bootstrap).start()
    pg.sql("create table t (id int primary key); insert into t values (1)")
    pg.sql("alter table t add a text; insert into t values (2)")
    records = kafka.wait_records(2, "sch.event", deadline=30)
    rows = kafka.wait_records(2, "sch.public.t", deadline=30)
    assert [brief(json.loads(r.value)) for r in records] == [
        "created; public.t; +id integer", "altered; public.t; +a text"]
    assert [r.key for r in records] == [b'{"table":"public.t"}'] * 2
    assert {r.partition for r in records} == {0}
    assert sorted((r.headers["cursor"], r.headers["xid"]) for r in rows) == sorted(
        (r.headers["cursor"], r.headers["xid"]) for r in records)
    assert [r.headers["type"] for r in records] == [b"schema_change"] * 2
    assert rc.stop() == 0


def test_a_shape_of_the_start_is_told_too(make_postgres, make_rowcast):
    """What was altered while rowcast was away, and looked up at its start, is news to consumers."""
    pg = make_postgres(NEWEST)
    prepare(pg)
    pg.sql("create table t (id int primary key, a text)")
    rc = make_rowcast(source=pg.conninfo()).start()
    pg.sql("insert into t values (1)")
    wait_for(lambda: rc.metrics().get("rowcast_changes_total"), what="the first row")
    assert rc.stop() == 0
    pg.sql("alter table t add b text")
    rc.start()
    pg.sql("insert into t values (2)")
    with rc.stream(tables=["*"], start="earliest") as stream:
        entries = stream.entries_until(lambda e: e.get("op") and e["row"]["id"] == 2)
    assert told(entries) == [("created; public.t; +id integer; +a text", 1),
                             ("altered; public.t; +b text", 1)]


def test_types_have_their_names_of_then(make_postgres, make_rowcast):
    """Also where the catalog, asked later, or earlier, says another one."""
    pg = make_postgres(NEWEST)
    prepare(pg)
    pg.sql("create type mood as enum ('low'); create table t (id int primary key)")
    early, late = (make_rowcast("--slot", slot, source=pg.conninfo()).start()
                   for slot in ("early", "late"))
    pg.sql("insert into t values (1)")
    pg.wait_confirmed("late", pg.lsn() - 1)
    assert late.stop() == 0
    pg.sql("alter table t add m mood, add ms mood[]; insert into t values (2)")
    pg.wait_confirmed("early", pg.lsn() - 1)  # it has asked about the type
    pg.sql("alter type mood rename to feeling; alter table t add f feeling;"
           "insert into t values (3)")
    late.start()
    for rc, array in ((early, "public.mood[]"), (late, "public.feeling[]")):  # the stream has none
        with rc.stream(tables=["*"], start="earliest") as stream:
            entries = stream.entries_until(lambda e: e.get("op") and e["row"]["id"] == 3)
        assert [t for t, _ in told(entries)] == [
            "created; public.t; +id integer", f"altered; public.t; +m public.mood; +ms {array}",
            "altered; public.t; +f public.feeling; m public.mood -> m public.feeling"]


def test_existing_rows_are_told_of_as_changes_are(pg, kafka, make_rowcast):
    """Marks, rows and shapes of a snapshot: on the WebSocket with places to resume from, in Kafka's
    topics, and once."""
    prepare(pg)
    pg.sql("create table t (id int primary key); insert into t select generate_series(1, 5);"
           "create table none (id int primary key)")
    rc = make_rowcast("--topic-prefix", "snap", "--kafka-format", "json", "--snapshot", "initial",
                      source=pg.conninfo(), kafka=kafka.bootstrap).start()
    events = kafka.wait_records(7, "snap.event", deadline=30)
    pg.sql("insert into t values (6); alter table t add a text; insert into t values (7)")
    records = kafka.wait_records(7, "snap.public.t", deadline=30)
    assert [json.loads(r.value).get("step") for r in events].count("end") == 3  # other, t, none
    assert sorted((r.headers["op"], r.key) for r in records) == sorted(
        [(b"read", b'{"id":%d}' % i) for i in range(1, 6)]
        + [(b"insert", b'{"id":6}'), (b"insert", b'{"id":7}')])
    with rc.stream(tables=["public.t"], start="earliest") as stream:
        entries = stream.entries_until(lambda e: e.get("op") and e["row"]["id"] == 7)
    marks = [e for e in entries if e.get("type") == "snapshot"]
    assert [(m["step"], m["table"], m.get("rows")) for m in marks] == [
        ("begin", "public.t", None), ("end", "public.t", 5)]
    assert told(entries) == [("created; public.t; +id integer", 6),
                             ("altered; public.t; +a text", 1)]
    # From behind each of them what follows, and nothing else.
    reads = [e for e in entries if e.get("op") == "read"]
    for i, e in enumerate([marks[0], *reads, marks[1]]):
        with rc.stream(tables=["public.t"], start=e["cursor"]) as stream:
            rest = stream.entries_until(lambda e: e.get("op") and e["row"]["id"] == 6)
        assert [r["cursor"] for r in rest if r.get("op") == "read"] == [
            r["cursor"] for r in reads[i:]]
        assert [m["step"] for m in rest if m.get("type") == "snapshot"] == ["end"] * (i <= 5)
    assert rc.stop() == 0


def test_publications_and_partitions(make_postgres, make_rowcast):
    """A publication that is altered changes shapes as ALTER TABLE does: other columns, the table at
    the top instead of its partitions. A partition that is attached or detached keeps its own."""
    pg = make_postgres(NEWEST)
    pg.sql("create table t (id int primary key, a text, b text);"
           "create table sales (id int, year int, primary key (id, year))"
           " partition by range (year);"
           "create table y25 partition of sales for values from (25) to (26);"
           "create table y26 (id int, year int, primary key (id, year));"
           "create publication rowcast for table t, sales, y26")
    rc = make_rowcast(source=pg.conninfo()).start()
    pg.sql("insert into t values (1); insert into sales values (1, 25);"
           "insert into y26 values (1, 26)")
    pg.sql("alter publication rowcast set table t (id, b), sales, y26")
    pg.sql("insert into t values (2)")
    pg.sql("alter table sales attach partition y26 for values from (26) to (27);"
           "insert into sales values (2, 26); alter table sales detach partition y25;"
           "alter publication rowcast add table y25")
    pg.sql("insert into y25 values (3, 25)")
    pg.sql("alter publication rowcast set (publish_via_partition_root = true)")
    pg.sql("insert into sales values (4, 26); insert into y25 values (5, 25)")
    with rc.stream(tables=["*"], start="earliest") as stream:
        entries = stream.entries_until(lambda e: e.get("op") and e["row"]["id"] == 5)
    assert told(entries) == [
        ("created; public.t; +id integer; +a text; +b text", 1),
        ("created; public.y25; +id integer; +year integer", 1),
        ("created; public.y26; +id integer; +year integer", 1),
        ("altered; public.t; -a", 3),
        ("created; public.sales; +id integer; +year integer", 2)]
    assert [e["table"] for e in entries if e.get("op")] == [
        "public.t", "public.y25", "public.y26", "public.t", "public.y26", "public.y25",
        "public.sales", "public.y25"]
