"""What the WebSocket server does with clients that are wrong, slow, false or not welcome."""

import base64
import itertools
import json
import os
import socket
import struct
import time

import pytest

from lib.postgres import Postgres
from lib.process import Process
from lib.wait import wait_for

FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"


class RawClient:
    """A WebSocket client made of bytes, which may break every rule. It reads only when it is told
    to; `buffer` is what its kernel takes meanwhile."""

    def __init__(self, port, query="", buffer=None, headers=(), subprotocol="rowcast.v1.json",
                 host=None):
        self.socket = socket.socket()
        self.socket.settimeout(15)
        if buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.socket.connect(("127.0.0.1", port))
        self.rest = b""
        key = base64.b64encode(os.urandom(16)).decode()
        self.send("\r\n".join([
            f"GET /v1/stream{query} HTTP/1.1", f"Host: {host or f'127.0.0.1:{port}'}",
            "Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {key}",
            "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Protocol: {subprotocol}", *headers,
            "", ""]).encode())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def frame(self, opcode, payload, fin=True, masked=True, reserved=0, length=None):
        """Sends a frame; `length` is what its header says, if that is a lie."""
        n = len(payload) if length is None else length
        head = bytes([(0x80 if fin else 0) | reserved | opcode])
        mask_bit = 0x80 if masked else 0
        if n < 126:
            head += bytes([mask_bit | n])
        elif n < 65536:
            head += struct.pack(">BH", mask_bit | 126, n)
        else:
            head += struct.pack(">BQ", mask_bit | 127, n)
        if masked:
            head += b"\1\2\3\4"
            payload = bytes(c ^ (i % 4 + 1) for i, c in enumerate(payload))
        self.send(head + payload)

    def read(self, n):
        while len(self.rest) < n:
            data = self.socket.recv(65536)
            if not data:
                raise EOFError(f"the server closed; left: {self.rest[:500]}")
            self.rest += data
        out, self.rest = self.rest[:n], self.rest[n:]
        return out

    def read_head(self):
        """The HTTP answer's first line."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.read(1)
        return head.split(b"\r\n")[0].decode()

    def read_frame(self):
        """(opcode, payload)"""
        first, n = self.read(2)
        if n > 125:
            n = int.from_bytes(self.read(2 if n == 126 else 8), "big")
        return first & 15, self.read(n)

    def read_message(self):
        """The next text frame, parsed."""
        while True:
            opcode, payload = self.read_frame()
            if opcode == 1:
                return json.loads(payload)

    def until_closed(self):
        """(code of the close frame, None where there is none; messages that came before)"""
        said = []
        try:
            while True:
                opcode, payload = self.read_frame()
                if opcode == 8:
                    return int.from_bytes(payload[:2], "big"), said
                if opcode == 1:
                    said.append(json.loads(payload))
        except (EOFError, ConnectionResetError):
            return None, said

    def gone(self):
        """Whether the server has given the connection up; reads nothing that it sent."""
        try:
            self.frame(10, b"r")  # a pong that nobody asked for
        except OSError:
            return True
        return False


@pytest.fixture
def server(make_postgres, make_rowcast):
    """A running rowcast with one table and ten changes in its journal."""
    pg = make_postgres()
    pg.sql("create table t (id int primary key, v text); create publication rowcast for table t")
    rc = make_rowcast(source=pg.url()).start()
    rc.pg = pg
    with rc.stream(start="now") as s:
        pg.sql("insert into t select generate_series(1, 10)")
        s.changes(10)
    return rc


# ---- the door ----

def first_line(port, **options):
    with RawClient(port, **options) as client:
        return client.read_head()


def test_who_may_come_in(make_postgres, make_rowcast):
    pg = make_postgres()
    pg.sql("create table t (id int primary key); create publication rowcast for table t")
    rc = make_rowcast("--allow-origin", "https://app.example", "--allow-host", "db.example",
                      "--connections-max", "3", source=pg.url()).start()
    in_, out = "HTTP/1.1 101 Switching Protocols", "HTTP/1.1 403 Forbidden"
    for origin, answer in ((f"http://127.0.0.1:{rc.port}", in_), ("https://app.example", in_),
                           ("http://app.example", out), ("https://app.example.evil.example", out),
                           (f"http://127.0.0.1:{rc.port + 1}", out), ("null", out)):
        got = first_line(rc.port, headers=[f"Origin: {origin}"])
        assert got == answer, f"Origin {origin}: {got}"
    for host, answer in ((f"localhost:{rc.port}", in_), ("db.example", in_), ("evil.example", out),
                         ("db.example.evil.example", out), ("db.example, evil.example", out)):
        assert first_line(rc.port, host=host) == answer, host
        status = rc.get("/v1/status", {"Host": host})[0]
        assert status == (200 if answer == in_ else 403), f"{host}: {status}"
    counted = rc.metrics()
    assert counted.get("rowcast_websocket_refused_total", reason="origin") == 4
    assert counted.get("rowcast_websocket_refused_total", reason="host") == 6

    # One more than may be: a proper answer, and health can still be read.
    rc.wait_metric(lambda m: m.get("rowcast_websocket_connections") == 0, what="all to be gone")
    guests = [rc.stream(start="now") for _ in range(3)]
    assert first_line(rc.port) == "HTTP/1.1 503 Service Unavailable"
    assert rc.get("/readyz")[0] == 200
    assert rc.metrics().get("rowcast_websocket_refused_total", reason="connections") == 1
    guests.pop().close()
    rc.wait_metric(lambda m: m.get("rowcast_websocket_connections") == 2, what="one to be gone")
    with rc.stream(start="now") as s:
        pg.sql("insert into t values (1)")
        for guest in (s, *guests):
            assert guest.changes(1)[0]["row"] == {"id": 1}


def test_cookies_of_other_ports_do_no_harm(server):
    """Browsers send those of all that ever ran on localhost."""
    def refused():
        return server.metrics().get("rowcast_websocket_refused_total", reason="headers") or 0
    assert server.get("/healthz", {"Cookie": "a=" + "x" * 30000}) == (200, "ok\n")
    with server.stream(start="earliest", headers={"Cookie": "a=" + "x" * 30000}) as s:
        s.changes(10)
    before = refused()
    with pytest.raises(OSError):
        server.get("/healthz", {"Cookie": "a=" + "x" * 33000})
    wait_for(lambda: refused() == before + 1, what="the request to be counted")


def test_tail_waits_for_a_rowcast_that_waits_for_its_server(make_rowcast):
    pg = Postgres().start()
    pg.sql("create table t (id int primary key); create publication rowcast for table t")
    pg.stop()
    rc = make_rowcast(source=pg.url()).start(ready=False)
    wait_for(lambda: rc.get("/healthz")[0] == 200, what="rowcast to run", ignore=(OSError,))
    tail = Process("tail", [rc.binary, "tail", f"ws://127.0.0.1:{rc.port}", "--json"],
                   rc.dir / "tail.log", stdout=rc.dir / "tail.out").start()
    try:
        tail.wait_log("not let in: .*PostgreSQL server yet: .*refused.*trying again")
        pg.start()
        rc.wait_ready(40)
        rc.wait_metric(lambda m: m.get("rowcast_websocket_subscribers") == 1, what="tail's turn")
        pg.sql("insert into t values (1)")
        wait_for(lambda: '"op":"insert"' in (rc.dir / "tail.out").read_text(), what="the change")
    finally:
        tail.kill9()
        pg.destroy()


# ---- faults ----

TEXT, BINARY, MORE, CLOSE, PING = 1, 2, 0, 8, 9

# What is sent, the close code (None: cut), the code in the error that comes before (None: none).
WRONG = {
    "not JSON": ([(TEXT, b"garbage", {})], 1007, "malformed"),
    "nothing": ([(TEXT, b"", {})], 1007, "malformed"),
    "no UTF-8": ([(TEXT, b'{"subscribe":{"id":"\xff\xfe"}}', {})], 1007, "malformed"),
    "a NUL": ([(TEXT, b'{"subscribe":{"id":"a\\u0000b"}}', {})], 1007, "malformed"),
    "a key twice": ([(TEXT, b'{"ask":{},"ask":{}}', {})], 1007, "malformed"),
    "too deep": ([(TEXT, b"[" * 60000, {})], 1007, "malformed"),
    "binary": ([(BINARY, b'{"ask":{}}', {})], 1003, "malformed"),
    "too large": ([(TEXT, b"x" * 65537, {})], 1009, "too_large"),
    "too large in pieces": ([(TEXT, b"x" * 30000, {"fin": False}),
                             (MORE, b"x" * 30000, {"fin": False}),
                             (MORE, b"x" * 30000, {"fin": False})], 1009, "too_large"),
    "a reserved bit": ([(TEXT, b'{"ask":{}}', {"reserved": 0x40})], 1002, None),
    "an unknown opcode": ([(3, b"x", {})], 1002, None),
    "a message inside another": ([(TEXT, b'{"ask', {"fin": False}), (TEXT, b'{"ask":{}}', {})],
                                 1002, None),
    "the rest of nothing": ([(MORE, b"x", {})], 1002, None),
    "a negative length": ([(TEXT, b"x" * 1000, {"length": 1 << 63 | 5})], None, None),
    "a large ping": ([(PING, b"x" * 200, {})], None, None),
}


@pytest.mark.sanitize
def test_wrong_frames_end_their_own_connection_and_no_other(server):
    with server.stream(start="now") as bystander:
        for what, (frames, code, error) in WRONG.items():
            with RawClient(server.port) as client:
                client.read_head()
                for opcode, payload, options in frames:
                    client.frame(opcode, payload, **options)
                got, said = client.until_closed()
            errors = [m["code"] for m in said if m["type"] == "error"]
            assert (got, errors) == (code, [error] if error else []), f"{what}: {got} {said}"
        with RawClient(server.port, subprotocol="rowcast.v1.proto") as client:
            client.read_head()
            client.frame(BINARY, os.urandom(50))
            got, _ = client.until_closed()
            assert got == 1007
        server.pg.sql("insert into t values (11)")
        assert bystander.changes(1)[0]["row"]["id"] == 11


@pytest.mark.sanitize
def test_right_frames_in_any_pieces(server):
    with RawClient(server.port) as client:
        client.read_head()
        assert client.read_message()["type"] == "hello"
        client.frame(TEXT, b'{"subscribe":', fin=False)
        client.frame(PING, b"in between")
        client.frame(MORE, b"{}}")
        assert client.read_frame() == (10, b"in between")
        assert client.read_message()["type"] == "subscribed"
        client.frame(CLOSE, struct.pack(">H", 1000) + b"bye")
        assert client.until_closed()[0] == 1000


@pytest.mark.sanitize
def test_what_one_connection_may_have(server):
    with server.stream() as s:
        for n in range(16):
            s.subscribe(["t"], id=str(n))
        s.send({"subscribe": {"id": "16"}})
        answer = s.recv()
        assert (answer["id"], answer["code"]) == ("16", "too_many_subscriptions")
        s.send({"unsubscribe": {"id": "3"}})
        assert s.expect("unsubscribed")["id"] == "3"
        s.subscribe(["t"], id="16")
    with RawClient(server.port, buffer=4096) as client:  # asks on and on, and reads nothing
        client.read_head()
        ask = b'{"unsubscribe":{"id":"' + b"a" * 64 + b'"}}'
        with pytest.raises(OSError):
            for _ in range(1_000_000):
                client.frame(TEXT, ask)


@pytest.mark.sanitize
def test_a_fault_says_which_subscription_it_is_about(server):
    with server.stream() as s:
        s.send({"subscribe": {"from": "zzz", "id": "a"}})
        answer = s.recv()
        assert (answer["type"], answer["id"], answer["code"]) == ("reset", "a", "unknown_cursor")
        s.send({"subscribe": {"id": "b", "tabels": ["t"]}})
        answer = s.recv()
        assert (answer["type"], answer["id"], answer["code"]) == ("error", "b", "bad_request")
        s.subscribe(["t"], id="c")
        for request in ("subscribe", "unsubscribe"):
            id = "c" if request == "subscribe" else "d"
            s.send({request: {"id": id}})
            answer = s.recv()
            assert (answer["id"], answer["code"]) == (id, "bad_request"), answer
        s.send("{")
        code, (answer,) = s.wait_closed()
        assert (code, answer["code"]) == (1007, "malformed") and "id" not in answer


# ---- cursors ----

@pytest.mark.sanitize
def test_a_cursor_that_cannot_be_continued(server):
    stream = server.status()["stream"]
    other = f"{int(stream, 16) ^ 1:016x}"
    with server.stream() as s:
        for cursor, code in ((f"{other}.1.1000.0", "other_stream"),
                             (f"{stream}.7.1000.0", "other_timeline"),
                             (f"{stream}.1.1000.0", "cursor_expired"),
                             ("yesterday", "unknown_cursor")):
            s.send({"subscribe": {"id": "a", "from": cursor}})
            reset = s.expect("reset")
            assert (reset["id"], reset["code"]) == ("a", code)
        s.subscribe(["t"], id="a", start=reset["earliest"])
        assert len(s.changes(10)) == 10
    with RawClient(server.port, f"?from={other}.1.1000.0") as client:  # by URL
        client.read_head()
        assert [client.read_message()["type"] for _ in range(2)] == ["hello", "reset"]


def test_a_cursor_ahead_of_the_stream_waits_for_it(server):
    """Its holder had what a power cut took from the journal."""
    ahead = server.pg.lsn() + (1 << 20)
    with server.stream(start=f"{server.status()['stream']}.1.{ahead:x}.0") as s:
        assert s.subscribed["recovered"] is True
        server.pg.sql("insert into t values (21)")
        server.pg.sql("select pg_switch_wal()")
        server.pg.sql("insert into t values (22)")
        assert [c["row"]["id"] for c in s.changes(1)] == [22]


def test_a_client_slower_than_the_journal_keeps_is_told(make_postgres, make_rowcast):
    """A flood for one client that takes nothing and one that takes all: the journal forgets, memory
    stays flat, the slow one is told what happened and goes on, the quick one has everything."""
    pg = make_postgres()
    pg.sql("create table t (id int primary key, v text); create publication rowcast for table t")
    rc = make_rowcast("--journal-size", "1MiB", "--segment-size", "64KiB", "--memory", "1MiB",
                      source=pg.url()).start()
    with RawClient(rc.port, "?from=now", buffer=4096) as slow, rc.stream(start="now") as quick:
        slow.read_head()
        before, _ = rc.process.memory()
        for n in range(20):
            pg.sql("insert into t select n, (select string_agg(md5((n * 100 + i)::text), '')"
                   "  from generate_series(1, 32) i)"
                   f" from generate_series({n * 1000 + 1}, {n * 1000 + 1000}) n")
            assert [c["row"]["id"] for c in quick.changes(1000)] == \
                list(range(n * 1000 + 1, n * 1000 + 1001))
        _, peak = rc.process.memory()
        assert peak - before < 24 << 20, f"{peak - before} bytes for 20 MiB of changes"
        slow.frame(TEXT, b'{"ask":{}}')
        while (reset := slow.read_message())["type"] != "reset":
            pass
        assert reset["code"] == "cursor_expired"
        slow.frame(TEXT, b'{"subscribe":{"from":"now"}}')
        assert slow.read_message()["type"] == "subscribed"
        pg.sql("insert into t values (0)")
        assert b'"op":"insert"' in slow.read_frame()[1]


# ---- time ----

def test_clocks_that_jump(make_postgres, make_rowcast):
    """The wall clock, back and forth by an hour: changes come, nobody is cut, no age is absurd."""
    pg = make_postgres()
    pg.sql("create table t (id int primary key); create publication rowcast for table t")
    rc = make_rowcast(source=pg.url())
    clock = rc.dir / "clock"
    clock.write_text("+0")
    rc.process.env = {"LD_PRELOAD": FAKETIME, "FAKETIME_TIMESTAMP_FILE": str(clock),
                      "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    rc.start()
    with rc.stream(start="now") as s:
        for n, offset in enumerate(("+0", "-3600", "+3600", "+0", "-86400")):
            clock.write_text(offset)
            pg.sql("insert into t values (%s)", n)
            assert s.changes(1)[0]["row"] == {"id": n}
            figures = rc.metrics()
            assert figures.get("rowcast_sink_lag_seconds", sink="websocket") >= 0
            assert figures.get("rowcast_commit_to_sink_seconds_sum", sink="websocket") >= 0
        s.until_lsn(pg.lsn() - 1)
    assert rc.status()["state"] == "live" and rc.stop() == 0


# ---- lag ----

def test_a_client_that_has_everything_has_no_lag(make_postgres, make_rowcast):
    """Whatever the time since the commit before: here an hour, for rowcast's clock is that fast."""
    pg = make_postgres()
    pg.sql("create table t (id int primary key, v text); create publication rowcast for table t")
    rc = make_rowcast(source=pg.url())
    rc.process.env = {"LD_PRELOAD": FAKETIME, "FAKETIME": "+3600",
                      "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    rc.start()
    lags = []
    end = time.monotonic() + 2.2  # positions are told once a second
    with rc.stream(start="now") as s:
        for n in itertools.takewhile(lambda _: time.monotonic() < end, itertools.count()):
            pg.sql("insert into t values (%s)", n)
            s.changes(1)
            lags.append(rc.metrics().get("rowcast_sink_lag_seconds", sink="websocket"))
    assert max(lags) < 5, lags
    with RawClient(rc.port, "?from=now", buffer=4096) as paused:
        paused.read_head()
        pg.sql("insert into t select n, repeat('x', 1000) from generate_series(100000, 120000) n")
        rc.wait_metric(lambda m: m.get("rowcast_sink_lag_seconds", sink="websocket") > 3000
                       and m.get("rowcast_sink_lag_bytes", sink="websocket") > 1e6,
                       what="the lag of a client that takes nothing")


# ---- life ----

@pytest.fixture
def fast_server(make_postgres, make_rowcast):
    """A rowcast whose clock runs thirty times as fast: a minute of silence takes two seconds."""
    pg = make_postgres()
    pg.sql("create table t (id int primary key, v text); create publication rowcast for table t")
    rc = make_rowcast(source=pg.url())
    rc.process.env = {"LD_PRELOAD": FAKETIME, "FAKETIME": "+0 x30"}
    rc.start()
    rc.pg = pg
    return rc


def test_a_client_that_talks_and_never_reads_is_given_up(fast_server):
    rc = fast_server
    with RawClient(rc.port, "?from=now", buffer=4096) as liar, \
            RawClient(rc.port, "?from=now", buffer=4096) as slow:
        for client in (liar, slow):
            client.read_head()
            client.read_frame()  # hello
        rc.pg.sql("insert into t select n, repeat('x', 500) from generate_series(1, 20000) n")

        def cut():
            slow.socket.recv(1000)  # takes little, but something
            return liar.gone()
        wait_for(cut, 20, "the end of a client that sends pongs and takes nothing")
        assert not slow.gone(), "a slow client that reads was given up"


def test_only_a_client_that_answers_no_ping_is_given_up(fast_server):
    with RawClient(fast_server.port, "?from=now") as dead, \
            RawClient(fast_server.port, "?from=now") as idle:
        idle.read_head()
        pings = 0
        while pings < 4:  # one in 20 seconds
            opcode, payload = idle.read_frame()
            if opcode == 9:
                idle.frame(10, payload)
                pings += 1
        dead.read_head()
        assert dead.until_closed()[0] is None  # cut: there is nobody to tell
        assert not idle.gone()
