"""The source against real servers: what stands in the slot's way, and what it does about it."""

import os
import re
import socket
import struct
import subprocess
import threading
import time

import pytest

from lib.postgres import DEBIAN, NEWEST, lsn_text, versions
from lib.rowcast import command
from lib.wait import wait_for
from e2e.test_bad_input import SOURCE, USAGE, SLOT_LOST, ends

DATA = 5


def rows(rc, table, count, start="earliest"):
    with rc.stream(tables=[table], start=start) as stream:
        return stream.changes(count)


def test_publication_and_slot_are_made(each_pg, make_rowcast):
    """For the tables named, never for all; failover where the server can; text as pinned."""
    pg = each_pg
    pg.sql("create table wanted (id int primary key, at timestamptz, f float8);"
           "create table other (id int primary key);"
           "create table bare (id int)")
    pg.sql("alter database postgres set datestyle = 'German, DMY'")
    pg.sql("alter database postgres set extra_float_digits = 0")
    rc = make_rowcast("--table", "public.w*", "--table", "bare", source=pg.conninfo()).start()
    assert pg.sql("select tablename from pg_publication_tables") == [("wanted",)]
    assert not pg.value("select puballtables from pg_publication")
    rc.wait_log("level=warn.*public.bare.*REPLICA IDENTITY")
    if pg.version >= 17:
        assert pg.slot("rowcast")["failover"]
    pg.sql("insert into bare values (1)")
    pg.sql("update bare set id = 2")  # still works
    pg.sql("insert into wanted values (1, '2026-01-02 03:04:05.6+00', 0.1::float8 + 0.2)")
    change, = rows(rc, "wanted", 1)
    assert change["row"] == {"id": 1, "at": "2026-01-02T03:04:05.600000Z", "f": 0.30000000000000004}


def test_a_standby(make_postgres, make_rowcast):
    """A slot there cannot be failed over, and nothing else can be made."""
    pg = make_postgres(NEWEST)
    pg.sql("create table t (id int primary key); create publication rowcast for table t")
    standby = pg.standby()
    try:
        ends(make_rowcast("--publication", "p", "--table", "t", source=standby.conninfo()), SOURCE,
             "publication p", "standby", "CREATE PUBLICATION")
        rc = make_rowcast(source=standby.conninfo()).start(ready=False)
        wait_for(lambda: pg.sql("select pg_log_standby_snapshot()") and rc.get("/readyz")[0] == 200,
                 what=lambda: f"the slot on the standby:\n{rc.process.log_tail()}\n",
                 ignore=(OSError,))
        pg.sql("insert into t values (1)")
        assert rows(rc, "t", 1)[0]["row"] == {"id": 1}
    finally:
        standby.destroy()


def test_a_partition_is_wanted_by_the_name_of_its_table(make_postgres, make_rowcast):
    pg = make_postgres(NEWEST)
    pg.sql("create table sales (id int, year int, primary key (id, year))"
           " partition by range (year);"
           "create table sales_2025 partition of sales for values from (2025) to (2026);"
           "create table other (id int primary key);"
           "create publication rowcast for table sales, other")
    rc = make_rowcast("--table", "public.sales", source=pg.conninfo()).start()
    pg.sql("insert into other values (1)")
    pg.sql("insert into sales values (1, 2025)")
    pg.sql("create table sales_2026 partition of sales for values from (2026) to (2027)")
    pg.sql("insert into sales values (2, 2026)")
    got = rows(rc, "public.*", 2)
    assert [c["table"] for c in got] == ["public.sales_2025", "public.sales_2026"]


def test_excluded_and_masked_columns(pg, make_rowcast):
    pg.sql("create table people (id int primary key, name text, secret text, card text);"
           "create publication rowcast for table people")
    rc = make_rowcast("--exclude-column", "public.people.secret", "--mask-column", "people.card",
                      source=pg.conninfo()).start()
    pg.sql("insert into people values (1, 'Ann', 'hidden-one', '4111-hidden')")
    pg.sql("update people set secret = 'hidden-two', name = 'Bea'")
    first, second = rows(rc, "people", 2)
    assert first["row"] == {"id": 1, "name": "Ann", "card": "****"}
    assert second["row"] == {"id": 1, "name": "Bea", "card": "****"}
    assert rc.stop() == 0
    for file in rc.journal.rglob("*"):
        assert file.is_dir() or b"hidden" not in file.read_bytes()
    assert "hidden" not in command("journal", "dump", rc.journal).stdout


@pytest.mark.parametrize("option, what", [("--exclude-column", "excluded"),
                                          ("--mask-column", "masked")])
def test_a_key_column_stays(pg, make_rowcast, option, what):
    pg.sql("create table t (id int primary key); create publication rowcast for table t")
    ends(make_rowcast(option, "t.id", source=pg.conninfo()), USAGE, "column id", "public.t", what)


def test_a_publication_that_may_not_be_made(pg, make_rowcast):
    pg.sql("create role reader login replication; create table t (id int primary key)")
    ends(make_rowcast("--table", "t", source=pg.conninfo(user="reader")), SOURCE,
         "publication rowcast", "CREATE PUBLICATION", "FOR TABLE ONLY public.t")


def test_a_publication_is_never_made_for_all_tables(pg, make_rowcast):
    """Which tables it is for has to be said."""
    pg.sql("create table t (id int primary key)")
    ends(make_rowcast(source=pg.conninfo()), USAGE, "publication rowcast", "--table 'public.*'")
    assert pg.sql("select * from pg_publication") == [] and pg.slot("rowcast") is None
    make_rowcast("--table", "public.*", source=pg.conninfo()).start()
    assert not pg.value("select puballtables from pg_publication")


def test_a_server_that_forbids_publications(pg, make_rowcast):
    """An error of its own ends it too; a role that only reads by default does not."""
    pg.sql("create table t (id int primary key); create role reads superuser login;"
           "alter role reads set default_transaction_read_only = on;"
           "create function forbid() returns event_trigger language plpgsql as"
           " $$ begin raise exception 'ask the owner of the shop'; end $$;"
           "create event trigger forbid on ddl_command_start when tag in ('CREATE PUBLICATION')"
           " execute function forbid()")
    rc = make_rowcast("--table", "t", source=pg.conninfo(user="reads"))
    ends(rc, SOURCE, "publication rowcast", "ask the owner of the shop", "CREATE PUBLICATION")
    pg.sql("drop event trigger forbid")
    rc.start()


def test_a_publication_without_tables(pg, make_rowcast):
    pg.sql("create publication rowcast")
    ends(make_rowcast(source=pg.conninfo()), SOURCE, "no tables", "ADD TABLE")


def test_a_glob_without_tables_is_only_a_warning(pg, make_rowcast):
    pg.sql("create table t (id int primary key); create publication rowcast for table t")
    rc = make_rowcast("--table", "public.t", "--table", "nothing.*", source=pg.conninfo()).start()
    rc.wait_log(r"level=warn.*nothing\.\*")


@pytest.mark.parametrize("version", versions(DEBIAN, NEWEST))
def test_a_publication_made_after_the_change(make_postgres, make_rowcast, version):
    """Older servers fail at it again and again, 18 would only note that it leaves out changes:
    whatever the database says of notes."""
    pg = make_postgres(version)
    pg.sql("alter database postgres set client_min_messages = 'error'")
    pg.sql("create table t (id int primary key)")
    pg.sql("select pg_create_logical_replication_slot('rowcast', 'pgoutput')")
    pg.sql("insert into t values (1)")
    pg.sql("create publication rowcast for table t")
    rc = make_rowcast(source=pg.conninfo()).start(ready=False)
    assert rc.wait_exit(30) == (DATA if version < 18 else SOURCE)
    assert rc.log_contains("level=error.*publication")
    assert pg.slot("rowcast")["confirmed_flush_lsn"] < pg.lsn()


def test_a_publication_that_was_gone_for_a_while(make_postgres, make_rowcast):
    """What 18 left out is not passed: a restart ends alike, and never goes on without it."""
    pg = make_postgres(18)
    pg.sql("create table t (id int primary key); create publication rowcast for table t")
    rc = make_rowcast(source=pg.conninfo()).start()
    pg.sql("insert into t values (1)")
    assert rows(rc, "t", 1)[0]["row"] == {"id": 1}
    rc.process.pause()
    pg.sql("drop publication rowcast")
    pg.sql("insert into t values (2)")
    left_out = pg.lsn()
    pg.sql("create publication rowcast for table t")
    pg.sql("insert into t values (3)")
    wait_for(lambda: pg.value("select sent_lsn >= pg_current_wal_lsn() from pg_stat_replication"),
             what="all to be sent, to be read at once")
    rc.process.resume()
    for start in (False, True):
        if start:
            rc.start(ready=False)
        assert rc.wait_exit() == SOURCE
        assert pg.slot("rowcast")["confirmed_flush_lsn"] < left_out
        changes = command("journal", "dump", rc.journal).stdout.count('"op"')
        assert changes == 1, f"{changes} changes in the journal"
    # Deliberately: the gap is told.
    rc.process.argv += ["--skip-to", lsn_text(left_out)]
    rc.start()
    with rc.stream(start="earliest") as s:
        entries = s.entries_until(lambda e: e.get("row") == {"id": 3})
    assert [e.get("type") for e in entries].count("gap") == 1


@pytest.mark.skipif(os.getuid() != 0, reason="mounting needs root")
def test_an_error_at_each_connection_is_said_once(make_postgres, make_rowcast):
    """The server has no room to decode: each connection streams, then fails at the same place."""
    pg = make_postgres(conf={"logical_decoding_work_mem": "64kB"})
    pg.sql("create table t (id int primary key, v text); create publication rowcast for table t")
    rc = make_rowcast("--streaming", "off", source=pg.conninfo()).start()
    spill = pg.data / "pg_replslot" / "rowcast"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=777", "tmpfs", spill], check=True)
    try:
        pg.sql("insert into t select n, repeat('x', 200) from generate_series(1, 5000) n")
        rc.wait_metric(lambda m: m.get("rowcast_reconnects_total") >= 5, what="several connections")
        said = [line for line in rc.process.log_text().splitlines() if "retrying" in line]
        assert len(said) == 1 and "No space" in said[0], said
    finally:
        subprocess.run(["umount", "-l", spill], check=True)
    assert len(rows(rc, "t", 5000)) == 5000


def test_a_slot_that_is_gone(pg, make_rowcast):
    pg.sql("create table t (id int primary key); create publication rowcast for table t")
    rc = make_rowcast(source=pg.conninfo()).start()
    pg.sql("insert into t values (1)")
    rows(rc, "t", 1)
    assert rc.stop() == 0
    pg.sql("select pg_drop_replication_slot('rowcast')")
    ends(rc, SLOT_LOST, "slot rowcast", "does not exist any more", "new journal directory")
    assert pg.slot("rowcast") is None


def test_the_server_stops_quickly_under_load(each_pg, make_rowcast):
    pg = each_pg
    pg.sql("create table t (id serial primary key, n int); create publication rowcast for table t")
    rc = make_rowcast(source=pg.conninfo()).start()
    pg.sql("insert into t (n) select n from generate_series(1, 20000) n")
    for n in range(100):
        pg.sql("insert into t (n) values (%s)", n)
    began = time.monotonic()
    pg.stop()
    assert time.monotonic() - began < 3
    pg.start()
    rc.wait_ready(30)
    assert len(rows(rc, "t", 20100)) == 20100


def test_idle_wal_of_another_database_is_acknowledged(pg, make_rowcast):
    pg.sql("create table t (id int primary key); create publication rowcast for table t")
    pg.sql("create database elsewhere")
    make_rowcast(source=pg.conninfo()).start()
    pg.sql("create table big as select n from generate_series(1, 10000) n", db="elsewhere")
    pg.wait_confirmed("rowcast", pg.lsn())


def test_a_synchronous_commit_does_not_wait_long(pg, make_rowcast):
    pg.sql("create table t (id int primary key); create publication rowcast for table t")
    rc = make_rowcast(source=pg.conninfo() + " application_name=mirror").start()
    pg.configure({"synchronous_standby_names": "mirror"})
    pg.reload()
    wait_for(lambda: pg.value("select count(*) from pg_stat_replication where sync_state = 'sync'"),
             what="rowcast to be a synchronous standby")
    began = time.monotonic()
    for n in range(20):
        pg.sql("insert into t values (%s)", n)
    assert time.monotonic() - began < 5
    assert len(rows(rc, "t", 20)) == 20


def test_a_pooler_in_between(make_rowcast):
    """It answers as PgBouncer before 1.23 does."""
    def answer(listener):
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            with peer:
                size, code = struct.unpack("!II", peer.recv(8))
                if code == 80877103:  # SSLRequest
                    peer.sendall(b"N")
                    peer.recv(4096)
                else:
                    peer.recv(size)
                fields = b"SFATAL\0VFATAL\0C08P01\0Munsupported startup parameter: options\0\0"
                peer.sendall(b"E" + struct.pack("!I", len(fields) + 4) + fields)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer, args=[listener], daemon=True)
        thread.start()
        port = listener.getsockname()[1]
        ends(make_rowcast(source=f"host=127.0.0.1 port={port} user=u dbname=d"), SOURCE,
             "startup parameter", "pooler")


def test_check_prints_findings(pg):
    pg.sql("create table t (id int primary key); create table bare (id int)")
    out = command("check", "--source", pg.conninfo(), "--table", "public.*")
    assert out.returncode == 0, out.stdout
    lines = out.stdout.splitlines()
    assert "ok: slot rowcast: does not exist, will be created" in lines
    assert "ok: publication rowcast: does not exist, will be created for 1 table" in lines
    assert any(line.startswith("warn: tables: ") and "public.bare" in line for line in lines)
    assert any(re.match("warn: max_slot_wal_keep_size: .*; remedy: ALTER SYSTEM SET", line)
               for line in lines)
    pg.sql("create role plain login")
    out = command("check", "--source", pg.conninfo(user="plain"))
    assert out.returncode == SOURCE
    assert 'ALTER ROLE "plain" REPLICATION' in out.stdout
    assert pg.slot("rowcast") is None  # nothing was made


def test_check_asks_whether_the_publication_may_be_made(pg):
    pg.sql("create table t (id int primary key); create table other (id int primary key);"
           "create role guest login replication")

    def finding():
        out = command("check", "--source", pg.conninfo(user="guest"), "--table", "t")
        line, = (line for line in out.stdout.splitlines() if ": publication rowcast: " in line)
        return out.returncode, line

    code, line = finding()
    assert code == SOURCE and line.startswith("fail: ") and "role guest" in line
    assert "no CREATE on database postgres" in line and "does not own public.t;" in line
    pg.sql("grant create on database postgres to guest; alter table t owner to guest")
    assert finding() == (0, "ok: publication rowcast: does not exist, will be created for 1 table")
    pg.sql("alter table t owner to postgres")
    code, line = finding()
    assert code == SOURCE and "CREATE on" not in line and "own public.t;" in line
    pg.sql(line[line.index("CREATE PUBLICATION"):])  # as it says
    assert command("check", "--source", pg.conninfo(user="guest")).returncode == 0


def test_a_preview_of_the_schema(pg):
    pg.sql("create type mood as enum ('sad', 'ok');"
           "create table t (id int8 primary key, m mood, at timestamptz)")
    out = command("schema", "--source", pg.conninfo())
    assert out.returncode == 0, out.stderr
    assert "PREVIEW" in out.stdout and "int64 id = 1" in out.stdout and "string m = 2" in out.stdout


def test_metrics_of_the_source(pg, make_rowcast):
    pg.sql("create table t (id int primary key); create publication rowcast for table t")
    rc = make_rowcast(source=pg.conninfo()).start()
    pg.sql("insert into t values (1), (2)")
    pg.sql("delete from t where id = 1")
    rc.wait_metric(lambda m: m.get("rowcast_changes_total", table="public.t", op="insert") == 2
                   and m.get("rowcast_changes_total", table="public.t", op="delete") == 1)
    end = pg.slot("rowcast")["confirmed_flush_lsn"]
    rc.wait_metric(lambda m: m.get("rowcast_lsn", kind="acknowledged") >= end
                   and m.get("rowcast_lsn", kind="received") >= end)
    metrics = rc.metrics()
    assert metrics.get("rowcast_source_state", state="live") == 1
    assert metrics.get("rowcast_transactions_total") == 2
    assert metrics.get("rowcast_change_bytes_total", table="public.t", op="insert") > 0
    assert {"rowcast_source_lag_bytes", "rowcast_source_lag_seconds", "rowcast_reconnects_total",
            "rowcast_slot_retained_wal_bytes", "rowcast_batches_total"} <= metrics.helped()
    pg.stop()
    rc.wait_metric(lambda m: m.get("rowcast_source_state", state="stale") == 1
                   and m.get("rowcast_source_state", state="live") == 0)


def test_a_flood_over_tls(pg_with_tls, make_rowcast):
    """What waits inside of TLS, where no poll sees it, is not left there when a flood ends."""
    pg = pg_with_tls
    pg.sql("create table t (id int primary key, v text)")
    rc = make_rowcast("--table", "public.t", source=f"{pg.conninfo()} sslmode=verify-full "
                      f"sslrootcert={pg.certificate}").start()
    with rc.stream(tables=["public.t"], start="now") as stream:
        pg.sql("insert into t select i, repeat('x', i % 30000) from generate_series(1, 3000) i")
        pg.sql("do $$ begin for i in 3001..6000 loop insert into t values (i); commit; end loop;"
               " end $$")
        assert [c["row"]["id"] for c in stream.changes(6000)] == list(range(1, 6001))
