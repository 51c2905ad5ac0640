"""Existing rows, read as chunks without a slot (tests/bench/read_chunks.c): which tables, columns
and rows, how they are read, and that nothing is left out where a chunk ends."""

import json
import os
import subprocess

import pytest

from lib import paths
from lib.postgres import NEWEST, OLDEST
from lib.wait import wait_for

TOOL = paths.ROWCAST.parents[2] / "tests" / "bench" / "read_chunks"


def read(pg, publication="p", user="postgres", **options):
    """The rows of each table (of its "table" line), and each part's summary by its name."""
    words = [w for name, value in options.items() for w in (name, str(value))]
    done = subprocess.run([TOOL, pg.conninfo(user=user), publication, "print", "yes", *words],
                          capture_output=True, text=True, timeout=120, env={**os.environ})
    assert done.returncode == 0, f"read_chunks {words}: {done.stderr}"
    rows, parts = {}, {}
    for line in map(json.loads, done.stdout.splitlines()):
        if "row" in line:
            rows.setdefault(line["table"], []).append(line)
        elif "part" in line or "refused" in line:
            assert line.get("status", "ok") == "ok", line
            parts[line.get("part") or line["table"]] = line
        else:
            parts["all"] = line
    return rows, parts


def keys(lines):
    return [json.dumps(line["key"], sort_keys=True) for line in lines]


KEYS = """
create extension citext;
create type mood as enum ('sad', 'ok', 'happy');
create domain short as varchar(20);
create table by_citext (k citext primary key, v int);
insert into by_citext select chr(65 + g % 26) || case when g % 2 = 0 then 'a' else 'B' end || g, g
    from generate_series(1, 1000) g;
create table mixed (e citext, i int, t text collate "C", d numeric, primary key (e, i, t, d));
insert into mixed select 'X' || g % 7, g % 11, 'y' || g % 13, g / 100.0
    from generate_series(1, 1500) g;
create table of_all (m mood, d short, c char(8), b bytea, u uuid, ts timestamptz, f float8, a int[],
    r int4range, o bool, primary key (m, d, c, b, u, ts, f, a, r, o));
insert into of_all select (array['sad', 'ok', 'happy'])[1 + g % 3]::mood, 'd' || g % 5,
    'c' || g % 4, decode(md5(g::text), 'hex'), md5((g % 10)::text)::uuid,
    '2020-01-01'::timestamptz + g % 17 * interval '1.000001 s', g % 19 / 7.0,
    array[g % 3, null, g], int4range(g % 23, 100), g % 2 = 0 from generate_series(1, 1000) g;
insert into of_all values ('sad', E'it''s \\\\ \\t\\n', 'y', '',
    '00000000-0000-0000-0000-000000000000', '-infinity', 'NaN', '[5:6]={1,2}', 'empty', true);
"""


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_no_key_is_lost_where_a_chunk_ends(make_postgres, version):
    """Keys of other operators, collations and types than integers: by small ranges of them each row
    comes once, and each is found again by its key alone."""
    pg = make_postgres(version)
    pg.sql(KEYS)
    counts = {"by_citext": 1000, "mixed": 1500, "of_all": 1001}
    if version >= 12:  # rows that differ for the index only, which has another collation
        pg.sql("""create collation blind (provider = icu, locale = 'und-u-ks-level2',
                      deterministic = false);
                  create table folded (k text collate blind not null, n int not null, v int);
                  create unique index by_bytes on folded (k collate "C", n);
                  alter table folded replica identity using index by_bytes;
                  insert into folded select case when g % 2 = 0 then 'a' else 'A' end || g / 4,
                      g % 2 + g % 4, g from generate_series(1, 800) g""")
        counts["folded"] = 800
    pg.sql("create publication p for all tables")
    for size in (37, 100):
        rows, parts = read(pg, kind="keys", chunk=size, **({"again": "yes"} if size > 50 else {}))
        for table, count in counts.items():
            part = parts[f"public.{table}"]
            assert (part["rows"], part["chunks"] > count // size) == (count, True), part
            seen = keys(rows[f"public.{table}"])
            assert len(set(seen)) == count, f"{table}: {len(set(seen))} of {count} keys"
            if size > 50:
                assert part["again"] == count, f"{table}: not all were found by their keys: {part}"


def test_what_is_published_is_read(each_pg):
    """Columns: dropped, generated, masked, excluded; names that need quotes; no column but a masked
    one; NULL, empty, tabs and backslashes; no rows; no key."""
    pg = each_pg
    name = 'q"\'\\ ' + "é" * 29
    quoted = '"' + name.replace('"', '""') + '"'
    pg.sql(f"""create table t (id int primary key, gone text, a text, b text, secret text);
               insert into t values (1, 'x', e'\\t\\\\N\\n', null, 's'), (2, 'x', '', '\\N', null);
               alter table t drop column gone;
               alter table t add column later int default 7;
               create table empty (id int primary key);
               create table nokey (v text);
               insert into nokey select 'row ' || g from generate_series(1, 30000) g;
               create schema {quoted};
               create table {quoted}.{quoted} ({quoted} int primary key, "drop" text);
               insert into {quoted}.{quoted} values (1, 'x');
               create publication p for all tables""")
    if pg.version >= 12:
        pg.sql("alter table t add column made int generated always as (id * 2) stored")
    rows, parts = read(pg, mask="public.t.b", exclude="public.t.secret", each="public.nothing")
    assert [r["row"] for r in rows["public.t"]] == [
        {"id": 1, "a": "\t\\N\n", "b": None, "later": 7},
        {"id": 2, "a": "", "b": "****", "later": 7}]
    assert parts["public.empty"]["rows"] == 0
    assert [r["row"]["v"] for r in rows["public.nokey"]] == [f"row {i}" for i in range(1, 30001)]
    assert parts["public.nokey"]["kind"] == "whole" and rows["public.nokey"][0]["key"] is None
    assert rows[f"{quoted}.{quoted}"][0] == {"table": f"{quoted}.{quoted}", "key": {name: 1},
                                             "row": {name: 1, "drop": "x"}}
    assert parts["public.t"]["kind"] == ("pages" if pg.version >= 14 else "keys")


def test_partitions_filters_and_column_lists(make_postgres):
    """Leaves as themselves, or under their root's name and in its columns; rows and columns as
    several publications together have them; generated columns where 18 publishes them."""
    pg = make_postgres(NEWEST)
    pg.sql("""create table r (id int, k text, x text, primary key (id, k)) partition by list (k);
              create table r_a partition of r for values in ('a');
              create table r_b (x text, k text not null, junk int, id int not null);
              alter table r_b drop column junk;
              alter table r attach partition r_b for values in ('b');
              create table r_c partition of r for values in ('c') partition by range (id);
              create table r_c1 partition of r_c for values from (0) to (1000);
              insert into r select g, (array['a', 'b', 'c'])[1 + g % 3], 'x' || g
                  from generate_series(1, 30) g;
              create table f (id int primary key, v int, w int, g int generated always as (id * 2)
                  stored);
              insert into f select g, g % 10, g from generate_series(1, 100) g;
              create publication leaves for table r;
              create publication root for table r where (id <= 20)
                  with (publish_via_partition_root = true);
              create publication listed for table f (id, v, g) where (v = 1);
              create publication three for table f (id, v, g) where (v > 3 or id = 3);
              create publication inserts for table f with (publish = 'insert');
              create publication made for table f with (publish_generated_columns = stored)""")
    rows, parts = read(pg, "leaves", each="public.r,public.f,public.nothing")
    assert {t: len(r) for t, r in rows.items()} == {
        "public.r_a": 10, "public.r_b": 10, "public.r_c1": 10}
    rows, parts = read(pg, "root", again="yes", each="public.r_a,public.r_c,public.f")
    assert set(rows) == {"public.r"}
    assert sorted(set(keys(rows["public.r"]))) == sorted(
        json.dumps({"id": i, "k": "abc"[i % 3]}) for i in range(1, 21))
    assert all(r["row"] == {**r["key"], "x": f"x{r['key']['id']}"} for r in rows["public.r"])
    assert {part["as"] for name, part in parts.items() if name != "all"} == {"public.r"}
    rows, parts = read(pg, "listed")
    assert [r["row"] for r in rows["public.f"]] == [
        {"id": i, "v": 1, "g": 2 * i} for i in range(1, 100, 10)]
    rows, parts = read(pg, "listed,three", each="public.r")
    assert [r["row"]["id"] for r in rows["public.f"]] == [
        i for i in range(1, 101) if i % 10 == 1 or i % 10 > 3 or i == 3]
    rows, parts = read(pg, "inserts")
    assert parts["public.f"]["kind"] == "keys", "a row that moves would be lost"
    assert rows["public.f"][0]["row"] == {"id": 1, "v": 1, "w": 1}
    rows, parts = read(pg, "made", each="public.r")
    assert rows["public.f"][0]["row"] == {"id": 1, "v": 1, "w": 1, "g": 2}
    rows, parts = read(pg, "leaves,root", each="public.r_a,public.r_c1")
    assert {t: len(r) for t, r in rows.items()} == {"public.r": 20}
    pg.sql("""create schema s; create table s.t (id int primary key);
              create table s.p (id int primary key) partition by range (id);
              create table public.of_p partition of s.p for values from (0) to (9);
              create publication of_schema for tables in schema s;
              create publication everything for all tables""")
    rows, parts = read(pg, "of_schema", each="s.p,public.f")
    assert set(parts) == {"s.t", "public.of_p", "all"}
    rows, parts = read(pg, "everything", each="s.p,public.r,pg_catalog.pg_class")
    assert set(parts) >= {"s.t", "public.of_p", "public.f", "public.r_a", "all"}


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_large_values_are_cut_where_they_fit(make_postgres, version):
    """A run of rows of 2 MB each among small ones: each row comes once, and no chunk holds more
    than its limit and a row."""
    pg = make_postgres(version)
    pg.sql("""create table t (id int primary key, v text);
              alter table t alter v set storage external;
              insert into t select g, repeat('x', case when g between 600 and 620 then 2000000
                  else 1 end) from generate_series(1, 2000) g;
              create publication p for all tables""")
    rows, parts = read(pg)
    assert sorted(r["key"]["id"] for r in rows["public.t"]) == list(range(1, 2001))
    assert all(len(r["row"]["v"]) == (2000000 if 600 <= r["key"]["id"] <= 620 else 1)
               for r in rows["public.t"])
    whole = parts["all"]
    assert whole["chunk_bytes"] < 16 << 20 and whole["peak_kb"] < 64 << 10, whole


def test_what_may_not_be_read_is_refused_by_name(make_postgres):
    """No privilege, row-level security, a standby: each with its remedy, which helps."""
    pg = make_postgres(NEWEST)
    pg.sql("""create table t (id int primary key);
              insert into t values (1);
              create table other (id int primary key);
              create role reader login replication;
              grant select on other to reader;
              create publication p for all tables""")
    _, parts = read(pg, user="reader")
    assert "GRANT SELECT ON public.t TO \"reader\"" in parts["public.t"]["refused"]
    assert parts["public.other"]["rows"] == 0
    pg.sql("grant select on t to reader; alter table t enable row level security")
    _, parts = read(pg, user="reader")
    assert "ALTER ROLE \"reader\" BYPASSRLS" in parts["public.t"]["refused"]
    pg.sql("alter role reader bypassrls")
    rows, _ = read(pg, user="reader")
    assert len(rows["public.t"]) == 1
    standby = pg.standby()
    try:
        done = subprocess.run([TOOL, standby.conninfo(), "p"], capture_output=True, text=True)
        assert done.returncode == 1 and "the server is a standby" in done.stderr, done.stderr
    finally:
        standby.destroy()


def test_a_plan_that_does_not_hold_is_not_followed(make_postgres):
    """What changed between the plan and the chunk: each table says how, and none gives a row."""
    pg = make_postgres(NEWEST)
    changes = {
        "rewritten": ("vacuum full rewritten", "stale"),
        "emptied": ("truncate emptied", "stale"),
        "renamed": ("alter table renamed rename to renamed2", "gone"),
        "replaced": ("alter table replaced rename to replaced2; create table replaced (id int "
                     "primary key, v text)", "stale"),
        "dropped": ("drop table dropped", "gone"),
        "wider": ("alter table wider add w int", "shape"),
        "narrower": ("alter table narrower drop column v", "shape"),
        "retyped": ("alter table retyped alter v type varchar(10)", "stale"),
        "limited": ("alter table limited alter v type varchar(20)", "shape"),
        "full": ("alter table \"full\" replica identity full", "shape"),
        "keyless": ("alter table keyless drop constraint keyless_pkey", "shape"),
        "filtered": ("alter publication p set table filtered where (id > 1)", "stale"),
        "same": ("select 1", "ok"),
    }
    for table in changes:
        v = "varchar(10)" if table == "limited" else "text"
        pg.sql(f'create table "{table}" (id int primary key, v {v}); '
               f'insert into "{table}" values (1, \'x\')')
    pg.sql("create table locked (id int primary key); insert into locked values (1)")
    pg.sql("create publication p for table filtered; create publication rest for table locked, "
           + ", ".join(f'"{t}"' for t in changes if t != "filtered"))
    tool = subprocess.Popen([TOOL, pg.conninfo(), "p,rest", "pause", "yes"], text=True,
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert tool.stdout.readline() == "planned\n"
    for statement, _ in changes.values():
        pg.sql(statement)
    with pg.connect(autocommit=False) as other:
        other.execute("lock table locked")
        out, _ = tool.communicate("go\n", timeout=60)
    parts = {p["part"]: p for p in map(json.loads, out.splitlines()) if "part" in p}
    for table, (_, status) in changes.items():
        part = parts["public." + ('"full"' if table == "full" else table)]
        assert (part["status"], part["rows"]) == (status, status == "ok"), part
    locked = parts["public.locked"]
    assert locked["status"] == "failed" and "lock timeout" in locked["error"], locked
    assert locked["class"] == 1, f"it passes by itself, so it is read again: {locked}"


def test_existing_rows_are_those_of_the_publication(make_postgres, make_rowcast):
    """From the stream: rows under the root's name, filtered and with the listed columns, masked and
    excluded as changes are, while they change; a table that may not be read is named with the
    remedy, and does not keep the others waiting."""
    pg = make_postgres(NEWEST)
    pg.sql("""create table r (id int, k text, x text, secret text, card text, primary key (id, k))
                  partition by list (k);
              create table r_a partition of r for values in ('a');
              create table r_b partition of r for values in ('b');
              insert into r select g, case when g % 2 = 0 then 'a' else 'b' end, 'x' || g, 's',
                  '4711' from generate_series(1, 3000) g;
              create table f (id int primary key, v int, w text);
              insert into f select g, g % 10, 'w' from generate_series(1, 1000) g;
              create table closed (id int primary key);
              create role reader login replication;
              create publication p for table r where (id > 100), f (id, v) where (id < 900), closed
                  with (publish_via_partition_root = true);
              grant select on r, r_a, r_b, f to reader""")
    rc = make_rowcast("--publication", "p", "--create", "off", "--snapshot", "initial",
                      "--exclude-column", "public.r.secret", "--mask-column", "public.r.card",
                      "--snapshot-rate", "512KiB", source=pg.conninfo(user="reader"))
    pg.sql("select pg_create_logical_replication_slot('rowcast', 'pgoutput')")
    rc.start()
    for i in range(20):
        pg.sql("update r set x = 'changed' where id = %s; ", 100 + i * 140)
        pg.sql("update r set k = case k when 'a' then 'b' else 'a' end where id = %s",
               101 + i * 140)
        pg.sql("update f set v = v + 1 where id = %s", 5 + i * 40)
    rc.wait_log("GRANT SELECT ON public.closed TO")
    wait_for(lambda: rc.metrics().get("rowcast_snapshot_tables_done_total") == 2, 30,
             lambda: f"both tables to be read:\n{rc.process.log_tail()}")
    rows = {"public.r": {}, "public.f": {}}
    with rc.stream(tables=["public.*"], start="earliest") as stream:
        for entry in stream.until_lsn(pg.lsn()):
            if "op" not in entry:
                continue
            table = rows[entry["table"]]
            table.pop(json.dumps(entry["key"], sort_keys=True), None)
            if entry["op"] != "delete":
                key = {name: entry["row"][name] for name in entry["key"]}
                table[json.dumps(key, sort_keys=True)] = entry["row"]
    real = pg.sql("select id, k, x from r where id > 100 order by id")
    mine = sorted(rows["public.r"].values(), key=lambda row: row["id"])
    assert mine == [{"id": i, "k": k, "x": x, "card": "****"} for i, k, x in real]
    real = pg.sql("select id, v from f where id < 900 order by id")
    assert sorted((r["id"], r["v"]) for r in rows["public.f"].values()) == real
    assert all(set(row) == {"id", "v"} for row in rows["public.f"].values())
