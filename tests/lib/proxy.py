"""A box in between: a TCP proxy that can behave as bad networks and gateways do."""

import selectors
import socket
import struct
import threading
import time


class Proxy:
    """Passes connections to 127.0.0.1:port on. Its own port is `port`.

        with Proxy(pg.port) as proxy: ... source=f"host=127.0.0.1 port={proxy.port} .."

    swallow(): what comes is taken, and goes nowhere, in both directions; also of new connections.
    freeze(): nothing is taken any more. cut(): all connections are reset. pass_on(): as at first
    (what was swallowed is gone). silent_max: a connection on which nothing passed for so many
    seconds is swallowed from then on, as gateways do that forget a silent connection."""

    def __init__(self, port, silent_max=None):
        self.target = port
        self.silent_max = silent_max
        self.forgotten = 0  # connections that were silent for too long
        self.mode = "pass"
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._wake, self._woken = socket.socketpair()
        self._pairs = []  # [{socket: its other end}, when something passed last]
        self._lost = []
        self._lock = threading.Lock()
        self._ended = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._ended = True
        self._wake.send(b"x")
        self._thread.join()
        self.cut()
        self._listener.close()

    def swallow(self):
        self.mode = "swallow"

    def freeze(self):
        self.mode = "freeze"

    def pass_on(self):
        self.mode = "pass"

    def cut(self):
        """Resets every connection."""
        with self._lock:
            for pair in self._pairs + self._lost:
                _reset(pair)
            self._pairs.clear()
            self._lost.clear()

    def conninfo(self, pg, db="postgres"):
        return f"host=127.0.0.1 port={self.port} user=postgres dbname={db}"

    def _run(self):
        while not self._ended:
            with self._lock, selectors.DefaultSelector() as selector:
                selector.register(self._listener, selectors.EVENT_READ)
                selector.register(self._woken, selectors.EVENT_READ)
                for pair in self._pairs if self.mode != "freeze" else ():
                    for end in pair.ends:
                        selector.register(end, selectors.EVENT_READ, pair)
                ready = selector.select(0.02)
                for key, _ in ready:
                    if key.fileobj is self._listener:
                        self._accept()
                    elif key.data and key.data in self._pairs:
                        self._pump(key.data, key.fileobj)

    def _accept(self):
        client, _ = self._listener.accept()
        try:
            server = socket.create_connection(("127.0.0.1", self.target), timeout=5)
        except OSError:
            client.close()
            return
        self._pairs.append(_Pair(client, server))

    def _pump(self, pair, end):
        try:
            data = end.recv(1 << 16)
            if data and self.mode == "pass" and self._remembers(pair):
                pair.ends[end].sendall(data)
                return
        except OSError:
            data = b""
        if not data:
            self._pairs.remove(pair)
            if self.mode == "pass" and not pair.forgotten:
                _reset(pair)
            else:
                self._lost.append(pair)  # its end is not passed on either

    def _remembers(self, pair):
        now = time.monotonic()
        if self.silent_max and now - pair.passed > self.silent_max and not pair.forgotten:
            pair.forgotten = True
            self.forgotten += 1
        pair.passed = now
        return not pair.forgotten


class _Pair:
    def __init__(self, client, server):
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.ends = {client: server, server: client}
        self.passed = time.monotonic()
        self.forgotten = False


def _reset(pair):
    for end in pair.ends:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        end.close()
