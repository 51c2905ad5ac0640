"""Whatever is wrong around rowcast: one message that names the object, the cause and the remedy,
the documented exit code where the process ends, and nothing lost."""

import os
import pathlib
import re
import socket
import subprocess

import pytest

from lib import paths
from lib.postgres import Postgres
from lib.rowcast import command
from lib.wait import free_port, wait_for

USAGE, SOURCE, SLOT_LOST, JOURNAL, LISTEN, SLOT_INVALIDATED, OTHER_SYSTEM = 2, 3, 4, 6, 7, 9, 14


def ends(rc, code, *patterns, deadline=20):
    """Starts it; it must end with this code and say all of this in one line."""
    rc.start(ready=False)
    got = rc.wait_exit(deadline)
    log = rc.process.log_text()
    assert got == code, f"exit code {got}:\n{log}"
    errors = [line for line in log.splitlines() if "level=error" in line]
    assert len(errors) == 1, f"not one error, but {len(errors)}:\n{log}"
    for pattern in patterns:
        assert pattern in errors[0], f"{pattern!r} is missing: {errors[0]}"


def test_wrong_password(make_postgres, make_rowcast):
    pg = make_postgres(hba=["host all locked 127.0.0.1/32 scram-sha-256"])
    pg.sql("create role locked login replication password 'right'; create table t (id int primary"
           " key); create publication rowcast for table t")
    url = f"postgresql://locked:hunter2@127.0.0.1:{pg.port}/postgres"
    rc = make_rowcast(source=url)
    ends(rc, SOURCE, "password authentication failed")
    assert "hunter2" not in rc.process.log_text()
    # The right one comes from a file, read again at each connect; it shows nowhere.
    secret = paths.scratch("secret") / "password"
    secret.write_text("right\n")
    rc = make_rowcast("--password-file", secret, source=url).start()
    argv = pathlib.Path(f"/proc/{rc.process.pid}/cmdline").read_bytes()
    assert b"hunter2" not in argv
    pg.sql("alter role locked password 'newer'")
    pg.sql("select pg_terminate_backend(active_pid) from pg_replication_slots")
    wait_for(lambda: rc.get("/readyz")[0] == 503, what="the source to be away")
    secret.unlink()  # as in a rotation: removed, then written anew
    rc.wait_log("retrying.*password file")
    secret.write_text("newer\n")
    rc.wait_ready()
    assert "right" not in rc.process.log_text() and "newer" not in rc.process.log_text()


def test_unreachable_server_is_waited_for(make_rowcast):
    pg = Postgres().start()
    pg.sql("create table t (id int primary key); create publication rowcast for table t")
    pg.stop()
    rc = make_rowcast(source=pg.conninfo()).start(ready=False)
    rc.wait_log("level=warn.*retrying.*refused; remedy: start the server")
    assert rc.get("/healthz")[0] == 200
    assert rc.get("/readyz")[0] == 503
    pg.start()
    rc.wait_ready(40)
    assert rc.stop() == 0
    pg.destroy()


@pytest.mark.parametrize("what, code, words", [
    ("port=99999", USAGE, ["invalid port number", "remedy"]),
    ("sslmode=bogus", USAGE, ["sslmode", "remedy"]),
    ("sslmode=require", SOURCE, ["SSL", "lower sslmode"]),
])
def test_a_connection_string_that_cannot_work(pg, make_rowcast, what, code, words):
    ends(make_rowcast(source=f"{pg.conninfo()} {what}"), code, *words)


def test_a_certificate_that_nobody_vouches_for(pg_with_tls, make_rowcast):
    ends(make_rowcast(source=f"{pg_with_tls.conninfo()} sslmode=verify-full sslrootcert=/nowhere"),
         SOURCE, "root certificate", "sslrootcert")


def test_a_host_that_is_not_found_is_waited_for(make_rowcast):
    rc = make_rowcast(source="host=nowhere.invalid user=x dbname=x").start(ready=False)
    rc.wait_log("retrying.*nowhere.invalid.*remedy: correct the host")
    assert rc.stop() == 0


@pytest.mark.parametrize("conf, words", [
    ({"wal_level": "replica", "max_wal_senders": "5"}, ["wal_level", "logical"]),
    ({"max_replication_slots": "0"}, ["max_replication_slots"]),
    ({"max_wal_senders": "0"}, ["max_wal_senders"]),
])
def test_a_server_that_cannot_stream(make_postgres, make_rowcast, conf, words):
    pg = make_postgres(conf=conf)
    pg.sql("create table t (id int primary key); create publication rowcast for table t")
    ends(make_rowcast(source=pg.conninfo()), SOURCE, *words)
    check = command("check", "--source", pg.conninfo())
    assert check.returncode == SOURCE and "fail" in check.stdout and words[0] in check.stdout


def test_a_role_without_replication(pg, make_rowcast):
    pg.sql("create role plain login; create table t (id int primary key);"
           " create publication rowcast for table t")
    ends(make_rowcast(source=pg.conninfo(user="plain")), SOURCE, "plain", "REPLICATION")


@pytest.mark.parametrize("make_slot, words", [
    ("select pg_create_logical_replication_slot('rowcast', 'test_decoding')", ["test_decoding"]),
    ("select pg_create_physical_replication_slot('rowcast')", ["physical"]),
    ("select pg_create_logical_replication_slot('rowcast', 'pgoutput', false, true)",
     ["two_phase"]),
])
def test_a_slot_of_another_kind(pg, make_rowcast, make_slot, words):
    pg.sql("create table t (id int primary key); create publication rowcast for table t")
    pg.sql(make_slot)
    ends(make_rowcast(source=pg.conninfo()), SOURCE, "rowcast", *words)


def test_a_slot_of_another_database(pg, make_rowcast):
    pg.sql("create database other")
    pg.sql("select pg_create_logical_replication_slot('rowcast', 'pgoutput')", db="other")
    pg.sql("create table t (id int primary key); create publication rowcast for table t")
    ends(make_rowcast(source=pg.conninfo()), SOURCE, "other")


def test_a_lost_slot(make_postgres, make_rowcast):
    pg = make_postgres(conf={"max_slot_wal_keep_size": "1MB", "max_wal_size": "32MB",
                             "min_wal_size": "32MB"})
    pg.sql("create table t (id int primary key, pad text);"
           " create publication rowcast for table t")
    rc = make_rowcast(source=pg.conninfo()).start()
    assert rc.stop() == 0
    for _ in range(3):
        pg.sql("insert into t select n + (select count(*) from t), repeat('x', 1000)"
               " from generate_series(1, 30000) n; select pg_switch_wal()")
        pg.sql("checkpoint")
    assert pg.slot("rowcast")["wal_status"] == "lost"
    ends(rc, SLOT_INVALIDATED, "rowcast", "max_slot_wal_keep_size")


def test_a_busy_slot_is_waited_for_and_taken_over(pg, make_rowcast):
    pg.sql("create table t (id int primary key); create publication rowcast for table t")
    first = make_rowcast(source=pg.conninfo()).start()
    second = make_rowcast(source=pg.conninfo()).start(ready=False)
    pid = pg.slot("rowcast")["active_pid"]
    second.wait_log(f"level=warn.*{pid}")
    pg.sql("insert into t values (1)")  # the slot goes on meanwhile
    pg.wait_confirmed("rowcast", pg.lsn())
    first.kill9()
    second.wait_ready(40)
    pg.sql("insert into t values (2)")
    with second.stream(start="earliest") as s:
        assert s.changes(1)[0]["row"] == {"id": 2}
    assert len([1 for line in second.process.log_text().splitlines()
                if f"{pid}" in line and "level=warn" in line]) == 1, "said more than once"


def test_warnings_are_said_once(pg, make_rowcast):
    """Though it has to try again and again."""
    pg.sql("create table bare (id int); create publication rowcast for table bare")
    make_rowcast(source=pg.conninfo()).start()
    second = make_rowcast(source=pg.conninfo()).start(ready=False)
    second.wait_log("level=warn.*in use")

    def tried():
        pg.sql("select pg_terminate_backend(pid) from pg_stat_activity"
               " where backend_type = 'client backend' and pid <> pg_backend_pid()")
        return second.metrics().get("rowcast_reconnects_total") >= 3
    wait_for(tried, what="three lost connections", every=0.1)
    assert second.process.log_text().count("table public.bare") == 1


def test_no_such_table(pg, make_rowcast):
    pg.sql("create table t (id int primary key)")
    ends(make_rowcast("--table", "public.nothing", source=pg.conninfo()), USAGE, "public.nothing")


def test_one_glob_of_several_matches_nothing(pg, make_rowcast):
    pg.sql("create table t (id int primary key)")
    for _ in range(2):  # as the publication is made, and when it is there
        rc = make_rowcast("--table", "public.t", "--table", "public.tt*", source=pg.conninfo())
        rc.start().stop()
        assert len(re.findall("table glob public.tt.*remedy=", rc.process.log_text())) == 1
    done = command("schema", "--source", pg.conninfo(), "--table", "public.tt*")
    assert "message " not in done.stdout and "level=warn msg=\"no table" in done.stderr


def test_a_missing_publication_that_may_not_be_made(pg, make_rowcast):
    pg.sql("create table t (id int primary key)")
    pg.sql("select pg_create_logical_replication_slot('rowcast', 'pgoutput')")
    ends(make_rowcast("--create", "off", "--publication", "absent", source=pg.conninfo()), SOURCE,
         "absent", "CREATE PUBLICATION")


def test_check_names_tables_without_identity(pg):
    pg.sql("create table bare (id int); create publication rowcast for table bare")
    out = command("check", "--source", pg.conninfo()).stdout
    assert "public.bare" in out and "ALTER TABLE public.bare REPLICA IDENTITY" in out


def test_messages_of_a_server_that_sends_none(make_postgres):
    pg = make_postgres(10)
    pg.sql("create table t (id int primary key); create publication rowcast for table t")
    out = command("check", "--source", pg.conninfo(), "--messages", "on").stdout
    assert re.search("^warn.*messages.*PostgreSQL 14", out, re.M), out
    assert "warn: messages" not in command("check", "--source", pg.conninfo()).stdout


def test_a_database_without_encoding(pg, make_rowcast):
    """SQL_ASCII: bytes that are no UTF-8 come through, marked, and nothing stops."""
    pg.sql("create database ascii template template0 encoding 'SQL_ASCII' lc_collate 'C'"
           " lc_ctype 'C'")
    pg.sql("create table t (id int primary key, v text); create publication rowcast for table t",
           db="ascii")
    rc = make_rowcast(source=pg.conninfo("ascii")).start()
    pg.sql("insert into t values (1, convert_from('\\xff41'::bytea, 'SQL_ASCII')), (2, 'b')",
           db="ascii")
    with rc.stream(start="earliest") as s:
        bad, good = s.changes(2)
    assert good["row"] == {"id": 2, "v": "b"}
    assert bad["row"]["id"] == 1 and "A" in str(bad)


def test_names_that_are_no_utf8(pg, make_rowcast):
    """Of an SQL_ASCII database: read alike by the stream and the catalog, also at a restart."""
    pg.sql("create database ascii template template0 encoding 'SQL_ASCII' lc_collate 'C'"
           " lc_ctype 'C'")
    with pg.connect("ascii", client_encoding="SQL_ASCII") as c:
        c.execute(b'create table "caf\xe9" (id int primary key, "v\xe9" text);'
                  b'create table plain (id int primary key);'
                  b'create publication rowcast for table "caf\xe9", plain')
    rc = make_rowcast(source=pg.conninfo("ascii")).start()
    with pg.connect("ascii", client_encoding="SQL_ASCII") as c:
        c.execute(b"insert into \"caf\xe9\" values (1, 'x')")
    pg.sql("insert into plain values (1)", db="ascii")
    rc.restart()
    pg.sql("insert into plain values (2)", db="ascii")
    with rc.stream(start="earliest") as s:
        odd, *plain = s.changes(3)
    assert odd["table"] == 'public."caf\ufffd"' and odd["row"] == {"id": 1, "v\ufffd": "x"}
    assert [c["row"]["id"] for c in plain] == [1, 2]


def test_a_latin1_database(pg, make_rowcast):
    pg.sql("create database latin template template0 encoding 'LATIN1' lc_collate 'C' lc_ctype 'C'")
    pg.sql("create table t (id int primary key, v text); create publication rowcast for table t",
           db="latin")
    rc = make_rowcast(source=pg.conninfo("latin")).start()
    pg.sql("insert into t values (1, U&'\\00E9')", db="latin")
    with rc.stream(start="earliest") as s:
        assert s.changes(1)[0]["row"]["v"] == "\u00e9"


# ---- the journal's directory ----

def test_a_directory_that_is_none(pg, make_rowcast):
    file = paths.scratch("file") / "journal"
    file.write_text("")
    ends(make_rowcast(source=pg.conninfo(), journal=file), JOURNAL, str(file))


def test_two_on_one_journal(pg, make_rowcast):
    pg.sql("create table t (id int primary key); create publication rowcast for table t")
    first = make_rowcast(source=pg.conninfo()).start()
    second = make_rowcast(source=pg.conninfo(), journal=first.journal)
    ends(second, JOURNAL, str(first.process.pid))
    assert first.alive()


def test_a_journal_of_another_server(make_postgres, make_rowcast):
    one, other = make_postgres(15), make_postgres(18)
    for pg in (one, other):
        pg.sql("create table t (id int primary key); create publication rowcast for table t")
    rc = make_rowcast(source=one.conninfo()).start()
    assert rc.stop() == 0
    ends(make_rowcast(source=other.conninfo(), journal=rc.journal), OTHER_SYSTEM, "system")


def test_a_corrupt_journal_names_the_place(pg, make_rowcast):
    pg.sql("create table t (id int primary key, v text); create publication rowcast for table t")
    rc = make_rowcast(source=pg.conninfo()).start()
    for n in range(20):
        pg.sql("insert into t values (%s, %s)", n, os.urandom(5000).hex())
    pg.wait_confirmed("rowcast", pg.lsn() - 1)
    assert rc.stop() == 0
    segment = sorted(pathlib.Path(rc.journal).glob("**/*.seg"))[0]
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 0xff
    segment.write_bytes(data)
    out = command("journal", "verify", rc.journal)
    assert out.returncode == JOURNAL and segment.name in out.stdout + out.stderr


def test_a_directory_of_others(pg, make_rowcast):
    others = paths.scratch("others")
    (others / "notes").write_text("")
    ends(make_rowcast(source=pg.conninfo(), journal=others), JOURNAL, str(others), "notes")
    assert [file.name for file in others.iterdir()] == ["notes"]


@pytest.fixture
def small_disk():
    """A file system of 4 MiB."""
    if os.getuid() != 0:
        pytest.skip("mounting needs root")
    mount = paths.scratch("small")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", mount], check=True)
    yield mount
    subprocess.run(["umount", "-l", mount], check=True)


def fill(mount):
    """Uses up all room; returns the file to remove."""
    filler = mount / "filler"
    with open(filler, "wb", buffering=0) as f:
        try:
            while True:
                f.write(bytes(65536))
        except OSError:
            return filler


def test_a_full_disk(pg, small_disk, make_rowcast):
    """Reading stops and says so; with room again it goes on, by itself, with nothing lost."""
    pg.sql("create table t (id int primary key, v text); create publication rowcast for table t")
    rc = make_rowcast("--segment-size", "64KiB", source=pg.conninfo(unix=True),
                      journal=small_disk / "j").start()
    with rc.stream(start="now") as s:
        pg.sql("insert into t values (0, 'first')")
        s.changes(1)
        filler = fill(small_disk)
        for n in range(1, 200):
            pg.sql("insert into t values (%s, %s)", n, os.urandom(5000).hex())
        rc.wait_log("(No space|full)")
        wait_for(lambda: rc.get("/readyz")[0] == 503, what="rowcast to say that it is stale")
        # That the server is gone is seen meanwhile, though nothing is read from it.
        pg.kill9()
        rc.wait_log("retrying.*lost while reading had stopped")
        pg.start()
        pg.wait_slot_active("rowcast")
        filler.unlink()
        rest = s.changes(199, 60)
    assert [c["row"]["id"] for c in rest] == list(range(1, 200))
    pg.wait_confirmed("rowcast", pg.lsn() - 1, 30)
    assert rc.stop() == 0
    assert command("journal", "verify", rc.journal).returncode == 0


def test_a_table_changes_on_a_full_disk(pg, small_disk, make_rowcast):
    """Its new shape has no room: that is a full disk, not a connection to be tried again."""
    pg.sql("create table t (id int primary key); create publication rowcast for table t")
    rc = make_rowcast(source=pg.conninfo(), journal=small_disk / "j").start()
    with rc.stream(start="now") as s:
        filler = fill(small_disk)
        pg.sql("alter table t " + ", ".join(f"add a_long_name_{n} text" for n in range(300)))
        pg.sql("insert into t values (1)")
        rc.wait_log("level=error.*disk is full.*relations")
        wait_for(lambda: rc.get("/readyz")[0] == 503, what="reading to stop")
        pg.sql("insert into t values (2)")
        filler.unlink()
        assert [c["row"]["id"] for c in s.changes(2, 30)] == [1, 2]
    rc.wait_ready()
    log = rc.process.log_text()
    assert log.count("disk is full:") == 1 and "retrying" not in log, log
    assert rc.stop() == 0
    assert command("journal", "verify", rc.journal).returncode == 0


def test_a_gap_is_declared_on_a_full_disk(pg, small_disk, make_rowcast):
    """It is told when there is room for it, once; until then nothing begins, nor is said to."""
    pg.sql("create table t (id int primary key); create publication rowcast for table t")
    rc = make_rowcast("--on-gap", "mark", source=pg.conninfo(), journal=small_disk / "j").start()
    pg.sql("insert into t values (1)")
    with rc.stream(start="earliest") as s:
        cursor = s.entries_until(lambda e: e.get("type") == "end")[-1]["cursor"]
    pg.wait_confirmed("rowcast", pg.lsn())
    assert rc.stop() == 0
    pg.sql("insert into t values (2)")
    pg.sql("select pg_replication_slot_advance('rowcast', pg_current_wal_lsn())")
    filler = fill(small_disk)
    rc.start(ready=False)
    rc.wait_log("retrying.*cannot write .*identity.new: No space left")
    assert "No space left" in rc.get("/readyz")[1]
    assert not rc.log_contains("new generation")
    filler.unlink()
    rc.wait_ready(30)
    pg.sql("insert into t values (3)")
    with rc.stream(start=cursor) as s:
        got = s.entries_until(lambda e: e.get("row") == {"id": 3})
    assert [e["reason"][:13] for e in got if e.get("type") == "gap"] == ["slot_consumed"]
    assert rc.process.log_text().count("new generation") == 1


def test_a_first_start_on_a_full_disk(pg, small_disk, make_rowcast):
    pg.sql("create table t (id int primary key); create publication rowcast for table t")
    filler = fill(small_disk)
    rc = make_rowcast(source=pg.conninfo(), journal=small_disk / "j")
    ends(rc, JOURNAL, "No space left", "make room")
    filler.unlink()
    rc.start()


# ---- the rest ----

def test_a_port_in_use(pg, make_rowcast):
    pg.sql("create table t (id int primary key); create publication rowcast for table t")
    port = free_port()
    with socket.socket() as s:
        s.bind(("127.0.0.1", port))
        s.listen()
        rc = make_rowcast("--listen", f"127.0.0.1:{port}", source=pg.conninfo())
        first = rc.process.argv.index("--listen")
        del rc.process.argv[first:first + 2]  # the port that every Rowcast is given
        ends(rc, LISTEN, str(port), "--listen")


def test_usage(pg):
    for args, word in ((["run"], "source"), (["run", "--nonsense"], "nonsense"),
                       (["fly"], "fly"),
                       (["run", "--source", "x", "--journal-size", "big"], "big")):
        out = command(*args)
        assert out.returncode == USAGE and word in out.stderr, out


def test_a_pause_longer_than_the_server_waits(make_postgres, make_rowcast):
    pg = make_postgres(conf={"wal_sender_timeout": "1s"})
    pg.sql("create table t (id int primary key); create publication rowcast for table t")
    rc = make_rowcast(source=pg.conninfo()).start()
    pg.sql("insert into t select generate_series(1, 100)")
    rc.process.pause()
    pg.process.wait_log("terminating walsender process due to replication timeout", 20)
    pg.sql("insert into t select generate_series(101, 200)")
    rc.process.resume()
    with rc.stream(start="earliest") as s:
        assert [c["row"]["id"] for c in s.changes(200, 30)] == list(range(1, 201))


def test_stop_in_the_middle_of_a_transaction(pg, make_rowcast):
    pg.sql("create table t (id int primary key); create publication rowcast for table t")
    rc = make_rowcast(source=pg.conninfo()).start()
    with rc.stream(start="now") as s:
        pg.sql("insert into t select generate_series(1, 400000)")
        first = s.changes(1000, 30)
        assert rc.stop(deadline=15) == 0
    rc.start()
    with rc.stream(start=first[-1]["cursor"]) as s:
        rest = s.changes(400000 - len(first), 120)
    assert [c["seq"] for c in first + rest] == list(range(400000))
