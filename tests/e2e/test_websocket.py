"""What the WebSocket server does with clients that are wrong, slow, false or not welcome."""

import base64
import itertools
import os
import socket
import struct
import time

import pytest

from lib.postgres import Postgres
from lib.process import Process
from lib.rowcast import Rowcast
from lib.stream import Stream
from lib.wait import wait_for

FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"


class RawClient:
    """A WebSocket client made of bytes, which may break every rule. It reads only when it is told
    to; `buffer` is what its kernel takes meanwhile."""

    def __init__(self, port, query="", buffer=None, headers=(), subprotocol="rowcast.v1.json"):
        self.socket = socket.socket()
        self.socket.settimeout(15)
        if buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.socket.connect(("127.0.0.1", port))
        self.rest = b""
        key = base64.b64encode(os.urandom(16)).decode()
        self.send("\r\n".join([
            f"GET /v1/stream{query} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Upgrade: websocket",
            "Connection: Upgrade", f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Protocol: {subprotocol}", *headers, "", ""]).encode())

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

    def close_code(self):
        """Reads to the end; the code of the close frame, None where there was none."""
        code = None
        try:
            while True:
                opcode, payload = self.read_frame()
                if opcode == 8:
                    code = int.from_bytes(payload[:2], "big")
        except (EOFError, ConnectionResetError):
            return code

    def gone(self):
        """Whether the server has given the connection up; reads nothing that it sent."""
        try:
            self.frame(10, b"r")  # a pong that nobody asked for
        except OSError:
            return True
        return False


@pytest.fixture(scope="module")
def server():
    """A running rowcast with one table and some changes in its journal, for all tests that leave
    it as it was."""
    pg = Postgres().start()
    pg.sql("create table t (id int primary key, v text); create publication rowcast for table t")
    rc = Rowcast(source=pg.url()).start()
    rc.pg = pg
    with rc.stream(start="now") as s:
        pg.sql("insert into t select generate_series(1, 10)")
        s.changes(10)
    yield rc
    rc.kill9()
    pg.destroy()


# ---- the door ----

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
        assert dead.close_code() is None  # cut: there is nobody to tell
        assert not idle.gone()
