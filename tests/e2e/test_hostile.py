"""A server that sends what no server should: rowcast does not crash, grow or hang, says what it
met, and loses nothing once the server is honest again."""

import struct
import time

import pytest

from lib.hostile import INSTEAD, Hostile, begin, error, insert, message, relation, row, wal
from lib.wait import wait_for

DATA = 5
FAR = 0x7F000000  # an LSN that the real server has not come to


def send(data):
    """Sends it, and hangs up."""
    return lambda sock: sock.sendall(data)


def flood(data, seconds=60):
    """Sends it again and again."""
    def spoil(sock):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            sock.sendall(data)
    return spoil


def hold(data):
    """Sends it, and then nothing more."""
    def spoil(sock):
        sock.sendall(data)
        time.sleep(60)
    return spoil


NOTICES = error(b"n" * 1000, b"01000", b"N") * 50
# What is tried again: the stage, what is sent, and what rowcast says of it.
PASSING = {
    "no protocol": ("accept", send(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "retrying"),
    "a length below its own": ("startup", send(message(b"R", length=2)), "retrying"),
    "an absurd length": ("startup", send(message(b"E", b"x", length=0x7FFFFFF0)), "retrying"),
    "half a message": ("startup", send(message(b"E", b"SFATAL\0", length=5000)), "retrying"),
    "notices without end": ("ready", flood(NOTICES), "retrying.*no answer from the server in time"),
    "copy in for a stream": ("query", hold(message(b"G", b"\0\0\0")), "retrying.*a copy"),
    "rows for a stream": ("query", hold(message(b"T", b"\0\0") + message(b"C", b"SELECT 0\0")
                                        + message(b"Z", b"I")), "retrying.*did not start"),
    "an error without end": ("query", hold(error(b"e" * 8_000_000, b"53000")
                                           + message(b"Z", b"I")), "retrying.*eeee"),
    "no message": ("stream", send(b"\xff" * 10000), "retrying"),
    "a row of 2 GB that never comes": ("stream", send(message(b"d", b"w", length=0x7FFFFFF0)),
                                       "retrying"),
    "ready in the stream": ("stream", send(message(b"Z", b"I")), "retrying"),
}
# What cannot be read: after three times it ends.
POISON = {
    "an unknown frame": (message(b"d", b"z" * 100), "unknown frame 0x7a"),
    "a short keepalive": (message(b"d", b"k123"), "malformed keepalive"),
    "WAL that is too far": (message(b"d", b"k" + struct.pack("!QQB", 2**63, 0, 1)), "farther than"),
    "a commit that is too far": (begin(2**63), "farther than"),
    "a row outside of everything": (insert(1, [b"1"]), "outside of a transaction"),
    "the end of no part": (wal(b"E"), "'E' outside of a transaction"),
    "a row of no table": (begin(FAR) + insert(4711, [b"1"]), "4711"),
    "columns that are not there": (begin(FAR) + relation(9, [b"id"], count=60000), "malformed"),
    "a value longer than all": (begin(FAR) + relation(9, [b"id"])
                                + insert(9, [b"1"], length=0x7FFFFFFF), "malformed"),
}


@pytest.fixture
def hostile(pg):
    pg.sql("create table t (id int primary key); create publication rowcast for table t")
    pg.sql("select pg_create_logical_replication_slot('rowcast', 'pgoutput')")
    proxy = Hostile(pg.port)
    yield proxy
    proxy.close()


def source(pg, proxy):
    return (f"host=127.0.0.1 port={proxy.port} user=postgres dbname=postgres sslmode=disable"
            " gssencmode=disable connect_timeout=2")


def test_what_passes_is_tried_again(pg, hostile, make_rowcast):
    rc = make_rowcast(source=source(pg, hostile)).start()
    with rc.stream(start="now") as s:
        for n, (name, (stage, spoil, said)) in enumerate(PASSING.items()):
            pg.wait_slot_active("rowcast")
            since = rc.process.log_size()
            hostile.spoilt = 0
            hostile.stage, hostile.spoil = stage, spoil
            pg.sql("select pg_terminate_backend(active_pid) from pg_replication_slots")
            wait_for(lambda: hostile.spoilt, what=f"{name}: a connection")
            rc.wait_log(f"level=warn.*{said}", since=since)
            assert rc.get("/healthz")[0] == 200, name
            hostile.spoil = None
            pg.sql("insert into t values (%s)", n)
            assert s.changes(1, 30)[0]["row"] == {"id": n}, name
    now, peak = rc.process.memory()
    assert peak < 300 << 20, f"{peak >> 20} MiB"
    assert rc.stop(5) == 0


@pytest.mark.sanitize
def test_what_cannot_be_read_ends_it(pg, hostile, make_rowcast):
    rc = make_rowcast(source=source(pg, hostile))
    hostile.stage = "stream"
    for name, (data, said) in POISON.items():
        hostile.spoil, hostile.spoilt = send(data), 0
        since = rc.process.log_size() if rc.process.log.exists() else 0
        rc.start(ready=False)
        assert rc.wait_exit() == DATA, name
        assert rc.log_contains(f"level=error.*the same error 3 times.*({said})", since), \
            f"{name}: {rc.process.log_text(since)}"
        assert hostile.spoilt == 3, name
    hostile.spoil = None
    pg.sql("insert into t values (1)")
    rc.start()
    with rc.stream(start="earliest") as s:
        assert s.changes(1)[0]["row"] == {"id": 1}


def test_answers_that_have_nothing(pg, hostile, make_rowcast):
    """No rows, where there always is one; then an honest server."""
    def empty(sock):
        sock.sendall(message(b"T", b"\0\0") + message(b"C", b"SELECT 0\0") + message(b"Z", b"I"))
        time.sleep(0.2)
    for request in (b"pg_replication_slots", b"wal_level", b"bytea_output", b"IDENTIFY_SYSTEM",
                    b"pg_publication"):
        hostile.stage, hostile.request, hostile.spoil = "query", request, empty
        hostile.spoilt = 0
        rc = make_rowcast(source=source(pg, hostile)).start(ready=False)
        wait_for(lambda: hostile.spoilt, what=f"{request} to be asked")
        wait_for(lambda: not rc.alive() or rc.log_contains("level=warn.*retrying"), what="a word")
        assert rc.alive() and rc.stop(5) == 0 or rc.wait_exit() > 0, request
        hostile.spoil = None
    make_rowcast(source=source(pg, hostile)).start()


@pytest.mark.sanitize
def test_answers_with_numbers_that_cannot_be(pg, hostile, make_rowcast):
    """A slot that streams and stands nowhere, a slot's figures beyond all bounds; then an honest
    server."""
    most = b"9223372036854775807"
    slot = row(b"t", b"pgoutput", b"postgres", b"f", b"f", b"f", b"f", b"0/1", None, b"", b"", b"0",
               b"f")
    figures = row(b"FFFFFFFF/FFFFFFFF", b"0/1", b"0/0", most, most, most, b"f", b"t", b"f", most,
                  most, most, b"", b"", b"", most, b"f", b"", most)
    rc = make_rowcast(source=source(pg, hostile))
    for request, answer, said in (
            (b"select slot_type = 'logical', plugin", slot, "retrying.*does not say from where"),
            (b"wal_status', '') = 'lost'", figures, "the server needs somebody to look after it")):
        def spoil(sock, answer=answer):
            sock.sendall(answer)
            return INSTEAD
        hostile.stage, hostile.request, hostile.spoil = "query", request, spoil
        rc.start(ready=False)
        rc.wait_log(f"level=warn.*{said}")
        hostile.spoil = None
        rc.wait_ready()
        assert rc.stop(5) == 0


def test_notices_do_not_hold_up_the_stream(pg, hostile, make_rowcast):
    """A flood of them, and changes in between; it ends at once when it is told to."""
    def spoil(sock):
        sock.sendall(NOTICES * 200)
        return True
    hostile.stage, hostile.spoil = "stream", spoil
    rc = make_rowcast(source=source(pg, hostile)).start()
    pg.sql("insert into t values (1)")
    with rc.stream(start="earliest") as s:
        assert s.changes(1)[0]["row"] == {"id": 1}
    hostile.spoil = flood(NOTICES)
    pg.sql("select pg_terminate_backend(active_pid) from pg_replication_slots")
    wait_for(lambda: hostile.spoilt == 2, what="the flood")
    assert rc.stop(5) == 0
