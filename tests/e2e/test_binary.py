"""Values in binary form: events are the same bytes as in text mode, over every type; what cannot be
read, or not be sent, in binary form is had as text or refused."""

import subprocess

import psycopg
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from e2e.test_types import TYPES, fill, make_tables
from lib import paths
from lib.postgres import DEBIAN, NEWEST, versions
from lib.rowcast import command
from lib.values import OWN, SETUP, VALUES

# Types that are had as text only.
TEXT_ONLY = {t for t in TYPES if t.startswith("reg")} | {"money", "aclitem"}


@pytest.fixture(params=versions(DEBIAN, NEWEST, oldest=14))
def binary_pg(request, make_postgres):
    return make_postgres(request.param)


def frames(directory):
    """The class of the frames of rowcast.v1.proto."""
    proto = paths.ROOT / "proto"
    subprocess.run(["protoc", f"-I{proto}", "--include_imports",
                    f"--descriptor_set_out={directory / 'set'}", "rowcast.proto"], check=True)
    files = descriptor_pb2.FileDescriptorSet.FromString((directory / "set").read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    return message_factory.MessageFactory(pool).GetPrototype(
        pool.FindMessageTypeByName("rowcast.v1.ServerFrame"))


def changes(rc, frame, count):
    """The first `count` changes, in order; ids of relations are the same in every journal."""
    found = []
    with rc.stream(start="earliest", subprotocol="rowcast.v1.proto") as stream:
        while len(found) < count:
            for entry in frame.FromString(stream.recv_raw()).entry:
                if entry.HasField("change"):
                    found.append(entry.change)
    assert len(found) == count
    return found


def assert_same(text, binary):
    for a, b in zip(text, binary, strict=True):
        assert a.SerializeToString() == b.SerializeToString(), f"as text {a}, as binary {b}"


def insert_many(pg):
    """A row for each value of lib.values; returns how many."""
    pg.sql(SETUP.replace("create extension", "create extension if not exists"))
    types = [*VALUES, *OWN]
    columns = ", ".join(f"v{i} {t}" for i, t in enumerate(types))
    pg.sql(f"create table many (id serial primary key, {columns})")
    pg.sql("alter table many replica identity full")
    count = 0
    with pg.connect() as c:
        c.execute("select setseed(0.25)")
        for i, t in enumerate(types):
            fixed, random = VALUES.get(t, ([], OWN.get(t)))
            for value in fixed:
                if t == '"char"' and "\\3" in value and pg.version < 16:
                    continue  # went through a conversion of encodings that is not known
                try:
                    c.execute(f"insert into many (v{i}) values (({value})::{t})")
                    count += 1
                except psycopg.DataError:
                    assert pg.version < 17 and t == "interval"  # they have become more
            if random:
                c.execute(f"insert into many (v{i}) select ({random})::{t} from (select word() || i"
                          " a, word() || i b from generate_series(1, 40) i) x")
                count += 40
    return count


def test_events_are_the_same_bytes(binary_pg, make_rowcast, tmp_path):
    pg = binary_pg
    arrays, have = make_tables(pg, without=TEXT_ONLY)
    rcs = [make_rowcast("--table", "public.*", "--slot", f"s_{how}", "--binary", how,
                        source=pg.url()).start() for how in ("off", "on")]
    fill(pg, arrays, have)
    count = insert_many(pg)
    pg.sql("alter publication rowcast add table many")
    pg.sql("alter table scalars replica identity full")
    pg.sql("update scalars set id = id + 1000")
    pg.sql("update many set id = id + 100000")
    pg.sql("delete from many")
    rows = pg.value("select count(*) from scalars")
    rows = 2 * rows + pg.value("select count(*) from arrays") + 2 * count
    assert rows > 1500
    frame = frames(tmp_path)
    text, binary = [changes(rc, frame, rows) for rc in rcs]
    assert rcs[1].log_contains("values=binary") and not rcs[1].log_contains("values=text")
    assert rcs[0].log_contains("values=text") and not rcs[0].log_contains("values=binary")
    assert_same(text, binary)


def test_what_is_text_only(pg, make_rowcast):
    """A type that cannot be read makes the connection ask for text; also one that comes later, in
    the middle of a transaction, and one that the server itself cannot send."""
    pg.sql("create table t (id int primary key, n numeric); create table r (c regclass, id int)")
    pg.sql("create publication p for table t")
    args = "--binary", "on", "--publication", "p", "--slot"
    rc = make_rowcast(*args, "a", source=pg.url()).start()
    rc.wait_log("values=binary")
    other = make_rowcast(*args, "b", source=pg.url()).start()
    with rc.stream(tables=["public.*"], start="now") as stream:
        with pg.connect(autocommit=False) as c:
            c.execute("insert into t values (1, 1.50)")
            c.execute("alter table t add c regclass")
            c.execute("insert into t values (2, 2.50, 'pg_class')")
            c.commit()
        got = stream.changes(2)
        assert [g["row"] for g in got] == [{"id": 1, "n": "1.50"},
                                           {"id": 2, "n": "2.50", "c": "pg_class"}]
    assert rc.log_contains("column c of type regclass: its binary form")
    rc.wait_log("values=text")
    assert other.wait_log("values=text")
    other.restart()
    assert other.log_contains("column c of table public.t.*values of type regclass")
    pg.sql("alter table t drop c")
    rc.restart()
    since = len(rc.process.log.read_text())
    with rc.stream(tables=["public.*"], start="now") as stream:
        pg.sql("alter table t add a aclitem[]")
        pg.sql("insert into t values (3, 3, '{postgres=r/postgres}')")
        assert stream.changes(1)[0]["row"]["a"] == ["postgres=r/postgres"]
    rc.wait_log("asking for values as text from now on.*no binary output function", since=since)
    assert rc.stop() == 0
    # At a start it is refused, with the name of the column.
    rc.start(ready=False)
    assert rc.wait_exit() != 0
    assert rc.log_contains("column a of table public.t: .*type aclitem .*remedy: set binary = off")


def test_origin_none(make_postgres, make_rowcast):
    """What came to the server by replication is left out; a server that cannot do so is refused."""
    pg = make_postgres(NEWEST)
    pg.sql("create table t (id int primary key)")
    rc = make_rowcast("--table", "t", "--origin", "none", source=pg.url()).start()
    with pg.connect() as c:
        c.execute("select pg_replication_origin_create('elsewhere')")
        c.execute("select pg_replication_origin_session_setup('elsewhere')")
        c.execute("insert into t values (1)")
    with rc.stream(start="earliest") as stream:
        pg.sql("insert into t values (2)")
        assert stream.changes(1)[0]["row"] == {"id": 2}
    old = make_postgres(DEBIAN)
    old.sql("create table t (id int primary key)")
    out = command("check", "--source", old.url(), "--table", "t", "--origin", "none")
    assert out.returncode != 0
    assert "fail: origin: is none, but the server" in out.stdout and "PostgreSQL 16" in out.stdout
