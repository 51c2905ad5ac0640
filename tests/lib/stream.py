"""A WebSocket client of rowcast, synchronous, in the JSON or the protobuf form."""

import asyncio
import concurrent.futures
import json
import threading
import time
import urllib.parse

import websockets
import websockets.client

from .postgres import lsn_number

# Connections live in one background loop, which answers pings while the test does something else.
_loop = asyncio.new_event_loop()
threading.Thread(target=_loop.run_forever, daemon=True).start()


def _run(coroutine, deadline):
    future = asyncio.run_coroutine_threadsafe(coroutine, _loop)
    try:
        return future.result(deadline)
    except concurrent.futures.TimeoutError:
        future.cancel()
        raise TimeoutError from None


async def _connect(url, **options):
    return await websockets.client.connect(url, **options)


class Closed(Exception):
    """The server closed the connection; code and reason as it gave them."""

    def __init__(self, code, reason):
        super().__init__(f"closed by the server: {code} {reason}")
        self.code = code
        self.reason = reason


class Stream:
    """A connection to /v1/stream. The constructor connects and reads `hello`; with tables, ops or
    start it is a subscription by URL, and `subscribed` is read too.

        with Stream(port, tables=["public.t"], start="earliest") as s:
            changes = s.changes(3)
        with Stream(port, tables=["public.t"], start=s.cursor) as s: ...     # goes on after those

    A client that does not read is a slow client: after a few frames nothing more is taken from the
    socket. subprotocol None offers none. headers: e.g. {"Origin": ..}."""

    def __init__(self, port, tables=(), ops=(), start=None, subprotocol="rowcast.v1.json",
                 headers=None, deadline=15, host="127.0.0.1"):
        query = [("table", t) for t in tables] + [("op", o) for o in ops]
        if start:
            query.append(("from", start))
        self.url = f"ws://{host}:{port}/v1/stream"
        if query:
            self.url += "?" + urllib.parse.urlencode(query)
        self.deadline = deadline
        self.cursor = start if start not in (None, "now", "earliest") else None
        self.subscribed = None
        self._entries = []  # of the frame in work
        self._socket = _run(_connect(
            self.url, subprotocols=[subprotocol] if subprotocol else None, extra_headers=headers,
            max_size=None, compression=None, ping_interval=None, open_timeout=deadline), deadline)
        if subprotocol != "rowcast.v1.proto":
            self.hello = self.expect("hello")
            if query:
                self.subscribed = self.expect("subscribed")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def send(self, message):
        """Sends a dictionary as JSON, a string or bytes as they are."""
        data = json.dumps(message) if isinstance(message, dict) else message
        _run(self._socket.send(data), self.deadline)

    def subscribe(self, tables, id="", start="now", **more):
        """Subscribes by message; returns `subscribed` (or fails with what came instead)."""
        self.send({"subscribe": {"id": id, "tables": list(tables), "from": start, **more}})
        self.subscribed = self.expect("subscribed")
        return self.subscribed

    def recv_raw(self, deadline=None):
        """The next frame as it is: str or bytes. Raises Closed, or TimeoutError."""
        try:
            return _run(self._socket.recv(), deadline or self.deadline)
        except websockets.ConnectionClosed as e:
            raise Closed(e.rcvd.code if e.rcvd else 1006,
                         e.rcvd.reason if e.rcvd else "") from None

    def recv(self, deadline=None):
        """The next frame, parsed."""
        return json.loads(self.recv_raw(deadline))

    def expect(self, kind, deadline=None):
        """The next frame, which must be of this type; `health` and `hello` are skipped."""
        while True:
            frame = self.recv(deadline)
            if frame["type"] == "hello":  # again when the timeline or the generation changes
                self.hello = frame
            if frame["type"] == kind:
                return frame
            assert frame["type"] in ("health", "hello"), f"expected {kind}, got {frame}"

    def entry(self, deadline=None):
        """The next entry of a batch: a change (it has "op"), relation, end, progress, gap or
        restart. Moves `cursor`. Health is skipped; any other frame fails the test."""
        while not self._entries:
            self._entries = list(reversed(self.expect("batch", deadline)["entries"]))
        entry = self._entries.pop()
        self.cursor = entry.get("cursor", self.cursor)
        return entry

    def entries_until(self, condition, deadline=None, what="an entry"):
        """Reads entries up to the first that meets the condition; returns all, it included."""
        end = time.monotonic() + (deadline or self.deadline)
        found = []
        while not found or not condition(found[-1]):
            try:
                found.append(self.entry(max(0.01, end - time.monotonic())))
            except TimeoutError:
                raise AssertionError(f"no {what} within {deadline or self.deadline} s; "
                                     f"{len(found)} entries came, the last: {found[-3:]}") from None
        return found

    def changes(self, count, deadline=None):
        """The next `count` changes."""
        found = []
        while len(found) < count:
            found += [e for e in self.entries_until(lambda e: "op" in e, deadline, "change")
                      if "op" in e]
        return found

    def until_lsn(self, lsn, deadline=None):
        """Reads entries until everything up to `lsn` (a number) has come; returns them."""
        self.send({"ask": {}})
        return self.entries_until(
            lambda e: e.get("type") in ("end", "progress") and lsn_number(e["lsn"]) >= lsn,
            deadline, f"progress to {lsn}")

    def wait_closed(self, deadline=None):
        """Reads on until the server closes; returns (close code, frames that came before)."""
        frames = []
        while True:
            try:
                frames.append(self.recv(deadline))
            except Closed as closed:
                return closed.code, frames

    def close(self):
        """Closes cleanly."""
        _run(self._socket.close(), self.deadline)

    def abort(self):
        """Drops the TCP connection as a lost client would."""
        _loop.call_soon_threadsafe(self._socket.transport.abort)
